"""What only a cdb file shows: records that no lookup returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules.cdbfile import records
from s6tls.audit.lint.findings import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

_VERDICTS = (b"A", b"D")


def findings(descriptor: int) -> Iterator[Finding]:
    """Yield a warning for each record of an open cdb behind another with its key, and for each that is no rule.

    Raises OSError or RuleSetError if the file cannot be read as a whole.  Records that are malformed are not told here.
    """
    seen: set[bytes] = set()
    for key, value in records(descriptor):
        if key in seen:
            message = "has another record, which is never found: the first counts"
            yield Finding("duplicate", Severity.WARNING, message, "compile the rule set again, from one source", key)
        elif value and value[:1] not in _VERDICTS:
            message = "is no rule: its record begins with neither A nor D, and a broader rule decides"
            yield Finding("no-verdict", Severity.WARNING, message, "remove it, or compile the rule set again", key)
        seen.add(key)
