"""What only a cdb file shows: records that no lookup returns, and that it is another program's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from s6tls.accessrules.cdbfile import records
from s6tls.audit.lint.findings import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

_VERDICTS = (b"A", b"D")
_TCPRULES = re.compile(rb"(?:D\0)?(?:\+[^\0]*\0)*")

OF_TCPRULES = Finding(
    "tcprules-cdb",
    Severity.ERROR,
    "is a cdb of tcprules, for tcpserver: servers here find no rule in it, and refuse all clients",
    "make rules of it with s6-accessrules import",
)


def is_of_tcprules(descriptor: int) -> bool:
    """Tell whether an open cdb has records, and each is as tcprules writes them, with no family in its key.

    Raises OSError, or RuleSetError if a record is broken.
    """
    is_empty = True
    for key, value in records(descriptor):
        if b"/" in key or not _TCPRULES.fullmatch(value):
            return False
        is_empty = False
    return not is_empty


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
