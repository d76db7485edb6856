#!/usr/bin/env python3
"""Fuzz the reading of logs: each line has an address or is counted as one without, packed or not, in every format.

The first byte of the input chooses the format and whether a field is named,
and which address of a list counts.  Of the lines, those of a time are left out, and no line is lost.

usage: fuzz_logs.py fuzz/corpus/logs
"""

import contextlib
import os
import sys
from collections import Counter
from datetime import UTC, datetime

import atheris

with atheris.instrument_imports():
    from s6tls.audit.logs.formats import FORMATS
    from s6tls.audit.logs.log import Log
    from s6tls.audit.logs.stream import LogError
    from s6tls.audit.logs.times import Since

CHOICES = [
    (format, field, which) for which in (0, -1) for field in (None, "ip", "2", "a.b") for format in (None, *FORMATS)
]
MOMENT = datetime(2026, 11, 1, tzinfo=UTC)
FILE = os.memfd_create("log")
PATH = b"/proc/self/fd/%d" % FILE


def leave_out(data: bytes) -> None:
    since = Since(MOMENT, MOMENT)
    kept = 0
    with contextlib.suppress(LogError):
        for chunk in since.filtered([data]):
            kept += chunk.count(b"\n") + 1
    assert kept + since.left_out == data.count(b"\n") + 1


def one_input(data: bytes) -> None:
    leave_out(data)
    format, field, which = CHOICES[ord(data[:1] or b"\0") % len(CHOICES)]
    os.ftruncate(FILE, 0)
    os.pwrite(FILE, data[1:], 0)
    try:
        log = Log(PATH, format, field, forwarded=which)
        found = list(log.addresses())
    except LogError as error:
        assert str(error)
        return
    assert log.lines - log.unread == len(found)
    again = Log(PATH, format, field, forwarded=which)
    counter: Counter[bytes] = Counter()
    for packed, hits in again.hits(2):
        counter[packed] += hits
    assert counter == Counter(found)
    assert (again.lines, again.unread, again.sample) == (log.lines, log.unread, log.sample)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
