#!/usr/bin/env python3
"""Fuzz command lines: any words are options and words, or wrong usage that one printable line describes.

usage: fuzz_options.py fuzz/corpus/options
"""

import sys

import atheris

with atheris.instrument_imports():
    from s6tls.cli import s6_tlsserver
    from s6tls.cli.frame.options import UsageError, number
    from s6tls.cli.s6_tlsserver import chain_words

FLAGS = {option.name: option.flag.encode() for option in s6_tlsserver.SYNOPSIS.options}
VALUED = {option.name for option in s6_tlsserver.SYNOPSIS.options if option.value}


def check_message(error: UsageError) -> None:
    assert str(error) and str(error).isprintable() and str(error).isascii()


def words_of(options: list[tuple[str, bytes]]) -> list[bytes]:
    return [word for name, value in options for word in ([FLAGS[name], value] if name in VALUED else [FLAGS[name]])]


def one_input(data: bytes) -> None:
    words = data.split(b"\0")
    try:
        options, rest = s6_tlsserver.SYNOPSIS.parse(words)
    except UsageError as error:
        check_message(error)
        return
    assert not rest or words[len(words) - len(rest) :] == rest
    assert s6_tlsserver.SYNOPSIS.parse([*words_of(options), b"--", *rest]) == (options, rest)
    try:
        given = s6_tlsserver.SYNOPSIS.read([*words_of(options), b"--", *rest, b"0", b"0", b"prog"])
        assert chain_words(given)[-len(given.rest) :] == given.rest
    except UsageError as error:
        check_message(error)
    for _, value in options:
        try:
            assert 0 <= number("n", value) < 2**32
        except UsageError:
            assert not value.isdigit() or len(value) > 20 or int(value) >= 2**32


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
