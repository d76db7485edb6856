"""--socket: a program has one socket on 0 and 1, and loses nothing by it."""

from __future__ import annotations

import random
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.support import peers, servers
from tests.support.servers import PATIENCE
from tests.support.site import Authority, Site, of

MB = 10**6
WHAT_IT_HAS = """
import os, socket, stat
same = os.fstat(0).st_ino == os.fstat(1).st_ino
end = socket.socket(fileno=os.dup(0))
kind = end.family == socket.AF_UNIX and end.type == socket.SOCK_STREAM
numbers = [name for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name) and int(name) > 2]
print(same, kind, repr(end.getpeername()), end.getblocking(), numbers == [str(end.fileno())], flush=True)
"""
WRITES_AND_LEAVES = 'n=${SSL_TLS_SNI_SERVERNAME%%.*}; exec head -c "${n#n}" blob'
ENDS_ITS_OUTPUT_AND_COUNTS = """
import os, socket
end = socket.socket(fileno=0)
end.sendall(b"bye")
end.shutdown(socket.SHUT_WR)
count = 0
while data := end.recv(65536):
    count += len(data)
os.write(2, b"the program read %d bytes\\n" % count)
"""
SOCKET = ("--socket",)


def test_a_program_finds_one_socket_and_nothing_else(site: Site) -> None:
    by = peers.context(site.authority.file)
    with site.serve("/usr/bin/python3", "-Ic", WHAT_IT_HAS, options=SOCKET) as server:
        assert peers.answer(server, by) == b"True True '' True True\n"


def test_answers_of_programs_that_write_and_exit(site: Site) -> None:
    """Half of their clients have said something that nobody reads: the end of such a program resets the socket."""
    whole = random.Random(3).randbytes(MB)
    (site.place / "blob").write_bytes(whole)
    by = peers.context(site.authority.file)
    by.check_hostname = False
    chance = random.Random(12)
    sizes = [0, 1, 16384, 65537, MB, *(int(10 ** chance.uniform(0, 6)) for _ in range(25))]
    with site.serve("sh", "-c", WRITES_AND_LEAVES, options=SOCKET) as server, peers.crowd(4) as crowd:

        def ask(size: int) -> str | None:
            with peers.dial(server, by, f"n{size}.test") as client:
                if size % 2:
                    client.sendall(b"unheard")
                got = peers.read_all(client)
            return None if got == whole[:size] else f"{len(got)} of {size}"

        assert [bad for bad in crowd.map(ask, sizes) if bad] == []


def test_ten_megabytes_each_way_at_once(site: Site) -> None:
    sent = random.Random(40).randbytes(10 * MB)
    by = peers.context(site.authority.file)
    with site.serve("cat", options=SOCKET) as server, peers.dial(server, by) as client:
        assert peers.duplex(client, sent) == sent


def test_each_direction_ends_alone(site: Site) -> None:
    """The client's end is one that the program reads, and the program may shut its own down and go on reading."""
    by = peers.context(site.authority.file)
    with site.serve("sha256sum", options=SOCKET) as server, peers.dial(server, by) as client:
        client.sendall(bytes(MB))
        peers.send_eof(client)
        assert peers.read_all(client) == f"{peers.digest(bytes(MB))}  -\n".encode()
    program = ("/usr/bin/python3", "-Ic", ENDS_ITS_OUTPUT_AND_COUNTS)
    with site.serve(*program, options=SOCKET) as server, peers.connect(server) as connection:
        polite = peers.Polite(connection, by)
        assert polite.read_all() == b"bye"
        polite.send(bytes(MB))
        polite.end(politely=True)
        server.wait_log(f"^the program read {MB} bytes$")
        server.wait_log("end pid [0-9]+ exitcode 0")


def test_a_program_that_never_reads_and_one_that_dies_harm_only_their_own_client(site: Site) -> None:
    by = peers.context(site.authority.file)
    program = "case $SSL_TLS_SNI_SERVERNAME in idle*) exec sleep 1000;; dies*) kill -9 $$;; esac; exec cat"
    by.check_hostname = False
    with site.serve("sh", "-c", program, options=SOCKET) as server, peers.dial(server, by, "idle.test") as stuck:
        stuck.setblocking(False)
        with pytest.raises((BlockingIOError, ssl.SSLWantWriteError)):
            while True:
                stuck.send(bytes(65536))
        with peers.dial(server, by, "dies.test") as client:
            assert peers.read_all(client) == b""
        assert peers.answer(server, by, b"hello") == b"hello"


def test_the_command_alone(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    words = [f"{servers.BIN}/s6-tlsd", "--socket", "/usr/bin/python3", "-Ic", WHAT_IT_HAS]
    network, client = socket.socketpair()
    with network, client:
        client.settimeout(PATIENCE)
        env = {"PATH": servers.PATH, **of(authority.issue("localhost"))}
        command = subprocess.Popen(words, env=env, stdin=network.fileno(), stdout=network.fileno())
        network.close()
        with peers.context(authority.file).wrap_socket(client, server_hostname="localhost") as tls:
            assert peers.read_all(tls) == b"True True '' True True\n"
        assert command.wait(PATIENCE) == 0
