#!/usr/bin/env python3
"""Fuzz the readers of other formats: whatever stands in a text, each line that is wrong is told, or all are rules.

usage: fuzz_formats.py fuzz/corpus/formats
"""

import sys

import atheris

with atheris.instrument_imports():
    from s6tls.audit.formats import cidrlist, haproxy, hostsaccess, nginx, tcprules, text
    from s6tls.audit.formats.entries import BadText

READERS = (text.parse, tcprules.parse, hostsaccess.parse, cidrlist.parse, haproxy.parse, nginx.parse)


def one_input(data: bytes) -> None:
    for parse in READERS:
        try:
            parsed = parse(data)
        except BadText as bad:
            assert bad.faults and all(fault.line > 0 and fault.message for fault in bad.faults)
            continue
        written = text.write(parsed.entries, parsed.trailing)
        again = text.parse(written.encode())
        assert again.rules == parsed.rules
        assert text.write(again.entries, again.trailing) == written


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
