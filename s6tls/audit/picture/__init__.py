"""The address space as a picture."""

from s6tls.audit.picture.render import png, svg
from s6tls.audit.picture.scenes import COARSE, FINE, Scene, scene

__all__ = ["scene", "svg", "png", "Scene", "COARSE", "FINE"]
