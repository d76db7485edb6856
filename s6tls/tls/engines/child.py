"""An engine as a child of the process whose descriptors it takes: s6-tlsd on its own."""

from __future__ import annotations

import os
from collections.abc import Callable

from s6tls.posix.process import fork
from s6tls.tls.credentials import BAD_HANDSHAKE
from s6tls.tls.ends import Descriptors
from s6tls.tls.parameters import TlsParameters
from s6tls.ucspi.spawn import exits


class ForkedEngine:
    """Starts an engine by forking."""

    gives_accounts = False

    def prepare(self, parameters: TlsParameters) -> None:
        """Nothing can be got ready for a single connection."""

    def expect_end(self, notified: int) -> None:
        """Nobody gives a client up here: the engine has a deadline, and is waited for."""

    def submit(self, parameters: TlsParameters, fds: Descriptors, peer: str) -> Callable[[], int]:
        """Fork an engine.  Raises StageExit when the files cannot be read."""
        credentials = parameters.paths.read()
        pid = fork()
        if pid == 0:
            with exits():
                from s6tls.tls.engines import engine

                fds.close_others()
                context = engine.confine_and_load(parameters, credentials)
                engine.enter_jail(parameters.options)
                raise SystemExit(engine.run(context, parameters.options, fds, peer))
        fds.close()
        return lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) or BAD_HANDSHAKE
