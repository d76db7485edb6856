#!/usr/bin/env python3
"""Fuzz the record codec: any value is a rule, none, or malformed, and a rule survives.

usage: fuzz_record.py fuzz/corpus/record
"""

import sys

import atheris

with atheris.instrument_imports():
    from s6tls.accessrules import MalformedRecord, record


def one_input(data: bytes) -> None:
    try:
        rule = record.decode(data)
    except MalformedRecord:
        return
    if rule is not None and rule.allow:
        assert record.encode(rule) == data


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
