"""The stage of s6-connlimit."""

from __future__ import annotations

import pytest

from s6tls.stages.connlimit import ConnLimit
from s6tls.ucspi.image import Image, StageExit


def apply(**env: str) -> tuple[int, str]:
    """Return the exit code and the message that the stage refuses with, or 0 and nothing."""
    try:
        ConnLimit().apply(Image({name.encode(): value.encode() for name, value in env.items()}, [b"prog"]))
    except StageExit as refused:
        return refused.code, str(refused)
    return 0, ""


@pytest.mark.parametrize(("number", "maximum", "passes"), [(0, 1, True), (3, 4, True), (4, 4, False), (5, 4, False)])
def test_a_client_has_at_most_its_maximum(number: int, maximum: int, passes: bool) -> None:
    refused = (1, f"number of connections from this client limited to {maximum}")
    assert apply(PROTO="TCP", TCPCONNNUM=str(number), TCPCONNMAX=str(maximum)) == ((0, "") if passes else refused)


def test_a_maximum_of_zero_is_nobody() -> None:
    assert apply(PROTO="TCP", TCPCONNNUM="0", TCPCONNMAX="0")[0] == 1


def test_without_a_maximum_nothing_is_checked() -> None:
    assert apply(PROTO="TCP") == (0, "")
    assert apply(PROTO="TCP", TCPCONNNUM="what") == (0, "")


def test_variables_are_under_the_name_in_proto() -> None:
    assert apply(PROTO="IPC", IPCCONNNUM="9", IPCCONNMAX="9", TCPCONNMAX="99")[0] == 1


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({}, "PROTO not set"),
        ({"PROTO": ""}, "empty PROTO"),
        ({"PROTO": "TCP", "TCPCONNMAX": "1"}, "TCPCONNNUM not set"),
        ({"PROTO": "TCP", "TCPCONNMAX": "1", "TCPCONNNUM": ""}, "invalid TCPCONNNUM"),
        ({"PROTO": "TCP", "TCPCONNMAX": "1", "TCPCONNNUM": "-1"}, "invalid TCPCONNNUM"),
        ({"PROTO": "TCP", "TCPCONNMAX": "x", "TCPCONNNUM": "0"}, "invalid TCPCONNMAX"),
        ({"PROTO": "TCP", "TCPCONNMAX": "9" * 5000, "TCPCONNNUM": "0"}, "invalid TCPCONNMAX"),
        ({"PROTO": "TCP", "TCPCONNMAX": "٣", "TCPCONNNUM": "0"}, "invalid TCPCONNMAX"),
    ],
)
def test_a_wrong_environment_is_100(env: dict[str, str], message: str) -> None:
    assert apply(**env) == (100, message)
