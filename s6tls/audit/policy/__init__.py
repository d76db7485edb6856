"""What must and must not be allowed, as a test of a rule set."""

from s6tls.audit.policy.expect import Violation, violations
from s6tls.audit.policy.expectations import BadExpectations, Expectation, parse

__all__ = ["parse", "violations", "Expectation", "Violation", "BadExpectations"]
