"""Superservers that are not ours: the standalone commands have to work under each of them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.servers import PATH, PATIENCE, Log

Connect = Callable[[], socket.socket]


@contextlib.contextmanager
def _running(words: Sequence[str], env: Mapping[str, str] | None) -> Iterator[tuple[subprocess.Popen[bytes], Log]]:
    """Run a superserver in a process group of its own, and end it with all its children."""
    process = subprocess.Popen(
        words,
        env={"PATH": PATH, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stderr is not None
    log = Log(process.stderr)
    try:
        yield process, log
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
        log.close()
        process.stdout.close()


def _first_line(process: subprocess.Popen[bytes], log: Log) -> str:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], PATIENCE)[0], f"the superserver does not start:\n{log.text()}"
    return process.stdout.readline().decode()


@contextlib.contextmanager
def tcpserver(prog: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[tuple[Connect, Log]]:
    """Serve `prog` under ucspi-tcp's tcpserver; the variables of UCSPI are its own."""
    with _running(["tcpserver", "-1HRl", "localhost", "127.0.0.1", "0", *prog], env) as (process, log):
        port = int(_first_line(process, log))
        yield lambda: socket.create_connection(("127.0.0.1", port), PATIENCE), log


@contextlib.contextmanager
def socat(prog: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[tuple[Connect, Log]]:
    """Serve `prog` under socat, which knows nothing of UCSPI: a shell translates its variables."""
    translated = {
        "PROTO": "TCP",
        "TCPLOCALIP": "$SOCAT_SOCKADDR",
        "TCPLOCALPORT": "$SOCAT_SOCKPORT",
        "TCPREMOTEIP": "$SOCAT_PEERADDR",
        "TCPREMOTEPORT": "$SOCAT_PEERPORT",
    }
    script = "export " + " ".join(f"{name}={value}" for name, value in translated.items()) + '; eval "exec $PROG"'
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in prog)
    words = ["socat", "-d", "-d", "TCP-LISTEN:0,bind=127.0.0.1,fork", 'SYSTEM:eval "$SCRIPT",nofork']
    with _running(words, {**(env or {}), "SCRIPT": script, "PROG": quoted}) as (_, log):
        port = int(log.wait_for(r"listening on .*:(\d+)$")[0][1])
        yield lambda: socket.create_connection(("127.0.0.1", port), PATIENCE), log


@contextlib.contextmanager
def ipcserver(
    place: Path, prog: Sequence[str], env: Mapping[str, str] | None = None, verbosity: int = 1
) -> Iterator[tuple[Connect, Log]]:
    """Serve `prog` on a Unix-domain socket under Debian's s6-ipcserver; PROTO is IPC."""
    path = str(place / "socket")
    with _running(["s6-ipcserver", "-1", "-" + "qQv"[verbosity], "--", path, *prog], env) as (process, log):
        assert _first_line(process, log) == "\n"

        def connect() -> socket.socket:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(PATIENCE)
            client.connect(path)
            return client

        yield connect, log
