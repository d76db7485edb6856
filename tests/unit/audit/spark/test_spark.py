"""What Spark's workers do; that they do it, tools/bench_replay --spark shows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.intervals import Lookup, interval_table
from s6tls.audit.spark import _classified


def test_batches_get_two_columns() -> None:
    lookup: Any = SimpleNamespace(value=Lookup(interval_table(LoadedRules.of([(b"ip4/10.0.0.0_8", Rule(False))]))))
    batch = pa.RecordBatch.from_pydict({"n": [1, 2, 3], "client": ["10.0.0.1", "192.0.2.1", None]})
    (decided,) = _classified(lookup, "client", [batch])
    assert decided.to_pydict() == {
        "n": [1, 2, 3],
        "client": ["10.0.0.1", "192.0.2.1", None],
        "verdict": ["deny", "notfound", None],
        "rule": ["ip4/10.0.0.0_8", None, None],
    }
