"""TLS contexts: what sessions of one set of parameters share."""

from s6tls.tls.context.build import build as build
from s6tls.tls.context.build import renew as renew
from s6tls.tls.context.errors import BadConfiguration as BadConfiguration
from s6tls.tls.context.errors import Mismatch as Mismatch
