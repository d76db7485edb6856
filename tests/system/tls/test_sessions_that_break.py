"""Sessions that break, or seem to: what was valid arrives, what explains the end too, and every slot comes back."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import ssl
import subprocess
import termios
from pathlib import Path

import pytest
from tlslite.constants import AlertDescription, AlertLevel
from tlslite.handshakesettings import HandshakeSettings
from tlslite.messages import Alert
from tlslite.tlsconnection import TLSConnection

from tests.support import peers, processes, servers
from tests.support.servers import PATIENCE, Server
from tests.support.site import Site

TRIES = 5
REFUSALS = 20
TO_THE_END = ("sh", "-c", "cat >&2; echo at its end >&2")
BAD = (b"\x17\x03\x03\x00\x20" + b"?" * 32, b"GET / HTTP/1.0\r\n\r\n" * 4)
BREAKS = [(bad, stays) for bad in BAD for stays in (True, False)] * 2
"""A record that nobody has encrypted, or no record at all; and whether the client waits for the end, or is gone."""

EACH_VERSION = pytest.mark.parametrize("version", peers.VERSIONS)
EACH_END = pytest.mark.parametrize("end", ["-s", "-S"])


def assert_slots_are_back(server: Server, count: int) -> None:
    """Wait until `count` sessions are over."""
    server.wait_log(r"^s6-tcpserverd: info: end ", count)
    processes.await_that(lambda: ": status: 0/" in server.log().rpartition(" end pid ")[2])


@pytest.mark.parametrize("upload", [2, 100_000, 1_000_000])
@EACH_VERSION
def test_a_client_reads_why_it_is_refused(site: Site, version: ssl.TLSVersion, upload: int) -> None:
    """In TLS 1.3 the alert comes when the client has begun to send, and it goes on sending before it reads."""
    by = peers.context(site.authority.file, version)
    env = {**site.env, "CAFILE": site.authority.file}

    def reason() -> str:
        with peers.connect(server) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
            try:
                with by.wrap_socket(connection, server_hostname="localhost") as client:
                    client.sendall(bytes(upload))
                    return f"{len(client.recv(10))} bytes"
            except OSError as error:
                return str(getattr(error, "reason", None) or error)

    with site.serve("sh", "-c", "echo it runs >&2", options=("-y",), env=env) as server:
        read = [reason() for _ in range(REFUSALS)]
        assert_slots_are_back(server, REFUSALS)
        assert "it runs" not in server.log()
    wanted = "TLSV13_ALERT_CERTIFICATE_REQUIRED" if version == peers.TLS13 else "SSLV3_ALERT_HANDSHAKE_FAILURE"
    assert read == [wanted] * REFUSALS


@EACH_END
@EACH_VERSION
def test_a_good_record_and_a_bad_one_at_once(site: Site, version: ssl.TLSVersion, end: str) -> None:
    by = peers.context(site.authority.file, version)
    with site.serve(*TO_THE_END, options=(end, "-c", "3")) as server:
        for bad, stays in BREAKS:
            with peers.connect(server) as connection:
                client = peers.Polite(connection, by)
                connection.sendall(client.encrypt(b"hello\n") + bad)
                if stays:
                    servers.read_all(connection)
        assert_slots_are_back(server, len(BREAKS))
        assert times(server, "hello") == times(server, "at its end") == len(BREAKS)


@EACH_END
@pytest.mark.parametrize(
    ("version", "words"),
    [(peers.TLS12, b""), (peers.TLS13, b""), (peers.TLS13, b"hello\n")],
    ids=["1.2", "1.3", "1.3 and words"],
)
def test_a_bad_record_right_behind_the_handshake(site: Site, version: ssl.TLSVersion, words: bytes, end: str) -> None:
    """The handshake is done, so the program runs, gets what is valid, and sees the end."""
    by = peers.context(site.authority.file, version)
    with site.serve(*TO_THE_END, options=(end, "-c", "3")) as server:
        for bad, stays in BREAKS:
            with peers.connect(server) as connection:
                connection.sendall(last_flight(connection, by, words) + bad)
                if stays:
                    servers.read_all(connection)
        assert_slots_are_back(server, len(BREAKS))
        assert times(server, "at its end") == len(BREAKS)
        assert times(server, "hello") == (len(BREAKS) if words else 0)


def times(server: Server, line: str) -> int:
    return server.log().splitlines().count(line)


def last_flight(connection: socket.socket, by: ssl.SSLContext, words: bytes) -> bytes:
    """Shake hands, up to the client's Finished and the record of `words` behind it, which are not sent yet."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = by.wrap_bio(received, sent, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    connection.sendall(sent.read())
    while not sent.pending:
        received.write(connection.recv(65536))
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
    if words:
        tls.write(words)
    return sent.read()


@pytest.mark.parametrize("between", ["nothing", "a pause", "a line"])
@pytest.mark.parametrize("options", [("-s",), ("-S", "-J")], ids=["-s", "-SJ"])
@EACH_VERSION
def test_user_canceled_is_no_end_and_no_failure(
    site: Site, version: ssl.TLSVersion, options: tuple[str, ...], between: str
) -> None:
    """RFC 8446 6.1: it is ignored, and close_notify ends one direction.  Java's clients close so."""
    lines = ["hello", "and more"] if between == "a line" else ["hello"]
    with site.serve("sh", "-c", "cat >&2; echo the answer", options=options) as server:
        for number in range(1, TRIES + 1):
            with peers.connect(server) as connection:
                client = Canceling(connection, version)
                client.send(b"hello\n")
                client.alert(AlertDescription.user_canceled)
                if between == "a pause":
                    server.wait_log("^hello$", number)
                elif between == "a line":
                    client.send(b"and more\n")
                client.alert(AlertDescription.close_notify)
                assert client.read_all() == b"the answer\n"
        for line in lines:
            server.wait_log(f"^{line}$", TRIES)
        assert_slots_are_back(server, TRIES)
        assert "s6-tlsd-io" not in server.log()


class Canceling:
    """A client of tlslite-ng, which sends any alert that it is told to."""

    def __init__(self, connection: socket.socket, version: ssl.TLSVersion) -> None:
        settings = HandshakeSettings()
        settings.minVersion = settings.maxVersion = (3, 4) if version == peers.TLS13 else (3, 3)
        self._tls = TLSConnection(connection)
        self._tls.handshakeClientCert(settings=settings)
        self._tls.ignoreAbruptClose = True  # with -s the end is a bare one

    def send(self, data: bytes) -> None:
        self._tls.send(data)

    def alert(self, description: int) -> None:
        for _ in self._tls._sendMsg(Alert().create(description, AlertLevel.warning)):
            pass

    def read_all(self) -> bytes:
        data = b""
        while piece := self._tls.recv(1000):
            data += piece
        return data


SENT = 800_000
"""More than the buffers between a client and its program hold, unless the kernel's have grown."""


@EACH_END
def test_a_failed_write_leaves_what_the_client_has_sent(site: Site, end: str) -> None:
    """All of it is in the kernel when the client is gone; the program reads it after it has written in vain."""
    by = peers.context(site.authority.file)
    fifo = site.place / "fifo"
    program = "trap '' PIPE; head -c 20000000 >/dev/null; echo ready >&2; read -r go <fifo; echo answer; wc -c >&2"
    subprocess.run(["mkfifo", str(fifo)], check=True)
    with site.serve("sh", "-c", program, options=(end,)) as server:
        client = peers.dial(server, by)
        client.sendall(bytes(20_000_000))  # the kernel has made room for as much as that by then
        server.wait_log("^ready$")
        client.sendall(bytes(SENT))
        processes.await_that(lambda: fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)) == bytes(4))
        peers.reset(client)
        fifo.write_text("go\n")
        server.wait_log(f"^{SENT}$")
        assert_slots_are_back(server, 1)


@EACH_END
def test_a_client_that_has_closed_its_reading_only(tmp_path: Path, end: str) -> None:
    """Writing to it fails at once, and it goes on sending: no TCP, but what carries one direction without the other."""
    site = Site(tmp_path, "connection")
    network, connection = socket.socketpair()
    words = ["s6-tlsd", end, "sh", "-c", "trap '' PIPE; read -r go; echo answer; wc -c >&2"]
    with connection:
        connection.settimeout(PATIENCE)
        with network:
            program = subprocess.Popen(
                words,
                env={**site.env, "PATH": servers.PATH},
                stdin=network.fileno(),
                stdout=network.fileno(),
                stderr=subprocess.PIPE,
            )
        client = peers.Polite(connection, peers.context(site.authority.file))
        connection.shutdown(socket.SHUT_RD)
        client.send(b"go\n")
        client.send(bytes(SENT))
        client.end(politely=True)
        said = program.communicate(timeout=PATIENCE)[1].decode()
    assert str(SENT) in said.splitlines()
    assert program.returncode == 0
