#!/usr/bin/env python3
"""Fuzz the readers of other formats: whatever stands in a text, each line that is wrong is told, or all are rules.

What the other lines say are rules, too.  Each reader reads each input, as there are few words that two of them know.

usage: fuzz_formats.py fuzz/corpus/formats
"""

import sys

import atheris

with atheris.instrument_imports():
    from s6tls.audit.formats import text
    from s6tls.audit.formats.entries import BadText
    from s6tls.audit.formats.registry import READERS

    for reader in READERS.values():
        reader.load()


def one_input(data: bytes) -> None:
    for reader in READERS.values():
        try:
            parsed = reader.read(data, **({"columns": ["1"]} if "column" in reader.options else {}))
        except BadText as bad:
            assert bad.faults and all(fault.line > 0 and fault.message for fault in bad.faults)
            parsed = bad.rest
        written = text.write(parsed.entries, parsed.trailing)
        again = text.parse(written.encode())
        assert again.rules == parsed.rules
        assert text.write(again.entries, again.trailing) == written


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
