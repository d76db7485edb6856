"""Which server names are served: what -k, its long forms and --sni-directory say together."""

from __future__ import annotations

import pytest

from s6tls.cli import s6_tlsd
from s6tls.cli.frame.options import UsageError
from s6tls.tls.credentials import SniLevel

_DIRECTORY = "--sni-directory=/etc/s6tls/names"


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ("", SniLevel.NONE),
        ("-k1", SniLevel.OPTIONAL),
        ("-k7", SniLevel.MANDATORY),
        ("--sni", SniLevel.OPTIONAL),
        (_DIRECTORY, SniLevel.OPTIONAL),
        (f"-k0 {_DIRECTORY}", SniLevel.OPTIONAL),
        (f"{_DIRECTORY} -k2", SniLevel.MANDATORY),
        (f"--mandatory-sni {_DIRECTORY}", SniLevel.MANDATORY),
        (f"--mandatory-sni --sni {_DIRECTORY}", SniLevel.OPTIONAL),
    ],
)
def test_levels(words: str, level: SniLevel) -> None:
    options = s6_tlsd.engine_options(s6_tlsd.SYNOPSIS.read([*words.encode().split(), b"prog"]))
    assert options.sni_level is level
    assert options.sni_directory == (b"/etc/s6tls/names" if _DIRECTORY in words else b"")


def test_a_directory_has_a_name() -> None:
    with pytest.raises(UsageError, match="invalid value for --sni-directory"):
        s6_tlsd.engine_options(s6_tlsd.SYNOPSIS.read([b"--sni-directory=", b"prog"]))
