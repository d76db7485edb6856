"""What a pool does before it forks: sessions with itself that leave nothing behind."""

from __future__ import annotations

import os
import resource
import time

import pytest
from OpenSSL import SSL

from s6tls.tls import variables
from s6tls.tls.context import build
from s6tls.tls.credentials import ClientCertificate, SessionOptions, SniLevel
from s6tls.tls.engines import warmup
from s6tls.tls.pump import Pump
from tests.support import pki

CASES = {
    "ordinary": build(pki.credentials(default=pki.pair()), SessionOptions()),
    "clients without a certificate are refused": build(
        pki.credentials(default=pki.pair(), trusted=(pki.root(),)),
        SessionOptions(client_certificate=ClientCertificate.MANDATORY),
    ),
    "names that nobody asks for": build(
        pki.credentials((b"a.example", pki.pair("a.example"))), SessionOptions(sni_level=SniLevel.MANDATORY)
    ),
}


def held() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("close_notify", [False, True])
@pytest.mark.parametrize("context", CASES.values(), ids=CASES)
def test_no_descriptor_is_left_and_nobody_is_waited_for(
    context: SSL.Context, close_notify: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    before, start = held(), time.monotonic()
    warmup.warm_up(context, SessionOptions(close_notify=close_notify))
    assert held() == before
    assert time.monotonic() - start < warmup._TIMEOUT_S
    assert capfd.readouterr().err == ""


def test_the_sessions_are_whole_and_of_both_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    versions: list[str] = []

    notification = variables.notification

    def note(pump: Pump) -> bytes:
        versions.append(pump.connection.protocol.decode())
        return notification(pump)

    monkeypatch.setattr(variables, "notification", note)
    warmup.warm_up(CASES["ordinary"], SessionOptions())
    assert len(versions) == warmup._TIMES and set(versions) == {"TLSv1.2", "TLSv1.3"}


@pytest.mark.parametrize("room", range(20))
def test_no_descriptor_is_left_when_there_are_too_few(room: int) -> None:
    before = held()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, before)) + room, limits[1]))
    try:
        warmup.warm_up(CASES["ordinary"], SessionOptions())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert held() == before
