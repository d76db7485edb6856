#!/usr/bin/env python3
"""Fuzz what lint says of keys, certificates, authorities and revocation lists: findings, whatever stands in a file.

usage: fuzz_keypairs.py fuzz/corpus/keypairs
"""

import os
import sys

import atheris

with atheris.instrument_imports():
    from s6tls.accessrules import Rule
    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.lint.keypairs import findings

FILE = os.memfd_create("file")
PATH = b"/proc/self/fd/%d" % FILE
RULES = [
    LoadedRules.of([(b"ip4/192.0.2.0_24", Rule(True, ((variable, PATH),)))])
    for variable in (b"KEYFILE", b"CERTFILE", b"CAFILE", b"CRLFILE")
]


def one_input(data: bytes) -> None:
    os.ftruncate(FILE, 0)
    os.pwrite(FILE, data, 0)
    for rules in RULES:
        for finding in findings(rules, 30):
            assert finding.message.isprintable()


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
