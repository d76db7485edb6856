#!/usr/bin/env python3
"""Fuzz PROXY headers: variables and a rest that is untouched, or a refusal; and pieces of any size say the same.

usage: fuzz_proxyheader.py fuzz/corpus/proxyheader
"""

import sys

import atheris

with atheris.instrument_imports():
    from s6tls.helper import reply
    from s6tls.helper.proxyheader import CUT_SHORT, MALFORMED, UNSUPPORTED, VARIABLES, ProxyError, Reader


def read(data: bytes, most: int) -> tuple[dict[bytes, bytes], bytes] | int:
    """Read a header in pieces of `most` bytes; return its variables and the rest, or the code of the refusal."""
    reader = Reader()
    try:
        while reader.wanted:
            assert reader.wanted > 0
            piece = data[: min(reader.wanted, most)]
            data = data[len(piece) :]
            reader.feed(piece)
    except ProxyError as error:
        return error.code
    return reader.variables, data


def one_input(data: bytes) -> None:
    outcome = read(data, 1 << 16)
    assert outcome == read(data, 1)
    if isinstance(outcome, int):
        assert outcome in (CUT_SHORT, MALFORMED, UNSUPPORTED)
        return
    variables, rest = outcome
    assert data.endswith(rest)
    assert reply.parse(reply.encode(variables), VARIABLES) == variables


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
