"""Logs that outgrow a machine: what a rule set decides about a column of addresses, on a Spark cluster.

The table of intervals goes to each executor once.  There, s6tls must be installed, with pyarrow.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from s6tls.audit.intervals import Lookup, interval_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa
    from pyspark.core.broadcast import Broadcast
    from pyspark.sql import DataFrame

    from s6tls.audit.core.loaded import LoadedRules

__all__ = ["classify"]


def classify(frame: DataFrame, column: str, rules: LoadedRules) -> DataFrame:
    """Return a frame with two more columns, ``verdict`` and ``rule``: what rules decide about a column of addresses.

    They are null where the text is no address; ``rule`` is null, too, where no rule decides (``notfound``).
    """
    from pyspark.sql.types import StringType, StructField, StructType

    lookup = frame.sparkSession.sparkContext.broadcast(Lookup(interval_table(rules)))
    added = [StructField("verdict", StringType()), StructField("rule", StringType())]
    schema = StructType([*frame.schema.fields, *added])
    return frame.mapInArrow(partial(_classified, lookup, column), schema)


def _classified(lookup: Broadcast[Lookup], column: str, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    for batch in batches:
        added = lookup.value.decide(batch.column(column))
        yield pa.RecordBatch.from_arrays([*batch.columns, *added], names=[*batch.schema.names, "verdict", "rule"])
