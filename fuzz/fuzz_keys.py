#!/usr/bin/env python3
"""Fuzz address parsing and key writing: a text is refused, or its first key names that very address.

usage: fuzz_keys.py fuzz/corpus/keys
"""

import socket
import sys

import atheris

with atheris.instrument_imports():
    from s6tls.accessrules import AddressError, keys


def one_input(data: bytes) -> None:
    for key in keys.name_keys(data):
        assert key.count(b"/") == 1
        assert b"\0" not in key
        assert b"/." not in key
    try:
        packed = keys.parse_address(data)
    except AddressError:
        return
    family, asked = (socket.AF_INET, keys.ip4_keys) if len(packed) == 4 else (socket.AF_INET6, keys.ip6_keys)
    networks = list(asked(packed))
    assert len(networks) == 8 * len(packed) + 1
    address = networks[0][4:].partition(b"_")[0].decode("ascii")
    assert socket.inet_pton(family, address) == packed


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
