"""Logs of any size, read by DuckDB: Parquet, CSV, JSON and lines, many files by one pattern."""

from s6tls.audit.sql.log import FORMATS, SqlLog

__all__ = ["SqlLog", "FORMATS"]
