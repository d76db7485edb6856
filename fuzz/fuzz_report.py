#!/usr/bin/env python3
"""Fuzz what an engine tells the server: known names without NUL, or a refusal.

usage: fuzz_report.py fuzz/corpus/report
"""

import sys

import atheris

with atheris.instrument_imports():
    from s6tls.tls import report


def one_input(data: bytes) -> None:
    try:
        found = report.parse(data)
    except ValueError:
        return
    assert len(data) <= report.LARGEST
    assert set(found) <= set(report.VARIABLES)
    assert not any(b"\0" in value for value in found.values())


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
