"""Delayed encryption, UCSPI-TLS: the stage of s6-ucspitlsd, and how its engine waits.

The next program talks to the network in clear, and finds in its environment the numbers of
three more descriptors: a control socket (SSLCTLFD), and two pipes (SSLREADFD, SSLWRITEFD)
to an engine that waits.  When the program writes one of two commands on the control
socket, the engine does the handshake, and from then on the program uses the pipes:

- ``y``: the engine says nothing, and closes its end of the control socket.
- ``Y``: when the handshake is done, the engine writes the session's variables as NUL-terminated
  ``NAME=value`` strings and one more NUL, then closes its end.  Without a handshake it only closes.

Program and engine have the connection open at the same time, so an engine that waits neither reads
from it nor changes its flags, and one that has begun ends it for both: what was to be
encrypted never goes on in clear.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from s6tls.posix.reactor import READABLE
from s6tls.stages.tlsd import Carrier, peer, pipes, unset_parameters
from s6tls.tls.credentials import SESSION_VARIABLES, Options, Sources
from s6tls.tls.descriptors import Descriptors
from s6tls.ucspi.image import Image, Refused
from s6tls.ucspi.log import log

if TYPE_CHECKING:
    from s6tls.posix.reactor import Reactor

PROGRAM = "s6-ucspitlsd"
_BAD_COMMAND = 100
_SYSTEM = 111


class Ucspitlsd:
    """Let the next program start TLS when it wants.  `keep` leaves key and certificate variables in its environment."""

    program = PROGRAM

    def __init__(self, options: Options, keep: bool, carrier: Carrier) -> None:
        self._options, self._keep, self._carrier = replace(options, delayed=True), keep, carrier

    def prepare(self, env: dict[bytes, bytes]) -> None:
        """Get ready for clients that no rule gives other parameters.  Raises Refused."""
        self._carrier.prepare(Sources.from_environment(env, self._options), self._options)

    def apply(self, image: Image) -> None:
        """Have an engine wait beside `image`, and give that the ways to it.  Raises Refused (96, 111)."""
        sources = Sources.from_environment(image.env, self._options)
        with contextlib.ExitStack() as unless_carried:
            try:
                (app_in, to_app), (from_app, app_out) = pipes(2, unless_carried)
                control, command = _socket_pair(unless_carried)
                network = {fd: _copy(fd, unless_carried) for fd in {image.stdin, image.stdout}}
            except OSError as error:
                raise Refused(PROGRAM, _SYSTEM, f"unable to make pipes: {error.strerror}") from error
            fds = Descriptors(network[image.stdin], network[image.stdout], from_app, to_app, command)
            self._carrier.carry(sources, self._options, fds, peer(image.env))
            unless_carried.pop_all()
        if not self._keep:
            unset_parameters(image)
        image.unset(SESSION_VARIABLES)
        for name, fd in ((b"SSLCTLFD", control), (b"SSLREADFD", app_in), (b"SSLWRITEFD", app_out)):
            image.env[name] = b"%d" % image.hand(fd)


def await_command(
    reactor: Reactor, fds: Descriptors, begin: Callable[[Descriptors], object], ended: Callable[[int], None]
) -> None:
    """Call `begin`, with the descriptors for the session, when a command comes on `fds.notify`.

    If none ever will, or no such command exists, close them all and call `ended` with the exit code.
    """
    os.set_blocking(fds.notify, False)

    def take(_: int) -> None:
        try:
            command = os.read(fds.notify, 1)
        except BlockingIOError:
            return
        except OSError:
            command = b""
        reactor.forget(fds.notify)
        if command == b"Y":
            os.set_blocking(fds.notify, True)
            begin(fds)
        elif command == b"y":
            os.close(fds.notify)
            begin(replace(fds, notify=-1))
        else:
            if command:
                log(PROGRAM, "fatal", "unrecognized command on control socket")
            fds.close()
            ended(_BAD_COMMAND if command else 0)

    reactor.watch(fds.notify, READABLE, take)


def _socket_pair(cleanup: contextlib.ExitStack) -> tuple[int, int]:
    ours, theirs = (end.detach() for end in socket.socketpair())
    for fd in (ours, theirs):
        cleanup.callback(os.close, fd)
    return ours, theirs


def _copy(fd: int, cleanup: contextlib.ExitStack) -> int:
    copy = os.dup(fd)
    cleanup.callback(os.close, copy)
    return copy
