#!/usr/bin/env python3
"""Fuzz what a helper process tells the server: known names without NUL, or a refusal.

usage: fuzz_reply.py fuzz/corpus/reply
"""

import sys

import atheris

with atheris.instrument_imports():
    from s6tls.helper import reply
    from s6tls.tls.credentials import SESSION_VARIABLES


def one_input(data: bytes) -> None:
    try:
        found = reply.parse(data, SESSION_VARIABLES)
    except (ValueError, reply.RefusalReply):
        return
    assert len(data) <= reply.LARGEST
    assert set(found) <= set(SESSION_VARIABLES)
    assert not any(b"\0" in value for value in found.values())


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
