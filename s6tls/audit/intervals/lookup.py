"""What is decided about the addresses of a column, by the table of intervals alone."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from s6tls.audit.logs.clients import FIRST, chosen, packed_or_none
from s6tls.audit.logs.tally import TEXTS

if TYPE_CHECKING:
    import pyarrow as pa


class Lookup:
    """Finds the interval of each address; it can be pickled, and so sent to where the addresses are."""

    def __init__(self, table: pa.Table, forwarded: int = FIRST) -> None:
        """`table` is what `interval_table` returns; `forwarded` is the index of the client in a list of addresses."""
        self._forwarded = forwarded
        self._verdicts = table["verdict"].combine_chunks()
        self._rules = table["rule"].combine_chunks()
        firsts = table["first"].to_pylist()
        ip6 = table["family"].to_pylist().index("ip6")
        # Addresses of one family have one length, so their bytes are in the order of their numbers.
        self._firsts = {4: firsts[:ip6], 16: firsts[ip6:]}
        self._before = {4: -1, 16: ip6 - 1}
        self._known: dict[str, int | None] = {}

    def decide(self, texts: pa.Array) -> tuple[pa.Array, pa.Array]:
        """Return the verdict and the rule for each text: null where it is no address, or no rule decides.

        A port, or a list of addresses, is read as in logs.
        """
        import pyarrow as pa
        from pyarrow import compute

        coded = texts.dictionary_encode()
        known = self._known
        rows = [known[text] if text in known else self._row(text) for text in coded.dictionary.to_pylist()]
        places = compute.take(pa.array(rows, pa.int64()), coded.indices)
        return compute.take(self._verdicts, places), compute.take(self._rules, places)

    def _row(self, text: str) -> int | None:
        if len(self._known) >= TEXTS:
            self._known.clear()
        packed = packed_or_none(chosen(text.encode("utf-8", "replace"), self._forwarded))
        length = 0 if packed is None else len(packed)
        row = None if packed is None else self._before[length] + bisect_right(self._firsts[length], packed)
        self._known[text] = row
        return row
