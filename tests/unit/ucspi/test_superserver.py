"""The super-server, where no real client brings it: the system's refusals."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable

import pytest

from s6tls.posix.reactor import Reactor
from s6tls.ucspi.image import SERVER, Chain, Deadline, Image, StageExit, Waiting
from s6tls.ucspi.ledger import Ledger, Limits
from s6tls.ucspi.log import Log
from s6tls.ucspi.status.counts import Uncounted
from s6tls.ucspi.superserver import SuperServer
from tests.support.children import in_child
from tests.support.servers import PATIENCE

CLIENTS = 3


class Unattended:
    """A lifecycle in which nothing is to be done."""

    def ready(self) -> None: ...

    def reread(self) -> None: ...

    def reaped(self, pid: int, status: int) -> None: ...

    def stopping(self) -> None: ...

    def close(self) -> None: ...

    def stopped(self) -> None: ...


class Refused:
    """A stage for which the system has nothing to spare; it stops the server after the last client."""

    program = "s6-tlsd"

    def __init__(self, reactor: Reactor, number: int) -> None:
        self._reactor, self._number, self._left = reactor, number, CLIENTS

    def apply(self, image: Image) -> None:
        self._left -= 1
        if not self._left:
            self._reactor.soon(self._reactor.stop)
        raise OSError(self._number, os.strerror(self._number))


@pytest.mark.parametrize(
    ("number", "lines"), [(errno.EAGAIN, 1), (errno.ENOMEM, 1), (errno.ENOSPC, CLIENTS)], ids=errno.errorcode.get
)
def test_a_shortage_is_one_line_however_many_clients_meet_it(
    number: int, lines: int, capfd: pytest.CaptureFixture[str]
) -> None:
    def serve() -> None:
        reactor = Reactor()
        chain = Chain({}, [Refused(reactor, number)], [b"true"])
        ledger = Ledger(Limits(), Log(SERVER, 1), reactor.after)
        SuperServer(reactor, listener, chain, ledger, Unattended(), Uncounted()).serve()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        clients = [socket.create_connection(listener.getsockname(), PATIENCE) for _ in range(CLIENTS)]
        assert in_child(serve) == "None"
        for client in clients:
            client.close()
    assert capfd.readouterr().err.count(os.strerror(number)) == lines


class Asks:
    """A stage that waits for an answer to the first client, which comes just before the second; it lets nobody in."""

    program = "s6-tlsd"
    deadline: Deadline | None = None

    def __init__(self, reactor: Reactor, connect: Callable[[], object]) -> None:
        self._reactor, self._connect = reactor, connect
        self.fd, self._answering = os.pipe2(os.O_NONBLOCK)
        self.seen: list[str] = []

    def apply(self, image: Image) -> Waiting:
        self.seen.append("client")
        if len(self.seen) > 1:
            raise StageExit(self.program, 1)
        self._reactor.soon(self._answer)
        return self

    def _answer(self) -> None:
        os.write(self._answering, b"!")
        self._connect()

    def resume(self) -> bool:
        self.seen.append("answer")
        self._reactor.after(0, self._reactor.stop)
        raise StageExit(self.program, 1)

    def close(self) -> None: ...


class Aborts:
    """A stage that lets nobody in: at the first client the server is to end at once, just before the second comes."""

    program = "s6-tlsd"

    def __init__(self, reactor: Reactor, number: signal.Signals, connect: Callable[[], object]) -> None:
        self._reactor, self._number, self._connect = reactor, number, connect
        self.seen = 0

    def apply(self, image: Image) -> None:
        self.seen += 1
        if self.seen == 1:
            self._reactor.soon(self._end)
        raise StageExit(self.program, 1)

    def _end(self) -> None:
        os.kill(os.getpid(), self._number)
        self._connect()


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGABRT])
def test_nobody_is_let_in_after_the_signal_that_ends_all_connections(number: signal.Signals) -> None:
    def serve() -> int:
        reactor = Reactor()
        aborts = Aborts(reactor, number, lambda: clients.append(socket.create_connection(address, PATIENCE)))
        chain = Chain({}, [aborts], [b"true"])
        ledger = Ledger(Limits(), Log(SERVER, 1), reactor.after)
        SuperServer(reactor, listener, chain, ledger, Unattended(), Uncounted()).serve()
        return aborts.seen

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = listener.getsockname()
        clients = [socket.create_connection(address, PATIENCE)]
        assert in_child(serve) == "1"
        for client in clients:
            client.close()


@pytest.mark.parametrize("drain_s", [0, 1])
def test_who_is_there_at_sigterm_is_taken_and_the_socket_closed_at_once(drain_s: float) -> None:
    """It stayed open until the process had gone, and the kernel reset who came meanwhile."""

    def serve() -> list[tuple[int, bool]]:
        reactor = Reactor()
        aborts = Aborts(reactor, signal.SIGTERM, lambda: clients.append(socket.create_connection(address, PATIENCE)))
        seen: list[tuple[int, bool]] = []

        class Looks(Unattended):
            def stopping(self) -> None:
                seen.append((aborts.seen, listener.fileno() < 0))

        chain = Chain({}, [aborts], [b"true"])
        ledger = Ledger(Limits(drain_s=drain_s), Log(SERVER, 1), reactor.after)
        SuperServer(reactor, listener, chain, ledger, Looks(), Uncounted()).serve()
        return seen

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = listener.getsockname()
        clients = [socket.create_connection(address, PATIENCE)]
        assert in_child(serve) == "[(2, True)]"
        for client in clients:
            client.close()


def test_a_new_client_is_taken_before_the_program_of_another_is_started() -> None:
    """Whoever works for the new one does so while the program is started, which takes long."""

    def serve() -> str:
        reactor = Reactor()
        asks = Asks(reactor, lambda: clients.append(socket.create_connection(listener.getsockname(), PATIENCE)))
        chain = Chain({}, [asks], [b"true"])
        ledger = Ledger(Limits(), Log(SERVER, 1), reactor.after)
        SuperServer(reactor, listener, chain, ledger, Unattended(), Uncounted()).serve()
        return " ".join(asks.seen)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        clients = [socket.create_connection(listener.getsockname(), PATIENCE)]
        assert in_child(serve) == repr("client client answer")
        for client in clients:
            client.close()
