"""Clients have users, and IDENT servers say who they are, or something else."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.lookups import serving, visit
from tests.support.nameserver import PTR, Asked, Puppet, bound
from tests.support.servers import read_all


@contextlib.contextmanager
def identd(answer: Callable[[bytes], bytes | None]) -> Iterator[str]:
    """An IDENT server that gives `answer` to each question, None is silence; yield its address, the client's to be."""
    with bound(113) as listener:
        listener.listen()
        silenced: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    said = answer(connection.recv(1000))
                    if said is None:
                        silenced.append(connection)
                        continue
                    with connection:
                        connection.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[0]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in silenced:
                connection.close()


def test_t_bounds_ident_and_forward_names_too(tmp_path: Path) -> None:
    def script(asked: Asked) -> bytes | None:
        return asked.names("a.test") if asked.kind == PTR else None

    with Puppet(script) as puppet, serving(puppet.address, "-t", "100", "-p") as server:
        assert visit(server, "127.9.0.1") == ""
        server.wait_log(r"exitcode 99 count")
    with identd(lambda _: None) as client, Puppet(script) as puppet, serving(puppet.address, "-t100", "-rH") as server:
        assert visit(server, client) == ""
        server.wait_log(r"exitcode 99 count")


def test_ident_names_the_user(real: str) -> None:
    asked: list[bytes] = []

    def answer(question: bytes) -> bytes:
        asked.append(question)
        return question.strip() + b" : USERID : UNIX : alice\r\n"

    with identd(answer) as source, serving(real, "-r", "-l", "here") as server:
        with server.connect(source=source) as client:
            port = client.getsockname()[1]
            assert read_all(client) == b"none here alice\n"
        assert asked == [b"%d, %d\r\n" % (port, server.port)]


@pytest.mark.parametrize(
    "answer",
    [b"", b"rubbish\r\n", b"1, 2 : USERID : UNIX : root\r\n", b"x" * 5000],
    ids=["none", "rubbish", "another's", "long"],
)
def test_bad_ident_answers_refuse_only_with_w(real: str, answer: bytes) -> None:
    with identd(lambda _: answer) as client:
        with serving(real, "-r", "-H") as server:
            assert visit(server, client) == "none none none"
            server.wait_log(rf"warning: unable to look up {client}: IDENT: ")
        with serving(real, "-r", "-H", "-w") as server:
            assert visit(server, client) == ""
            server.wait_log("exitcode 111 count")


def test_no_ident_server_is_no_failure(real: str) -> None:
    with serving(real, "-r", "-w") as server:
        assert visit(server, "127.9.0.1") == "one.test here.test none"
