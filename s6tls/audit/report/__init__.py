"""One page of HTML about a rule set."""

from s6tls.audit.report.report import Earlier, Report, report

__all__ = ["report", "Report", "Earlier"]
