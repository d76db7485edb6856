"""The stage of s6-connlimit."""

from __future__ import annotations

import pytest

from s6tls.stages.connlimit import ConnLimit
from s6tls.ucspi.image import ClientFailure, Image, StageExit
from s6tls.ucspi.log import Log
from s6tls.ucspi.rulerates import RuleRates
from tests.support.clock import Clock

RATED = {"PROTO": "TCP", "TCPREMOTEIP": "192.0.2.1", "TCPREMOTEPORT": "7"}


def image(**env: str) -> Image:
    return Image({name.encode(): value.encode() for name, value in env.items()}, [b"prog"])


def apply(rates: RuleRates | None = None, /, **env: str) -> tuple[int, str]:
    """Return the exit code and the message that the stage refuses with, or 0 and nothing."""
    try:
        ConnLimit(rates).apply(image(**env))
    except StageExit as refused:
        return refused.code, str(refused)
    return 0, ""


@pytest.fixture
def rates() -> RuleRates:
    clock = Clock()
    return RuleRates(64, Log("server", 0), clock.after, clock.now_ns)


@pytest.mark.parametrize(("number", "maximum", "passes"), [(0, 1, True), (3, 4, True), (4, 4, False), (5, 4, False)])
def test_a_client_has_at_most_its_maximum(number: int, maximum: int, passes: bool) -> None:
    refused = (1, f"number of connections from this client limited to {maximum}")
    assert apply(PROTO="TCP", TCPCONNNUM=str(number), TCPCONNMAX=str(maximum)) == ((0, "") if passes else refused)


def test_a_client_over_its_maximum_is_no_fault_of_the_operators() -> None:
    with pytest.raises(ClientFailure):
        ConnLimit().apply(image(PROTO="TCP", TCPCONNNUM="1", TCPCONNMAX="1"))


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


def test_a_client_comes_as_often_as_its_rate_says(rates: RuleRates) -> None:
    for passes in (True, True, False):
        assert apply(rates, **RATED, TCPCONNRATE="2/3600") == ((0, "") if passes else (1, ""))
    assert apply(rates, **RATED, TCPCONNRATE="1/3600,2")[0] == 0
    assert apply(rates, **{**RATED, "TCPREMOTEIP": "192.0.2.2"}, TCPCONNRATE="2/3600") == (0, "")


def test_a_client_is_known_under_every_text_of_its_address(rates: RuleRates) -> None:
    for address, code in (("192.0.2.1", 0), ("::ffff:192.0.2.1", 1), ("2001:db8::1", 0), ("2001:db8:0:0:9::", 1)):
        assert apply(rates, **{**RATED, "TCPREMOTEIP": address}, TCPCONNRATE="1/3600")[0] == code


def test_both_limits_hold(rates: RuleRates) -> None:
    env = {**RATED, "TCPCONNRATE": "1/3600", "TCPCONNMAX": "1"}
    assert apply(rates, **env, TCPCONNNUM="1")[0] == 1
    assert apply(rates, **env, TCPCONNNUM="0") == (1, ""), "who is refused has come, too"


@pytest.mark.parametrize("rate", ["", "1", "1/0", "0/1", "1/1,0", "1/1,", "-1/1", "1 /1", "1/9999999999", "٣/1"])
def test_a_rate_that_is_none_is_100(rates: RuleRates, rate: str) -> None:
    message = "invalid TCPCONNRATE: expected number/seconds[,burst], none of them 0"
    assert apply(rates, **RATED, TCPCONNRATE=rate) == (100, message)


def test_where_nobody_remembers_clients_a_rate_refuses_them_all() -> None:
    message = "unable to heed TCPCONNRATE outside a long-lived server"
    assert apply(**RATED, TCPCONNRATE="9/1") == (100, message)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"TCPREMOTEPORT": "7"}, "TCPREMOTEIP not set"),
        ({"TCPREMOTEPORT": "7", "TCPREMOTEIP": "x"}, "invalid TCPREMOTEIP"),
        ({"TCPREMOTEIP": "192.0.2.1"}, "TCPREMOTEPORT not set"),
        ({"TCPREMOTEIP": "192.0.2.1", "TCPREMOTEPORT": "x"}, "invalid TCPREMOTEPORT"),
    ],
)
def test_a_rate_is_about_somebody(rates: RuleRates, env: dict[str, str], message: str) -> None:
    assert apply(rates, PROTO="TCP", TCPCONNRATE="1/1", **env) == (100, message)
