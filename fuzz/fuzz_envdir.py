#!/usr/bin/env python3
"""Fuzz the envdir parser: what a file says can be written and read again, and has no NUL or newline where none may be.

usage: fuzz_envdir.py fuzz/corpus/envdir
"""

import sys

import atheris

with atheris.instrument_imports():
    from s6tls.accessrules import envdir


def one_input(data: bytes) -> None:
    value = envdir.value_of(data)
    assert (value is None) == (not data)
    if value is not None:
        assert b"\0" not in value
        assert len(value) <= envdir.MAX_FILE
        assert envdir.value_of(envdir.contents_of(value)) == value


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
