"""A small SMTP server that gets STARTTLS from s6-ucspitlsd; its word says which command it gives for that.

Beyond SMTP it answers XFDS with its open descriptors, XENV with what it was told about the session, and XSEND with
as many bytes as it is asked for.  It reads byte by byte: what a client sends ahead of its turn stays where it is.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys

CONTROL, READ, WRITE = (int(os.environ[name]) for name in ("SSLCTLFD", "SSLREADFD", "SSLWRITEFD"))


def open_descriptors() -> list[int]:
    """Return all but the one that reads this list."""
    return [fd for fd in sorted(map(int, os.listdir("/proc/self/fd"))) if os.path.exists(f"/proc/self/fd/{fd}")]


class Conversation:
    """A client in clear until `start_tls`."""

    def __init__(self, command: bytes) -> None:
        self._command = command
        self._in, self._out = 0, 1
        self.told = b""

    def say(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._out, data) :]

    def line(self) -> bytes:
        read = b""
        while not read.endswith(b"\n"):
            byte = os.read(self._in, 1)
            if not byte:
                raise SystemExit(0)
            read += byte
        return read.rstrip(b"\r\n")

    def message(self) -> bytes:
        """Return a message's text up to its final dot."""
        read = b""
        while not read.endswith(b"\r\n.\r\n"):
            read += os.read(self._in, 65536)
        return read[:-5]

    def start_tls(self) -> None:
        os.write(CONTROL, self._command)
        with socket.socket(fileno=CONTROL) as control:
            while part := control.recv(65536):
                self.told += part
        if self._command == b"Y" and not self.told.endswith(b"\0\0"):
            raise SystemExit(7)
        self._in, self._out = READ, WRITE


def main() -> None:
    fds = b" ".join(b"%d" % fd for fd in open_descriptors())
    client = Conversation(sys.argv[1].encode())
    client.say(b"220 ready\r\n")
    while True:
        verb, _, rest = client.line().partition(b" ")
        match verb.upper():
            case b"EHLO":
                client.say(b"250-hello\r\n250 STARTTLS\r\n")
            case b"STARTTLS":
                client.say(b"220 go ahead\r\n")
                client.start_tls()
            case b"DATA":
                client.say(b"354 go ahead\r\n")
                client.say(b"250 " + hashlib.sha256(client.message()).hexdigest().encode() + b"\r\n")
            case b"XFDS":
                client.say(b"250 " + fds + b"\r\n")
            case b"XENV":
                client.say(b"250 " + client.told.rstrip(b"\0").replace(b"\0", b"|") + b"\r\n")
            case b"XSEND":
                client.say(b"250 here it is\r\n" + b"0123456789abcdef" * (int(rest) // 16))
            case b"QUIT":
                client.say(b"221 bye\r\n")
                return
            case _:
                client.say(b"250 ok\r\n")


if __name__ == "__main__":
    main()
