"""The fewest rules that decide alike."""

from s6tls.audit.minimise.lossy import Budget
from s6tls.audit.minimise.minimise import Minimised, Unproven, minimise, proof

__all__ = ["minimise", "proof", "Minimised", "Budget", "Unproven"]
