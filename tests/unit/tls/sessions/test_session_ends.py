"""The rim over real sockets and pipes: how sessions end, and what each side still gets."""

from __future__ import annotations

import contextlib
import os
import select
import socket

import pytest
from OpenSSL import SSL

from tests.support.kernel.forgetful import Forgetful
from tests.support.servers import PATIENCE
from tests.support.tls import memory, sealing
from tests.support.tls.memory import EACH_VERSION, client_context
from tests.support.tls.sessions import Client, World, data_of

# Ends


def test_the_end_of_a_client_is_found_though_there_was_no_memory_to_tell_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s6tls.posix.reactor.select.epoll", Forgetful)
    Forgetful.waits.clear()
    Forgetful.go.clear()
    client, app = world.start()
    client.shake_hands()
    Forgetful.armed = True
    client.write(b"one")
    assert Forgetful.waits.wait(PATIENCE)
    client.write(b"two")
    client.socket.shutdown(socket.SHUT_WR)
    Forgetful.go.set()
    assert app.read_all() == b"onetwo"
    app.exit()
    client.close()
    assert world.failure() is None


def test_with_half_closing_the_client_may_go_on_after_the_application_s_end(world: World) -> None:
    client, app = world.start(lenient=True)
    client.shake_hands()
    app.write(b"bye")
    app.end_writing()
    assert client.read_all() == b"bye"
    client.write(data_of(60000))
    client.end_writing()
    assert app.read_all() == data_of(60000)
    assert world.failure() is None


def test_with_close_notify_both_directions_end_with_the_application_s(world: World) -> None:
    client, app = world.start(close_notify=True)
    client.shake_hands()
    app.write(b"bye")
    app.end_writing()
    assert client.read_all() == b"bye" and client.closed_by_notify
    assert app.read_all() == b""
    client.write(b"too late")
    client.close()
    assert world.failure() is None


def test_a_client_that_complains_about_the_half_close_has_still_had_everything(world: World) -> None:
    client, app = world.start()
    client.shake_hands()
    app.answer(b"bye")
    assert client.read_all() == b"bye"  # and here OpenSSL sends its alert
    client.close()
    assert world.failure() is None


def test_a_client_that_complains_while_the_application_still_reads_has_ended_its_direction(world: World) -> None:
    """So do programs look that close their output some time before they exit."""
    client, app = world.start()
    client.shake_hands()
    app.write(b"bye")
    app.end_writing()
    assert client.read_all() == b"bye"  # and here OpenSSL sends its alert
    assert app.read_all() == b""
    client.close()
    assert world.failure() is None


@pytest.mark.parametrize("close_notify", [False, True])
def test_the_client_s_end_ends_what_the_application_reads_and_no_more(world: World, close_notify: bool) -> None:
    client, app = world.start(close_notify=close_notify)
    client.shake_hands()
    client.write(b"request")
    client.end_writing()
    assert app.read_all() == b"request"
    app.write(data_of(50_000))
    app.exit()
    assert client.read_all() == data_of(50_000)
    assert world.failure() is None


@EACH_VERSION
@pytest.mark.parametrize("demand", [False, True])
def test_an_end_of_file_without_close_notify_is_an_error_only_if_it_must_not_be(
    world: World, version: int, demand: bool
) -> None:
    client, app = world.start(version, demand_close_notify=demand)
    client.shake_hands()
    client.write(b"request")
    client.socket.shutdown(socket.SHUT_WR)
    assert app.read_all() == b"request"
    app.exit()
    failure = world.failure()
    if demand:
        assert failure is not None and not failure.during_handshake
    else:
        assert failure is None and client.read_all() == b""


def test_an_application_that_does_not_read_may_still_answer(world: World) -> None:
    client, app = world.start(buffers=4096)
    client.shake_hands()
    app.end_reading()
    app.write(data_of(10_000))
    app.end_writing()
    for _ in range(20):
        client.write(data_of(10_000))
    assert client.read_all() == data_of(10_000)
    client.close()
    world.failure()


def test_unread_bytes_of_the_client_do_not_cost_it_the_answer(world: World) -> None:
    # Closing a socket that has unread bytes resets the connection: the engine must read them first.
    client, app = world.start()
    client.shake_hands()
    app.write(b"no, thank you")
    app.exit()
    for _ in range(30):
        client.write(data_of(10_000))
    assert client.read_all() == b"no, thank you"
    client.close()
    world.failure()


@pytest.mark.parametrize("close_notify", [False, True])
def test_a_client_that_has_everything_and_never_closes_is_left_in_the_end(world: World, close_notify: bool) -> None:
    client, app = world.start(close_notify=close_notify, stall_timeout=0.05)
    client.shake_hands()
    app.write(b"bye")
    app.exit()
    assert world.failure() is None
    assert client.read_all() == b"bye"


def test_without_a_limit_a_client_is_waited_for_for_ever(world: World) -> None:
    client, app = world.start(stall_timeout=0)
    client.shake_hands()
    app.exit()
    assert client.read_all() == b""
    with pytest.raises(TimeoutError):
        world.ended.result(0.3)
    client.close()
    assert world.failure() is None


@EACH_VERSION
def test_a_client_that_idles_is_not_stalled(world: World, version: int) -> None:
    client, app = world.start(version, stall_timeout=0.02)
    client.shake_hands()
    app.write(b"hello")
    assert client.tls.recv(5) == b"hello"
    with pytest.raises(TimeoutError):
        world.ended.result(0.3)
    app.write(b"still there?")
    assert client.tls.recv(12) == b"still there?"
    app.exit()
    client.close()
    assert world.failure() is None


def test_a_client_that_has_not_read_everything_is_waited_for(world: World) -> None:
    client, app = world.start(buffers=4096, stall_timeout=0.02)
    client.shake_hands()
    writing = world.also(lambda: app.answer(data_of(300_000)))
    with pytest.raises(TimeoutError):
        world.ended.result(0.5)
    assert client.read_all() == data_of(300_000)
    writing.result(PATIENCE)
    assert world.failure() is None


def answer_into_the_kernel(world: World) -> Client:
    """Have all of an answer wait in our kernel for a client that has ended its direction, and reads little."""
    client, app = world.start(buffers=4096)
    client.shake_hands()
    with socket.socket(fileno=os.dup(world.network)) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    client.end_writing()
    assert app.read_all() == b""
    app.answer(data_of(100_000))
    with pytest.raises(TimeoutError):
        world.ended.result(0.3)
    return client


def test_a_client_that_has_ended_is_waited_for_until_its_kernel_has_the_answer(world: World) -> None:
    client = answer_into_the_kernel(world)
    assert client.read_all() == data_of(100_000)
    assert world.failure() is None


def test_a_client_that_has_ended_and_resets_the_connection_has_lost_the_answer(world: World) -> None:
    answer_into_the_kernel(world).reset()
    assert world.failure() is not None


def test_a_program_that_leaves_more_than_a_client_ever_takes_is_not_waited_for(world: World) -> None:
    client, app = world.start(buffers=4096, stall_timeout=0.3)
    client.shake_hands()
    os.set_blocking(app._stdout.fileno(), False)
    poll = select.poll()
    poll.register(app._stdout, select.POLLOUT)
    while poll.poll(300):
        app._stdout.write(data_of(65536))
    app.exit()
    assert world.failure() is not None


def test_a_client_that_wants_new_keys_after_the_half_close_is_no_failure(world: World) -> None:
    told, records = sealing.context(SSL.TLS1_3_VERSION)
    client, app = world.start(context=told, lenient=True)
    client.shake_hands()
    app.end_writing()
    assert client.read_all() == b""
    client.socket.sendall(records(client.tls).request_keys())
    client.socket.shutdown(socket.SHUT_WR)
    assert app.read_all() == b""
    assert world.failure() is None


BAD_RECORD = b"\x17\x03\x03\x00\x20" + bytes(32)


@EACH_VERSION
def test_what_came_in_the_same_read_as_a_broken_record_arrives(world: World, version: int) -> None:
    client, app = world.start(version)
    talking = memory.Client(client_context(version))
    shake_hands(talking, client.socket)
    assert world.notification()
    talking.connection.send(b"hello")
    client.socket.sendall(talking.said() + BAD_RECORD)
    assert app.read_all() == b"hello"
    app.exit()
    client.close()
    failure = world.failure()
    assert failure is not None and not failure.during_handshake


@EACH_VERSION
def test_a_record_that_breaks_in_the_same_read_as_the_handshake_ends_breaks_an_established_session(
    world: World, version: int
) -> None:
    client, app = world.start(version)
    talking = memory.Client(client_context(version))
    talking.hear()
    with contextlib.suppress(SSL.Error):  # in TLS 1.2 the alert comes with the server's Finished
        while said := talking.said():
            last = b"\x14\x03\x03\x00\x01\x01" in said  # change_cipher_spec comes with the client's Finished
            client.socket.sendall(said + BAD_RECORD * last)
            if not talking.established:
                talking.hear(client.socket.recv(65536))
    assert world.notification() == b"established"
    assert app.read_all() == b""
    app.exit()
    client.close()
    failure = world.failure()
    assert failure is not None and not failure.during_handshake


def shake_hands(talking: memory.Client, connection: socket.socket) -> None:
    """Have a client in memory shake hands over a socket."""
    talking.hear()
    while data := talking.said():
        connection.sendall(data)
        if not talking.established:
            talking.hear(connection.recv(65536))
