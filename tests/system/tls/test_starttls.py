"""Mail over STARTTLS: s6-ucspitlsd in front of a small SMTP server, inside our server and alone under others."""

from __future__ import annotations

import contextlib
import hashlib
import os
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support import peers, processes, servers, superservers
from tests.support.servers import BIN, PATIENCE, Server
from tests.support.site import TLS_GID, TLS_UID, Env, Site

SIZE = 10_000_000
PROGRAM = [sys.executable, "-I", "-S", str(Path(__file__).parents[2] / "support/smtp_starttls.py")]
ENGINE = str(Path(BIN) / "s6-ucspitlsd")
EACH_COMMAND = pytest.mark.parametrize("command", ["y", "Y"])

Connect = Callable[[], socket.socket]
Serve = Callable[..., AbstractContextManager[Connect]]


class Mailer(smtplib.SMTP):
    """Python's SMTP client on a connection of ours."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        super().__init__("localhost", 25)

    def _get_socket(self, _host: str, _port: int, _timeout: float) -> socket.socket:
        return self._connection

    def variables(self) -> dict[str, str]:
        """What the program was told about the session."""
        entries = self.docmd("XENV")[1].decode().split("|")
        return {name: value for name, equals, value in (entry.partition("=") for entry in entries) if equals}


@contextlib.contextmanager
def fused(site: Site, *words: str, env: Env | None = None) -> Iterator[Server]:
    """Serve with s6-ucspitlsd inside s6-tcpserver."""
    argv = ["s6-tcpserver", "-v", "--isolation", site.isolation, "--", "127.0.0.1", "0", "s6-ucspitlsd", *words]
    with servers.server(argv, site.env | (env or {}), cwd=site.place) as server:
        yield server


@pytest.fixture(params=["connection", "worker", "tcpserver", "socat"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Site, Serve]:
    """A site, and what serves `s6-ucspitlsd WORDS` from it in one of the ways there are."""
    alone = {"tcpserver": superservers.tcpserver, "socat": superservers.socat}.get(request.param)
    site = Site(tmp_path, "connection" if alone else request.param)

    @contextlib.contextmanager
    def serve(*words: str) -> Iterator[Connect]:
        if alone is None:
            with fused(site, *words) as server:
                yield server.connect
        else:
            with alone([ENGINE, *words], site.env) as (connect, _):
                yield connect

    return site, serve


@EACH_COMMAND
def test_a_mailer_starts_tls(place: tuple[Site, Serve], command: str) -> None:
    """The session's variables come over the control socket for Y, and nothing for y."""
    site, serve = place
    with serve(*PROGRAM, command) as connect, Mailer(connect()) as mailer:
        mailer.ehlo()
        assert mailer.has_extn("starttls")
        assert mailer.starttls(context=peers.context(site.authority.file))[0] == 220
        assert isinstance(mailer.sock, ssl.SSLSocket)
        cipher = mailer.sock.cipher()
        assert cipher is not None
        told = mailer.variables()
        if command == "y":
            assert told == {}
        else:
            assert (told["SSL_PROTOCOL"], told["SSL_CIPHER"]) == (mailer.sock.version(), cipher[0])
            assert told["SSL_TLS_SNI_SERVERNAME"] == "localhost"


@pytest.mark.parametrize("place", ["connection", "worker", "tcpserver"], indirect=True)
def test_a_program_has_three_more_descriptors(place: tuple[Site, Serve]) -> None:
    _, serve = place
    with serve(*PROGRAM, "y") as connect, Mailer(connect()) as mailer:
        assert mailer.docmd("XFDS") == (250, b"0 1 2 3 4 5")


def test_descriptors_that_a_superserver_leaves_open_stay(tmp_path: Path) -> None:
    left = ["sh", "-c", 'exec 4</dev/null; exec "$@"', "sh", ENGINE]
    numbers = ["sh", "-c", "readlink /proc/$$/fd/4; echo $SSLCTLFD $SSLREADFD $SSLWRITEFD"]
    env = Site(tmp_path, "connection").env
    with superservers.tcpserver([*left, *numbers], env) as (connect, _), connect() as client:
        assert peers.read_all(client) == b"/dev/null\n3 5 6\n"


def test_nothing_is_lost_after_the_change(place: tuple[Site, Serve]) -> None:
    site, serve = place
    text = b"0123456789abcdef" * (SIZE // 16)
    with serve("-S", *PROGRAM, "Y") as connect, Mailer(connect()) as mailer:
        mailer.starttls(context=peers.context(site.authority.file))
        assert mailer.docmd("DATA")[0] == 354
        mailer.send(text + b"\r\n.\r\n")
        assert mailer.getreply() == (250, hashlib.sha256(text).hexdigest().encode())
        assert mailer.docmd("XSEND", str(SIZE))[0] == 250
        assert mailer.file is not None
        assert peers.digest(mailer.file.read(SIZE)) == peers.digest(text)


def test_a_program_need_not_start_tls(place: tuple[Site, Serve]) -> None:
    """When it has ended nobody holds the connection: the engine goes with the control socket."""
    _, serve = place
    with serve(*PROGRAM, "y") as connect, connect() as client:
        client.sendall(b"EHLO me\r\nNOOP\r\nQUIT\r\n")
        assert peers.read_all(client) == b"220 ready\r\n250-hello\r\n250 STARTTLS\r\n250 ok\r\n221 bye\r\n"


def test_a_program_may_end_at_once(place: tuple[Site, Serve]) -> None:
    _, serve = place
    with serve("true") as connect, connect() as client:
        assert peers.read_all(client) == b""


def test_a_program_may_close_the_control_socket(place: tuple[Site, Serve]) -> None:
    """Then it has pipes without an engine, and the connection for itself."""
    _, serve = place
    script = 'eval "exec $SSLCTLFD>&-"; eval "cat <&$SSLREADFD"; echo alone; cat'
    with serve("sh", "-c", script) as connect, connect() as client:
        assert client.recv(6, socket.MSG_WAITALL) == b"alone\n"
        client.sendall(b"in clear")
        client.shutdown(socket.SHUT_WR)
        assert peers.read_all(client) == b"in clear"


def test_a_client_need_not_wait_for_the_answer(place: tuple[Site, Serve]) -> None:
    """Its ClientHello is still in the connection when the engine begins."""
    _, serve = place
    with serve(*PROGRAM, "Y") as connect, connect() as client, client.makefile("rb") as lines:
        client.sendall(b"STARTTLS\r\n" + peers.hello())
        assert [lines.readline() for _ in range(2)] == [b"220 ready\r\n", b"220 go ahead\r\n"]
        assert lines.read(3) == b"\x16\x03\x03"  # a record of a handshake: the ServerHello


def test_openssls_client_starts_tls(site: Site) -> None:
    with fused(site, "-S", *PROGRAM, "Y") as server:
        words = ["openssl", "s_client", "-quiet", "-verify_quiet", "-verify_return_error", "-starttls", "smtp", "-crlf"]
        ran = subprocess.run(
            [*words, "-CAfile", site.authority.file, "-connect", f"127.0.0.1:{server.port}"],
            input=b"XENV\nQUIT\n",
            capture_output=True,
            timeout=PATIENCE,
        )
    assert b"SSL_PROTOCOL=TLSv1.3" in ran.stdout and b"221 bye" in ran.stdout, ran


@EACH_COMMAND
def test_a_client_certificate(site: Site, command: str) -> None:
    """With -y the program can see whose it is, and a client without one gets nowhere."""
    ca = site.authority.file
    with fused(site, "-y", *PROGRAM, command, env={"CAFILE": ca}) as server:
        with Mailer(server.connect()) as mailer:
            mailer.starttls(context=peers.context(ca, pair=site.authority.issue("partner")))
            subject = mailer.variables().get("SSL_PEER_CERT_SUBJECT", "")
            assert subject.startswith("CN=partner,") == (command == "Y")
        with server.connect() as client, client.makefile("rb", 0) as lines:
            client.sendall(b"STARTTLS\r\n")
            assert [lines.readline() for _ in range(2)] == [b"220 ready\r\n", b"220 go ahead\r\n"]
            with (
                contextlib.suppress(OSError),
                peers.context(ca).wrap_socket(client, server_hostname="localhost") as tls,
            ):
                tls.sendall(b"NOOP\r\n")
                assert tls.recv(1) == b""
        server.wait_log("unable to complete the handshake with 127.0.0.1_.*peer did not return a certificate")
        server.wait_log(rf"end pid \d+ exitcode {7 if command == 'Y' else 0} ", 1 if command == "Y" else 2)


def test_a_failed_handshake_ends_the_connection_and_closes_the_control_socket(site: Site) -> None:
    """The program, which holds the connection, too, cannot be led on in clear."""
    with fused(site, "sh", "-c", "printf Y >&$SSLCTLFD; cat <&$SSLCTLFD; echo in clear; cat") as server:
        with server.connect() as client:
            client.sendall(b"QUIT\r\n" * 100)
            assert b"in clear" not in servers.read_all(client)
        server.wait_log("unable to complete the handshake with 127.0.0.1_")
        server.wait_log(r"end pid \d+ signal 13 ")  # it has tried
        server.wait_log(r"status: 0/40$", 2)


def test_another_command_is_refused(site: Site) -> None:
    with fused(site, *PROGRAM, "x") as server, server.connect() as client:
        client.sendall(b"STARTTLS\r\nNOOP\r\n")
        server.wait_log("^s6-tlsd-io: fatal: unrecognized command on control socket$")


def test_who_waits_and_with_what(site: Site) -> None:
    """An engine under TLS_UID waits; with a process of its own for each connection it holds nothing but that one."""
    with fused(site, *PROGRAM, "Y") as server, Mailer(server.connect()) as mailer:
        program = int(server.wait_log(r"accept 127\.0\.0\.1_\d+ pid (\d+)")[1])
        assert isinstance(mailer.sock, socket.socket)
        before = mailer.sock

        def engines() -> list[int]:
            return [pid for pid in processes.holders(server, before) if pid != program]

        processes.await_that(lambda: len(engines()) == 1)
        (engine,) = engines()
        found = processes.status(engine)
        assert found["Uid"].split() == [str(TLS_UID)] * 4 and found["Gid"].split() == [str(TLS_GID)] * 4
        if site.isolation == "connection":
            processes.await_that(lambda: len(processes.sockets(engine)) == 2)  # the client's, and the program's
        assert mailer.docmd("NOOP")[0] == 250
        mailer.starttls(context=peers.context(site.authority.file))
        assert mailer.variables()["SSL_PROTOCOL"] == "TLSv1.3"


def test_without_a_key_no_program_starts(site: Site) -> None:
    with fused(site, *PROGRAM, "y") as server:
        os.unlink(site.pair.key)
        assert server.exchange(b"EHLO me\r\n") == b""
        server.wait_log(r"end pid \d+ exitcode 96")


def test_the_servers_end_leaves_waiting_engines_to_their_programs(site: Site) -> None:
    with fused(site, *PROGRAM, "Y") as server, Mailer(server.connect()) as mailer:
        server.signal(15)
        assert server.wait() == 0
        mailer.starttls(context=peers.context(site.authority.file))
        assert mailer.variables()["SSL_PROTOCOL"] == "TLSv1.3"


BLOCKING = """
import os, socket, sys
control, reading, writing = (int(os.environ[name]) for name in ("SSLCTLFD", "SSLREADFD", "SSLWRITEFD"))
os.write(control, b"y")
while data := os.read(reading, 4096):
    os.set_blocking(0, True)
    os.write(writing, data)
"""


def test_a_program_that_makes_its_connection_blocking_holds_up_nobody(site: Site) -> None:
    """O_NONBLOCK is a flag that engine and program share."""
    by = peers.context(site.authority.file)
    with (
        fused(site, "-S", sys.executable, "-I", "-S", "-c", BLOCKING) as server,
        contextlib.ExitStack() as clients,
    ):
        dialled = [clients.enter_context(peers.dial(server, by)) for _ in range(6)]
        for _ in range(3):
            for client in dialled:
                client.sendall(b"a")
                assert client.recv(1) == b"a"
