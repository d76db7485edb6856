"""A rule set as a table of intervals (see `s6tls.audit.intervals`), in the formats that such tables are kept in."""

from __future__ import annotations

from functools import partial

from s6tls.audit.intervals import written

write_csv, write_arrow, write_parquet = (partial(written, format=name) for name in ("csv", "arrow", "parquet"))
