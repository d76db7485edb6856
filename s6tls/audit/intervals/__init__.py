"""A rule set as a table of disjoint intervals of addresses, for programs that work on tables."""

from s6tls.audit.intervals.lookup import Lookup
from s6tls.audit.intervals.table import FORMATS, interval_table, written

__all__ = ["interval_table", "written", "FORMATS", "Lookup"]
