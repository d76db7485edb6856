"""The stage of s6-tlsd: TLS between the network and the next program.

The next program gets pipes in place of the network; an engine, in a process of its
own, stands between.  The stage is done when the engine says that the handshake is.
"""

from __future__ import annotations

import contextlib
import os
from typing import Protocol

from s6tls.tls import report
from s6tls.tls.descriptors import Descriptors
from s6tls.tls.material import TLS_PREFIXES, TLS_VARIABLES, Options, Sources
from s6tls.ucspi.image import Image, Refused

_BAD_HANDSHAKE = 97
_SYSTEM = 111


class Carrier(Protocol):
    """Whatever puts an engine behind a session's descriptors, and then owns them."""

    def prepare(self, sources: Sources, options: Options) -> None:
        """Get ready for connections with these parameters.  Raises Refused."""

    def carry(self, sources: Sources, options: Options, fds: Descriptors, peer: str) -> None:
        """Start an engine.  Raises Refused, and then does not own the descriptors."""


class Tlsd:
    """Give the next program a TLS session.  `keep` leaves key and certificate variables in its environment."""

    program = "s6-tlsd"

    def __init__(self, options: Options, keep: bool, carrier: Carrier) -> None:
        self._options, self._keep, self._carrier = options, keep, carrier

    def prepare(self, env: dict[bytes, bytes]) -> None:
        """Get ready for clients that no rule gives other parameters.  Raises Refused."""
        self._carrier.prepare(Sources.from_environment(env, self._options), self._options)

    def apply(self, image: Image) -> Handshake:
        """Put an engine between the network and `image`.  Raises Refused (96, 111)."""
        sources = Sources.from_environment(image.env, self._options)
        with contextlib.ExitStack() as unless_carried:
            try:
                ends = _pipes(3, unless_carried)
            except OSError as error:
                raise Refused(self.program, _SYSTEM, f"unable to make pipes: {error.strerror}") from error
            (app_in, to_app), (from_app, app_out), (notified, notify) = ends
            fds = Descriptors(image.stdin, image.stdout, from_app, to_app, notify)
            self._carrier.carry(sources, self._options, fds, _peer(image.env))
            unless_carried.pop_all()
        image.stdin, image.stdout = app_in, app_out
        return Handshake(image, notified, self._keep)


class Handshake:
    """Waits for the engine's word that the handshake is done."""

    def __init__(self, image: Image, notified: int, keep: bool) -> None:
        self._image, self._keep = image, keep
        self.fd = notified
        self._data = b""

    def resume(self) -> bool:
        """Read what the engine says.  Raises Refused (97) when it ends without a handshake, having said why."""
        try:
            data = os.read(self.fd, report.LARGEST)
        except BlockingIOError:
            return False
        self._data += data
        if not data or len(self._data) > report.LARGEST:
            raise Refused(Tlsd.program, _BAD_HANDSHAKE)
        if not self._data.endswith(b"\0\0"):
            return False
        try:
            variables = report.parse(self._data)
        except ValueError as error:
            raise Refused(Tlsd.program, _BAD_HANDSHAKE, f"unable to understand the engine: {error}") from error
        if not self._keep:
            self._image.unset(TLS_VARIABLES)
            self._image.unset([name for name in self._image.env if name.startswith(TLS_PREFIXES)])
        self._image.unset(report.VARIABLES)
        self._image.env.update(variables)
        return True

    def close(self) -> None:
        """Stop listening to the engine."""
        os.close(self.fd)


def _pipes(count: int, cleanup: contextlib.ExitStack) -> list[tuple[int, int]]:
    pipes = []
    for _ in range(count):
        pipe = os.pipe2(os.O_CLOEXEC)
        for fd in pipe:
            cleanup.callback(os.close, fd)
        pipes.append(pipe)
    return pipes


def _peer(env: dict[bytes, bytes]) -> str:
    """Return how log lines name the client: ADDRESS_PORT."""
    proto = env.get(b"PROTO", b"")
    address, port = env.get(proto + b"REMOTEIP", b""), env.get(proto + b"REMOTEPORT", b"")
    return (address + b"_" + port).decode("ascii", "backslashreplace") if address else ""
