"""One lookup: a client's host names from the DNS or /etc/hosts and its user from IDENT, asked for in parallel."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from s6tls.helper import ident
from s6tls.helper.names import in_hosts_file
from s6tls.helper.resolver import Cancel, Resolver
from s6tls.helper.variables import ERROR, LOCAL_HOST, REMOTE_HOST, REMOTE_INFO
from s6tls.posix.reactor import BROKEN, READABLE, WRITABLE, Reactor

_HOSTS = "/etc/hosts"


@dataclass(frozen=True)
class LookupRequest:
    """What to find out about a connection.

    Addresses are 4 or 16 bytes.  `remote_name` and `local_name` ask for host names, `hosts` looks into
    /etc/hosts first, `paranoid` drops a remote name that does not lead back to the address, `user` asks IDENT.
    """

    remote: bytes
    local: bytes
    remote_port: int = 0
    local_port: int = 0
    remote_name: bool = True
    local_name: bool = True
    hosts: bool = False
    paranoid: bool = False
    user: bool = False


class Lookup:
    """Looks one client up, and calls `done` once with the variables found.

    ERROR among them says why something could not be found out; an unknown name or user is no error.
    """

    def __init__(
        self,
        reactor: Reactor,
        resolver: Resolver,
        request: LookupRequest,
        done: Callable[[dict[bytes, bytes]], None],
        ident_timeout_s: float = ident.TIMEOUT_S,
    ) -> None:
        self._resolver, self._request, self._done = resolver, request, done
        self._found: dict[bytes, bytes] = {}
        self._open = 1
        self._cancels: list[Cancel] = []
        if request.remote_name and not self._in_hosts(REMOTE_HOST, request.remote):
            self._open += 1
            self._cancels.append(resolver.names(request.remote, self._remote_names))
        if request.local_name and not self._in_hosts(LOCAL_HOST, request.local):
            self._open += 1
            self._cancels.append(resolver.names(request.local, self._local_names))
        if request.user:
            self._open += 1
            self._cancels.append(_IdentCall(reactor, request, ident_timeout_s, self._user).close)
        self._close_one()

    def abandon(self) -> None:
        """Give up: `done` is not called any more."""
        self._open = 0
        for cancel in self._cancels:
            cancel()

    def _in_hosts(self, variable: bytes, address: bytes) -> bool:
        if self._request.hosts:
            try:
                with open(_HOSTS, "rb") as lines:
                    name = in_hosts_file(lines, address)
            except FileNotFoundError:
                return False
            except OSError as error:
                self._note(f"{_HOSTS}: {error.strerror}")
                return False
            self._take(variable, [] if name is None else [name])
        return variable in self._found

    def _remote_names(self, names: list[bytes], problem: str) -> None:
        self._note(problem)
        if self._request.paranoid:
            self._check_forward(names)
        else:
            self._take(REMOTE_HOST, names)
            self._close_one()

    def _local_names(self, names: list[bytes], problem: str) -> None:
        self._note(problem)
        self._take(LOCAL_HOST, names)
        self._close_one()

    def _check_forward(self, names: list[bytes]) -> None:
        """Take the first of `names` that has the client's address; a failure ends the search.

        Otherwise a stranger's names could take eight times the time, or the work, of one.
        """
        if not names:
            self._close_one()
            return
        remote = self._request.remote
        family = socket.AF_INET if len(remote) == 4 else socket.AF_INET6

        def checked(addresses: list[bytes], problem: str) -> None:
            self._note(problem)
            if remote in addresses:
                self._take(REMOTE_HOST, names)
            if remote in addresses or problem:
                self._close_one()
            else:
                self._check_forward(names[1:])

        self._cancels.append(self._resolver.addresses(names[0], family, checked))

    def _user(self, name: bytes, problem: str) -> None:
        self._note(problem)
        self._take(REMOTE_INFO, [name] if name else [])
        self._close_one()

    def _take(self, variable: bytes, values: list[bytes]) -> None:
        if values:
            self._found[variable] = values[0]

    def _note(self, problem: str) -> None:
        if problem:
            self._found[ERROR] = problem.encode("ascii", "backslashreplace")

    def _close_one(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._done(self._found)


class _IdentCall:
    """Asks the client's host, from the address that the client connected to."""

    def __init__(
        self, reactor: Reactor, request: LookupRequest, timeout_s: float, answer: Callable[[bytes, str], None]
    ) -> None:
        self._reactor, self._answer = reactor, answer
        self._ports = request.remote_port, request.local_port
        self._line = b""
        family = socket.AF_INET if len(request.remote) == 4 else socket.AF_INET6
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._timer = reactor.after(timeout_s, lambda: self._finish(b"", "IDENT: no answer in time"))
        self._asked = self._watched = False
        try:
            self._socket.bind((socket.inet_ntop(family, request.local), 0))
            with contextlib.suppress(BlockingIOError):
                self._socket.connect((socket.inet_ntop(family, request.remote), ident.PORT))
        except OSError as error:
            problem = error
            reactor.soon(lambda: self._failed(problem))
            return
        self._watched = True
        reactor.watch(self._socket.fileno(), READABLE | WRITABLE, self._changed)

    def _changed(self, events: int) -> None:
        try:
            if not self._asked and events & (WRITABLE | BROKEN):
                self._asked = True
                self._socket.send(ident.question(*self._ports))
            while True:
                data = self._socket.recv(ident.LONGEST_ANSWER)
                self._line += data
                if not data or b"\n" in self._line or len(self._line) > ident.LONGEST_ANSWER:
                    break
            name = ident.read_answer(self._line, *self._ports)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(error)
        except ident.IdentError as error:
            self._finish(b"", f"IDENT: {error}")
        else:
            self._finish(name, "")

    def _failed(self, error: OSError) -> None:
        """Nobody listens there: the client's host does not say, which is no error.  Anything else is one."""
        silent = isinstance(error, ConnectionRefusedError)
        self._finish(b"", "" if silent else f"IDENT: {error.strerror or os.strerror(error.errno or 0)}")

    def _finish(self, name: bytes, problem: str) -> None:
        if self._socket.fileno() >= 0:
            self.close()
            self._answer(name, problem)

    def close(self) -> None:
        """Give up."""
        self._timer.cancel()
        if self._socket.fileno() >= 0:
            if self._watched:
                self._reactor.forget(self._socket.fileno())
            self._socket.close()
