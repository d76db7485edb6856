"""How servers start, or refuse to: in a forked child, which has loaded already all that a server needs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, NoReturn

from s6tls.cli import s6_tcpserver, s6_tlsserver
from s6tls.cli.frame.program import outcome
from tests.support.servers import BIN, PATH

SERVERS: dict[str, ModuleType] = {"s6-tlsserver": s6_tlsserver, "s6-tcpserver": s6_tcpserver}


class Start(NamedTuple):
    """How a start has ended: its exit code, None for a server that was ready, and what it wrote."""

    code: int | None
    stderr: str
    stdout: str


def start(words: Sequence[str], env: Mapping[str, str], place: Path, *options: str) -> Start:
    """Start a server in a directory, with PATH and `env`; one that gets ready is ended, with all that it started."""
    (told, tell), (heard, hear) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _become([words[0], *options, *words[1:]], {"PATH": PATH, **env}, place, tell, hear)
    os.close(tell)
    os.close(hear)
    with os.fdopen(told) as stdout, os.fdopen(heard) as stderr:
        said = stdout.read()
        ready = said.strip().isdigit()
        if ready:
            os.kill(pid, signal.SIGTERM)
        complaints = stderr.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Start(None if ready else code, complaints, said)


def _become(words: list[str], env: Mapping[str, str], place: Path, tell: int, hear: int) -> NoReturn:
    code = 255
    try:
        os.chdir(place)
        os.dup2(tell, 1)
        os.dup2(hear, 2)
        os.closerange(3, max(tell, hear, 64) + 1)
        os.environ.clear()
        os.environ.update(env)
        sys.argv[0] = os.path.join(BIN, words[0])
        command = SERVERS[words[0]]
        code = outcome(command.SYNOPSIS, command.body, [os.fsencode(word) for word in words[1:]])
    finally:
        os._exit(code)
