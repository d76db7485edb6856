"""What is wrong with a rule set, or probably is."""

from s6tls.audit.lint.findings import Finding, Severity
from s6tls.audit.lint.run import lint

__all__ = ["lint", "Finding", "Severity"]
