"""A real server for a test: started, awaited, spoken to, and ended with all that it started.

    with server(["s6-tcpserver", "-v", "127.0.0.1", "0", "cat"]) as s:
        assert s.exchange(b"hello") == b"hello"
        s.wait_log(r"end pid \\d+ exitcode 0")

No test sleeps: the port line says that clients are accepted, log lines and process
descriptors say what happens after.  Whatever does not happen within `PATIENCE` fails the test.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from tests.support import kin

PATIENCE = 20.0
_TIME_TO_END = 1.0
BIN = os.path.dirname(sys.executable)
PATH = f"{BIN}:/usr/local/bin:/usr/bin:/bin"
_SERVERS = (
    *("s6-tlsserver", "s6-tcpserver", "s6-tcpserverd"),
    *("s6-tcpserver4", "s6-tcpserver6", "s6-tcpserver4d", "s6-tcpserver6d"),
)


class Log:
    """What a process writes to a pipe, collected as it comes by a thread that never lets the pipe fill up."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._data = b""
        self._ended = False
        self._grown = threading.Condition()
        self._stopped, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def text(self) -> str:
        """Return what has been written so far."""
        with self._grown:
            self._take()
            return self._data.decode("utf-8", "backslashreplace")

    def wait_for(self, pattern: str, count: int = 1) -> list[re.Match[str]]:
        """Wait until `pattern` (^ and $ are those of a line) matches `count` times; return all matches."""
        found: list[re.Match[str]] = []

        def enough() -> bool:
            found[:] = re.finditer(pattern, self.text(), re.MULTILINE)
            return len(found) >= count or self._ended

        with self._grown:
            self._grown.wait_for(enough, PATIENCE)
        assert len(found) >= count, f"{len(found)} of {count} times {pattern!r} in the log:\n{self.text()}"
        return found

    def to_the_end(self) -> str:
        """Wait until nobody can write any more, and return all that was written."""
        with self._grown:
            self._grown.wait_for(lambda: self._ended, PATIENCE)
        return self.text()

    def close(self) -> None:
        """Stop collecting."""
        os.close(self._stop)
        self._thread.join()
        os.close(self._stopped)
        self._pipe.close()

    def _collect(self) -> None:
        while not self._ended and self._stopped not in select.select([self._pipe.fileno(), self._stopped], [], [])[0]:
            with self._grown:
                self._take()
                self._grown.notify_all()

    def _take(self) -> None:
        """Take what is in the pipe now: who has heard of something otherwise may ask before the thread has."""
        while not (self._ended or self._pipe.closed) and select.select([self._pipe], [], [], 0)[0]:
            chunk = os.read(self._pipe.fileno(), 65536)
            self._data += chunk
            self._ended = not chunk


class Server:
    """A running server; `port` is where it listens, `pid` who it is."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None and process.stderr is not None
        self._process = process
        self._stderr = Log(process.stderr)
        self._pidfd = os.pidfd_open(process.pid)
        self.pid = process.pid
        try:
            self.port = self._read_port(process.stdout)
        except BaseException:
            self.end()
            raise

    def log(self) -> str:
        """Return what the server and its programs have written to stderr so far."""
        return self._stderr.text()

    def wait_log(self, pattern: str, count: int = 1) -> re.Match[str]:
        """Wait until the log matches `pattern` (^ and $ are those of a line) `count` times; return the last match."""
        return self._stderr.wait_for(pattern, count)[count - 1]

    def signal(self, number: int) -> None:
        """Send the server a signal."""
        signal.pidfd_send_signal(self._pidfd, number)

    def wait(self) -> int:
        """Wait for the server's end; return its exit code, or minus the signal that ended it."""
        assert select.select([self._pidfd], [], [], PATIENCE)[0], f"the server does not end; its log:\n{self.log()}"
        ended = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT)  # the zombie keeps the group's id ours
        assert ended is not None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def connect(self, host: str = "127.0.0.1", source: str = "") -> socket.socket:
        """Return a connection to the server, from the address `source` if one is given."""
        return socket.create_connection((host, self.port), PATIENCE, (source, 0) if source else None)

    def exchange(self, data: bytes = b"", host: str = "127.0.0.1") -> bytes:
        """Connect, send `data` and end of file, and return all that comes back; b"" too when the server hangs up."""
        with self.connect(host) as client:
            with contextlib.suppress(ConnectionError, OSError):
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            return read_all(client)

    def children(self) -> list[int]:
        """Return the process ids of the server's children."""
        return kin.children(self.pid)

    def end(self) -> None:
        """End the server, kill everything it started, and let go of all.

        It gets time to end by itself: what is killed cannot write down which of its lines were reached.
        """
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGTERM)
            select.select([self._pidfd], [], [], _TIME_TO_END)
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(PATIENCE)
        os.close(self._pidfd)
        self._stderr.close()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read_port(self, stdout: IO[bytes]) -> int:
        line = b""
        deadline = time.monotonic() + PATIENCE
        while not line.endswith(b"\n"):
            ready = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))[0]
            chunk = os.read(stdout.fileno(), 64) if ready else b""
            if not chunk:
                code, log = (self.wait(), self._stderr.to_the_end()) if ready else (None, self.log())
                raise AssertionError(f"no port line (exit code {code}); the log:\n{log}")
            line += chunk
        return int(line)


@contextlib.contextmanager
def server(argv: Sequence[str], env: Mapping[str, str] | None = None, **popen: Any) -> Iterator[Server]:
    """Start a server, wait until it accepts clients, and end it and all its children afterwards.

    `argv` holds one of this project's servers, as its first word or after others (socketbinder, sh, …); it
    gets ``-1``, so give it port 0.  The environment is PATH and `env`, nothing else.  `popen` goes to Popen
    (cwd, umask, pass_fds, …).  The server leads a process group of its own, which is killed in the end.
    """
    words = list(argv)
    place = next(i for i, word in enumerate(words) if os.path.basename(word) in _SERVERS)
    words.insert(place + 1, "-1")
    process = subprocess.Popen(
        words,
        executable=shutil.which(words[0], path=PATH),
        env={"PATH": PATH, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **popen,
    )
    started = Server(process)
    try:
        yield started
    finally:
        started.end()


def tcpserver(
    *words: str, ip: str = "127.0.0.1", env: dict[str, str] | None = None, **popen: Any
) -> contextlib.AbstractContextManager[Server]:
    """Start an s6-tcpserver on `ip`: its options, then ``--``, then a program; see `server`."""
    place = words.index("--")
    return server(["s6-tcpserver", *words[:place], "--", ip, "0", *words[place + 1 :]], env, **popen)


def greeted(client: socket.socket) -> bytes:
    """Return the line that a program begins with."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = client.recv(1)
        assert chunk, "the server hung up"
        line += chunk
    return line


def read_all(client: socket.socket) -> bytes:
    """Return what a peer sends until end of file or reset."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while chunk := client.recv(65536):
            data += chunk
    return data
