"""The table: all addresses of both families in order, cut where the deciding rule changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from s6tls.audit.core import wording
from s6tls.audit.core.networks import Family
from s6tls.audit.core.progress import Progress, counted, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from s6tls.audit.core.loaded import LoadedRules

FORMATS = ("arrow", "parquet", "csv")
"""The forms in which tables are written: Arrow's IPC file, Parquet, and CSV with a heading."""


class Row(NamedTuple):
    """An interval: its family, its first and last address, what is decided about them, and by which rule."""

    family: Family
    first: int
    last: int
    verdict: str
    rule: str | None


def interval_table(loaded: LoadedRules, progress: Progress = silent) -> pa.Table:
    """Return the intervals of a rule set, those of IPv4 first.

    ``family`` is ``ip4`` or ``ip6``; ``first`` and ``last`` are addresses as 4 or 16 bytes, most significant first, so
    that they are in the order of their bytes.  ``verdict`` is ``allow``, ``deny`` or ``notfound``; ``rule`` is the key
    of the rule that decides, null where none does.
    """
    import pyarrow as pa

    rows = [
        (row.family.value, _packed(row.family, row.first), _packed(row.family, row.last), row.verdict, row.rule)
        for row in _rows(loaded, progress)
    ]
    types = (pa.string(), pa.binary(), pa.binary(), pa.string(), pa.string())
    columns = [pa.array(column, type) for column, type in zip(zip(*rows, strict=True), types, strict=True)]
    return pa.table(columns, names=Row._fields)


def written(loaded: LoadedRules, format: str, progress: Progress = silent) -> bytes:
    """Return the intervals of a rule set in one of `FORMATS`; in CSV, addresses are text."""
    if format == "csv":
        return "".join(_lines(loaded, progress)).encode("ascii")
    import pyarrow as pa

    table = interval_table(loaded, progress)
    out = pa.BufferOutputStream()
    if format == "parquet":
        from pyarrow import parquet

        parquet.write_table(table, out)
    else:
        with pa.ipc.new_file(out, table.schema) as writer:
            writer.write_table(table)
    whole: bytes = out.getvalue().to_pybytes()
    return whole


def _lines(loaded: LoadedRules, progress: Progress) -> Iterator[str]:
    """Yield lines of CSV; no field needs quotes."""
    yield ",".join(Row._fields) + "\n"
    for family, first, last, verdict, rule in _rows(loaded, progress):
        yield f"{family.value},{family.text(first)},{family.text(last)},{verdict},{rule or ''}\n"


def _packed(family: Family, number: int) -> bytes:
    return number.to_bytes(family.octets, "big")


def _rows(loaded: LoadedRules, progress: Progress) -> Iterator[Row]:
    for family in Family:
        partition = loaded.partition(family, progress)
        # NO_RULE finds the last.
        keys = [*(key.decode("ascii") for key in partition.keys), None]
        verdicts = [*map(wording.verdict, partition.rules), wording.verdict(None)]
        for start, end, rule in counted(partition.intervals(), f"{family.value} intervals", progress):
            yield Row(family, start, end - 1, verdicts[rule], keys[rule])
