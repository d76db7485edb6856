#!/usr/bin/env python3
"""Fuzz cdb files through lookups and decompilation: a rule set or a documented error, and nothing left behind.

usage: fuzz_cdb.py fuzz/corpus/cdb
"""

import atexit
import os
import shutil
import sys
import tempfile

import atheris

with atheris.instrument_imports():
    from s6tls.accessrules import RuleSet, RuleSetError
    from s6tls.accessrules.decompile import decompile

PLACE = os.fsencode(tempfile.mkdtemp(prefix="fuzz-cdb-"))
atexit.register(shutil.rmtree, PLACE)


def one_input(data: bytes) -> None:
    cdbfile, target = PLACE + b"/cdb", PLACE + b"/out"
    with open(cdbfile, "wb") as file:
        file.write(data)
    try:
        with RuleSet.open_cdb(cdbfile) as rules:
            rules.check_address("10.1.2.3")
            rules.check_address("2001:db8::1")
            rules.check_name(b"www.example.com")
    except (OSError, RuleSetError):
        pass
    try:
        decompile(target, cdbfile)
    except (OSError, RuleSetError):
        assert not os.path.lexists(target)
    else:
        shutil.rmtree(target)
    assert os.listdir(PLACE) == [b"cdb"]


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
