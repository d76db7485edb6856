"""What all audits stand on: a rule set in memory, its networks, and who decides where."""

from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family, Network, parse_cidr
from s6tls.audit.core.wording import Decided

__all__ = ["LoadedRules", "Family", "Network", "parse_cidr", "Decided"]
