"""An s6-tlsd-io by itself, between a network and an application that are both the test."""

from __future__ import annotations

import os
import socket
import subprocess

from tests.support.servers import BIN, PATH, PATIENCE


class Engine:
    """An s6-tlsd-io between a network and an application, both of which are the test."""

    def __init__(self, env: dict[str, str], *options: str) -> None:
        self.network, theirs = socket.socketpair()
        self.network.settimeout(PATIENCE)
        from_application, self.to_engine = os.pipe()
        self.from_engine, to_application = os.pipe()
        self.notified, notify = os.pipe()
        given = (from_application, to_application, notify)
        self.process = subprocess.Popen(
            ["s6-tlsd-io", *options, "-d", str(notify), str(from_application), str(to_application)],
            executable=f"{BIN}/s6-tlsd-io",
            env={"PATH": PATH, **env},
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
            pass_fds=given,
        )
        theirs.close()
        for fd in given:
            os.close(fd)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.network.close()
        for fd in (self.to_engine, self.from_engine, self.notified):
            os.close(fd)
        self.process.kill()
        self.process.communicate()

    def hang_up(self) -> None:
        """Let the engine see the application's end of file."""
        os.close(self.to_engine)
        self.to_engine = os.open("/dev/null", os.O_RDONLY)

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and what it said."""
        _, stderr = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, stderr.decode()


def told(fd: int) -> dict[bytes, bytes]:
    """Read a notification to its end: variables, each with a NUL, and another NUL."""
    data = b""
    while chunk := os.read(fd, 4096):
        data += chunk
    assert data.endswith(b"\0\0")
    pairs = [entry.partition(b"=") for entry in data[:-2].split(b"\0")]
    return {name: value for name, _, value in pairs}
