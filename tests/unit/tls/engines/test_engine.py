"""The engine's exit codes, and what it says on stderr."""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Callable

import pytest
from OpenSSL import SSL

from s6tls.posix.identity import Identity
from s6tls.tls import ends
from s6tls.tls.credentials import SessionOptions
from s6tls.tls.ends import Descriptors
from s6tls.tls.engines import engine
from s6tls.ucspi.image import StageExit
from tests.support import pki
from tests.support.children import in_child
from tests.support.pki import Pair
from tests.support.tls.memory import client_context

PEER = "192.0.2.1_4711"


def run(client: Callable[[socket.socket], object], options: SessionOptions | None = None) -> int:
    """Carry one session with a client in another thread, in front of a program that says nothing."""
    options = options or SessionOptions()
    context = engine.confine_and_load(pki.parameters(options), pki.credentials(default=pki.pair()))
    ours, theirs = socket.socketpair()
    app_in, to_app = os.pipe()
    from_app, app_out = os.pipe()
    os.close(app_out)
    net = ours.detach()

    def talk() -> None:
        with theirs:
            client(theirs)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        return engine.run(context, options, Descriptors(net, net, from_app, to_app), PEER)
    finally:
        thread.join()
        os.close(app_in)


def handshake(connection: socket.socket) -> SSL.Connection:
    tls = SSL.Connection(client_context(), connection)
    tls.set_connect_state()
    tls.do_handshake()
    return tls


def end_well(connection: socket.socket) -> None:
    handshake(connection).shutdown()
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65536):
        pass


def test_a_session_that_ends_well_is_0(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(end_well) == 0
    assert capfd.readouterr().err == ""


def test_a_handshake_that_fails_is_97(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(lambda connection: connection.sendall(b"GET / HTTP/1.0\r\n\r\n")) == 97
    said = capfd.readouterr().err
    assert said == f"s6-tlsd-io: fatal: unable to complete the handshake with {PEER}: http request\n"


def test_a_session_that_breaks_is_98(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(handshake, SessionOptions(demand_close_notify=True)) == 98
    said = capfd.readouterr().err
    assert said.startswith(f"s6-tlsd-io: fatal: unable to go on with {PEER}: ") and said.count("\n") == 1


def test_files_that_are_no_good_are_96() -> None:
    with pytest.raises(StageExit, match="unable to read KEYFILE /key: it is empty") as refused:
        engine.confine_and_load(pki.parameters(), pki.credentials(default=Pair(b"", pki.pair().chain)))
    assert refused.value.code == 96


def test_ids_that_cannot_be_taken_are_111_before_any_file_is_parsed() -> None:
    impossible = Identity(2**32 - 1, None, tuple(os.getgroups()))

    def body() -> int:
        with pytest.raises(StageExit, match="unable to drop privileges") as refused:
            engine.confine_and_load(pki.parameters(identity=impossible), pki.credentials(default=Pair(b"", b"")))
        return int(refused.value.code)

    assert in_child(body) == "111"  # here, all that is executed later would have no capabilities


def test_a_session_that_cannot_begin_closes_its_descriptors_once() -> None:
    """Their numbers may be another session's by then."""
    context = engine.confine_and_load(pki.parameters(), pki.credentials(default=pki.pair()))
    ours, theirs = socket.socketpair()
    (app_in, to_app), plain_file = os.pipe(), os.open(__file__, os.O_RDONLY)
    net = ours.detach()
    assert engine.run(context, SessionOptions(), Descriptors(net, net, plain_file, to_app)) == 111
    others = [os.open("/dev/null", os.O_RDONLY) for _ in range(10)]
    assert net in others
    gc.collect()
    for fd in [*others, app_in]:
        os.close(fd)
    theirs.close()


@pytest.mark.parametrize("part", ["_send_at_once", "FromProgramSocket", "ToProgramSocket", "Notify"])
def test_a_session_for_which_there_is_no_memory_closes_its_descriptors_once(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: object) -> None:
        raise MemoryError

    context = engine.confine_and_load(pki.parameters(), pki.credentials(default=pki.pair()))
    pairs = [socket.socketpair() for _ in range(3)]
    (net, from_program, to_program), far = [ours.detach() for ours, _ in pairs], [theirs for _, theirs in pairs]
    notified, notify = os.pipe()
    monkeypatch.setattr(ends, part, lacking)
    assert engine.run(context, SessionOptions(), Descriptors(net, net, from_program, to_program, notify)) == 111
    others = [os.open("/dev/null", os.O_RDONLY) for _ in range(10)]
    assert {net, from_program, to_program, notify} <= set(others)
    gc.collect()
    for fd in [*others, notified]:
        os.close(fd)
    for end in far:
        end.close()


@pytest.mark.parametrize("path", ["/dev/null", __file__])
def test_descriptors_that_cannot_be_watched_are_111(path: str, capfd: pytest.CaptureFixture[str]) -> None:
    options = SessionOptions(handshake_timeout_ms=1)
    context = engine.confine_and_load(pki.parameters(options), pki.credentials(default=pki.pair()))
    net = os.open(path, os.O_RDONLY)
    app_in, to_app = os.pipe()
    from_app, app_out = os.pipe()
    assert engine.run(context, options, Descriptors(net, net, from_app, to_app)) == 111
    with pytest.raises(BrokenPipeError):
        os.write(app_out, b"nobody reads")
    message = f"unable to watch descriptor {net}: not a socket, pipe or terminal"
    assert capfd.readouterr().err == f"s6-tlsd-io: fatal: {message}\n"
    for fd in (app_in, app_out):
        os.close(fd)
