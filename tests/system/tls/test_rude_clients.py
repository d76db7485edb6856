"""Clients that break off, talk nonsense or say nothing: each ends alone, and nobody else notices."""

from __future__ import annotations

import contextlib
import re
import socket

import pytest

from tests.support import kin, peers, processes
from tests.support.servers import Server
from tests.support.site import ENDED, Site


def name_of(client: socket.socket) -> str:
    """How the log calls a client."""
    address, port = client.getsockname()
    return f"{re.escape(address)}_{port}"


def still_serves(server: Server, site: Site) -> bool:
    return peers.answer(server, peers.context(site.authority.file), b"hello") == b"hello"


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"GET / HTTP/1.0\r\n\r\n",
        b"\0" * 1000,
        b"\x16\x03\x01\xff\xff" + b"\xff" * 4000,
        b"\x80\x2e\x01\x00\x02" + b"\0" * 41,  # SSL 2
        peers.hello()[:1],
        peers.hello()[:100],
        peers.hello(),
        peers.hello() * 2,
    ],
    ids=["nothing", "http", "zeros", "huge record", "ssl2", "1 byte", "half a hello", "hello", "hello twice"],
)
def test_end_of_file_within_the_handshake(site: Site, words: bytes) -> None:
    with site.serve("cat") as server, peers.connect(server) as client:
        name = name_of(client)
        client.sendall(words)
        client.shutdown(socket.SHUT_WR)
        server.wait_log(f"^s6-tlsd-io: info: unable to complete the handshake with {name}: .")
        server.wait_log(f"{ENDED} 97 count 0/40$")
        with contextlib.suppress(ConnectionError):
            assert b"hello" not in peers.read_all(client)
        assert still_serves(server, site)


def test_a_reset_within_the_handshake(site: Site) -> None:
    with site.serve("cat") as server:
        with peers.connect(server) as client:
            client.sendall(peers.hello())
            client.recv(1)
            peers.reset(client)
        server.wait_log(f"{ENDED} 97 count 0/40$")
        assert still_serves(server, site)


def test_clients_that_say_nothing_delay_nobody_and_time_out(site: Site) -> None:
    with contextlib.ExitStack() as silent, site.serve("cat", options=("-K", "1500")) as server:
        held = [silent.enter_context(peers.connect(server)) for _ in range(20)]
        assert still_serves(server, site)
        assert "too long" not in server.log()
        for client in held:
            server.wait_log(f"unable to complete the handshake with {name_of(client)}: the handshake took too long$")
            assert client.recv(1) == b""
        server.wait_log(f"{ENDED} 97 count", len(held))
        assert still_serves(server, site)


def test_a_session_outlives_the_bound_of_its_handshake(site: Site) -> None:
    by = peers.context(site.authority.file)
    with site.serve("cat", options=("-K", "500")) as server, peers.dial(server, by) as patient:
        patient.sendall(b"1")
        assert patient.recv(1) == b"1"
        with peers.connect(server) as silent:
            server.wait_log(f"{name_of(silent)}: the handshake took too long")
        patient.sendall(b"2")
        assert patient.recv(1) == b"2"


def test_a_reset_in_the_middle_of_an_answer(site: Site) -> None:
    """The program hears of it: by SIGPIPE, which is at its default."""
    by = peers.context(site.authority.file)
    with site.serve("cat", "/dev/zero") as server:
        with peers.dial(server, by) as client:
            engine = processes.engine(server, client)
            client.recv(100_000)
            peers.reset(client)
        server.wait_log(r"end pid \d+ signal 13")
        if site.isolation == "connection":
            processes.await_that(lambda: engine not in kin.family(server.pid))


def test_a_reset_in_the_middle_of_a_request(site: Site) -> None:
    """What had come before gets to the program, then the end of file."""
    by = peers.context(site.authority.file)
    with site.serve("sh", "-c", "read line; echo got $line >&2; wc -c >&2; exit 5") as server:
        with peers.dial(server, by) as client:
            client.sendall(b"one line\n")
            server.wait_log("^got one line$")
            client.sendall(b"12345")
            peers.reset(client)
        server.wait_log(r"end pid \d+ exitcode 5")
        assert re.search("^[0-5]$", server.log(), re.MULTILINE)


def test_garbage_after_the_handshake(site: Site) -> None:
    by = peers.context(site.authority.file)
    with site.serve("sh", "-c", "cat; echo ended >&2") as server, peers.dial(server, by) as client:
        name = name_of(client)
        client.sendall(b"good")
        assert client.recv(10) == b"good"
        socket.socket.sendall(client, b"\x17\x03\x03\x00\x20" + b"?" * 32)
        server.wait_log("^ended$")
        server.wait_log(r"end pid \d+ exitcode 0")
        client.close()  # it is waited for, so that it can read the alert
        server.wait_log(f"^s6-tlsd-io: info: unable to go on with {name}: .")


@pytest.mark.parametrize("politely", [True, False], ids=["close_notify", "bare end of file"])
def test_with_J_only_close_notify_is_an_end(site: Site, politely: bool) -> None:
    by = peers.context(site.authority.file)
    program = ("sh", "-c", "cat; echo ended >&2")
    with site.serve(*program, options=("-J",)) as server, peers.connect(server) as connection:
        complaint = f"unable to go on with {name_of(connection)}: the peer closed the connection without close_notify"
        client = peers.Polite(connection, by)
        client.send(b"words")
        client.end(politely)
        server.wait_log("^ended$")
        server.wait_log(r"end pid \d+ exitcode 0")
        if politely:
            assert client.read_all() == b"words"
        else:
            server.wait_log(complaint)
        assert bool(re.search(complaint, server.log())) != politely


def test_a_client_that_stops_reading_delays_nobody(site: Site) -> None:
    by = peers.context(site.authority.file)
    with contextlib.ExitStack() as stuck, site.serve("sh", "-c", "read n; exec head -c $n /dev/zero") as server:
        for _ in range(8):
            client = stuck.enter_context(peers.dial(server, by, receive_buffer=4096))
            client.sendall(b"50000000\n")
            assert client.recv(1) == b"\0"
        assert peers.answer(server, by, b"1000000\n") == bytes(1000000)


def test_more_clients_than_allowed_wait_or_are_turned_away(site: Site) -> None:
    """-c bounds all clients: the next waits for a place.  -C bounds one address: its next is turned away."""
    by = peers.context(site.authority.file)
    with site.serve("cat", options=("-c", "3", "-C", "2")) as server, contextlib.ExitStack() as clients:
        first = clients.enter_context(peers.dial(server, by))
        clients.enter_context(peers.dial(server, by))
        with peers.connect(server) as third:
            assert third.recv(1) == b""
            server.wait_log(f"reject {name_of(third)} count 2/2")
        clients.enter_context(peers.dial(server, by, source="127.0.0.2"))
        with peers.connect(server, source="127.0.0.3") as waiting:
            first.close()
            with by.wrap_socket(waiting, server_hostname="localhost") as served:
                served.sendall(b"at last")
                assert served.recv(10) == b"at last"
