"""Commands that are clients: a process for each session, ended by end of file on its stdin, by word or by signal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import termios
from typing import IO

from tests.support import processes
from tests.support.closers.sessions import Session, Way, one_by_one
from tests.support.servers import PATH, PATIENCE

OPENSSL_WAYS = (
    Way("eof", polite=True),
    Way("Q", polite=True),
    Way("kill", polite=False, acts=("answer",)),
    Way("servers_end", polite=True, acts=("end",)),
)
GNUTLS_CLI_WAYS = (
    Way("eof", polite=True),
    Way("kill", polite=False, acts=("answer",)),
    Way("servers_end", polite=True, acts=("end",)),
)


def _openssl(port: int, way: Way, session: Session) -> int:
    ends = "-ign_eof" if way.name == "servers_end" else "-no_ign_eof"
    protocol = "-tls" + session.version.replace(".", "_")
    return _hold(["openssl", "s_client", "-quiet", ends, protocol, "-connect", f"127.0.0.1:{port}"], way, session)


def _gnutls_cli(port: int, way: Way, session: Session) -> int:
    priority = f"--priority=NORMAL:-VERS-ALL:+VERS-TLS{session.version}"
    words = ["gnutls-cli", "--insecure", "--logfile=/dev/null", priority, f"--port={port}", "127.0.0.1"]
    return _hold(words, way, session)


def _hold(words: list[str], way: Way, session: Session) -> int:
    """The line is sent before the answer is read: nothing tells when a command has sent what it was given."""
    with subprocess.Popen(
        words, env={"PATH": PATH}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(session.request + session.line.encode() + b"\n")
            stdin.flush()
            got = len(stdout.read(session.size)) if session.act == "answer" else 0
            if session.act == "end":
                got = len(stdout.read())
            if way.name == "kill":
                process.kill()
            if way.name == "Q":
                _type(stdin, b"Q\n")
            stdin.close()
            process.wait(PATIENCE)
        finally:
            process.kill()
    return got


def _type(stdin: IO[bytes], words: bytes) -> None:
    """Write what is read by itself: what was written before has been taken."""
    processes.await_that(lambda: fcntl.ioctl(stdin, termios.FIONREAD, bytes(4)) == bytes(4))
    with contextlib.suppress(BrokenPipeError):  # the server has ended the session
        os.write(stdin.fileno(), words)


openssl, gnutls_cli = one_by_one(_openssl), one_by_one(_gnutls_cli)
