"""Delayed encryption, UCSPI-TLS: the stage of s6-ucspitlsd.  How its engine waits is `s6tls.tls.delayed`.

The next program talks to the network in clear, and finds in its environment the numbers of three more descriptors: a
control socket (SSLCTLFD), and two pipes (SSLREADFD, SSLWRITEFD) to an engine that waits.  UCSPITLS says that there is
one; a rule may have said more there. When the program writes one of two commands on the control socket, the engine
does the handshake, and from then on the program uses the pipes:

- ``y``: the engine says nothing, and closes its end of the control socket.
- ``Y``: when the handshake is done, the engine writes the session's variables as NUL-terminated
  ``NAME=value`` strings and one more NUL, then closes its end.  Without a handshake it only closes.

Program and engine have the connection open at the same time.  So a waiting engine neither reads
from it nor changes its flags, and the end of a session ends the connection for both: what should be
encrypted is never sent in clear.
"""

from __future__ import annotations

import os
from dataclasses import replace

from s6tls.posix.descriptors import Opened
from s6tls.posix.exitcodes import ExitCode
from s6tls.stages.preparation import Preparation
from s6tls.stages.tlsd import EngineStarter, get_ready, unset_parameters
from s6tls.tls.credentials import SESSION_VARIABLES, SessionOptions
from s6tls.tls.delayed import PROGRAM
from s6tls.tls.ends import Descriptors
from s6tls.tls.engines.account import Account
from s6tls.tls.parameters import KnownParameters
from s6tls.ucspi.image import Image, StageExit, peer

_SYSTEM = ExitCode.SYSTEM


class Ucspitlsd:
    """Let the next program start TLS when it wants.  `keep` leaves key and certificate variables in its environment."""

    program = PROGRAM

    def __init__(self, options: SessionOptions, keep: bool, starter: EngineStarter) -> None:
        self._options, self._keep, self._starter = replace(options, delayed=True), keep, starter
        self._parameters = KnownParameters(self._options)

    def prepare(self, preparation: Preparation) -> None:
        """Get ready for clients that no rule gives other parameters.  Raises StageExit (96, 111)."""
        get_ready(self.program, self._starter, self._parameters, preparation)

    def apply(self, image: Image) -> None:
        """Have an engine wait beside `image`, and give that the ways to it.  Raises StageExit (96, 111)."""
        parameters = self._parameters.of(image.env)
        with Opened() as opened:
            try:
                app_in, to_app = opened.pipe()
                from_app, app_out = opened.pipe()
                control, command = opened.socket_pair()
                network = {fd: opened.another(fd) for fd in {image.stdin, image.stdout}}
                told, account = opened.pipe() if self._starter.gives_accounts else (None, None)
            except OSError as error:
                raise StageExit(PROGRAM, _SYSTEM, f"unable to make pipes: {error.strerror}") from error
            fds = Descriptors(network[image.stdin], network[image.stdout], from_app, to_app, command, account)
            self._starter.submit(parameters, fds, peer(image.env))
        if told is not None:
            os.set_blocking(told, False)
            image.session = Account(told, b"", peer(image.env), {}, image.rule, self._options.silence_s)
        if not self._keep:
            unset_parameters(image)
        image.unset(SESSION_VARIABLES)
        for name, fd in ((b"SSLCTLFD", control), (b"SSLREADFD", app_in), (b"SSLWRITEFD", app_out)):
            image.env[name] = b"%d" % image.hand(fd)
        image.env.setdefault(b"UCSPITLS", b"")
