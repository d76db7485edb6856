"""Name servers for a test, each on port 53 of a loopback address of its own.

`dnsmasq` is a real one.  `Puppet` says what a test makes it say: nothing, lies, rubbish, too much.
"""

from __future__ import annotations

import contextlib
import os
import queue
import random
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.support.servers import PATIENCE

PORT = 53
A, CNAME, PTR, AAAA = 1, 5, 12, 28
SERVFAIL, NXDOMAIN, REFUSED = 2, 3, 5
_SO_RCVBUFFORCE, _ROOM = 33, 2**24
"""So that no question of a crowd is lost: who asks would wait for seconds and ask again."""
_RESPONSE, _TRUNCATED = 0x8180, 0x0200
_ANSWERED_NAME = b"\xc0\x0c"
"""A pointer to the name in the question."""


def loopback() -> str:
    """Return an address of this machine that hardly anybody else uses: tests may run beside each other."""
    return f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"


def bound(port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Return a socket on a port of a loopback address that nobody else uses."""
    while True:
        found = socket.socket(socket.AF_INET, kind)
        try:
            found.bind((loopback(), port))
        except OSError:
            found.close()
        else:
            return found


@contextlib.contextmanager
def dnsmasq(*options: str) -> Iterator[str]:
    """Run a dnsmasq that knows what `options` say and nothing else; yield its address once it answers."""
    command = ["/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]
    command += ["--user=root", "--pid-file=", "--bind-interfaces", "--local=/in-addr.arpa/", "--local=/test/"]
    while True:
        address = loopback()
        process = subprocess.Popen(
            [*command, f"--listen-address={address}", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            if _answers(process, address):
                yield address
                return
        finally:
            process.kill()
            process.wait()


def _answers(process: subprocess.Popen[bytes], address: str) -> bool:
    """Ask until there is an answer; tell whether the process that gave it is ours."""
    question = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + wire("up.test") + struct.pack("!2H", A, 1)
    deadline = time.monotonic() + PATIENCE
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((address, PORT))
        asking.settimeout(0.05)
        while process.poll() is None:
            assert time.monotonic() < deadline, "dnsmasq does not answer"
            try:
                asking.send(question)
                asking.recv(512)
            except ConnectionRefusedError:
                time.sleep(0.01)
            except TimeoutError:
                continue
            else:
                return process.poll() is None
    return False


def reverse(address: str) -> str:
    """Return the name that the DNS has for an IPv4 address."""
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


def address_of(name: str) -> str:
    """Return the IPv4 address that has this name in the DNS."""
    return ".".join(reversed(name.removesuffix(".in-addr.arpa").split(".")))


def wire(name: str | Sequence[bytes]) -> bytes:
    """Return a name, given as text or as labels of any bytes, as it stands in a DNS message."""
    labels = [label.encode() for label in name.split(".")] if isinstance(name, str) else name
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


@dataclass(frozen=True)
class Asked:
    """A question that has come to a Puppet, from a port of who asks."""

    data: bytes
    name: str
    kind: int
    tcp: bool
    port: int

    def reply(self, *records: tuple[int, bytes], code: int = 0, truncated: bool = False) -> bytes:
        """Return a message with records (type and data) for the name that was asked about."""
        flags = _RESPONSE | code | (_TRUNCATED if truncated else 0)
        header = self.data[:2] + struct.pack("!5H", flags, 1, len(records), 0, 0)
        body = b"".join(_ANSWERED_NAME + struct.pack("!HHIH", kind, 1, 60, len(data)) + data for kind, data in records)
        return header + self.data[12 : self._end_of_question] + body

    def names(self, *names: str | Sequence[bytes]) -> bytes:
        """Return the reply that these are the names of an address."""
        return self.reply(*((PTR, wire(name)) for name in names))

    def addresses(self, *addresses: str) -> bytes:
        """Return the reply that these are the addresses of a name."""
        return self.reply(*((A, socket.inet_aton(address)) for address in addresses))

    @property
    def _end_of_question(self) -> int:
        return 12 + len(wire(self.name)) + 4


Script = Callable[[Asked], bytes | None]


class Puppet:
    """A name server that answers each question with what `script` returns for it; None is no answer.

    `asked` holds the questions as they come.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._udp = bound(PORT, socket.SOCK_DGRAM)
        self._udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
        self.address: str = self._udp.getsockname()[0]
        self._tcp = socket.create_server((self.address, PORT))
        self.asked: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        self._stopped, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Puppet:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._stop)
        self._thread.join()
        os.close(self._stopped)
        self._udp.close()
        self._tcp.close()

    def await_question(self, about: str) -> Asked:
        """Wait until somebody asks about the name of this IPv4 address."""
        while True:
            asked = self.asked.get(timeout=PATIENCE)
            if asked.name == reverse(about):
                return asked

    def _run(self) -> None:
        while True:
            ready = select.select([self._udp.fileno(), self._tcp.fileno(), self._stopped], [], [])[0]
            if self._stopped in ready:
                return
            if self._udp.fileno() in ready:
                data, client = self._udp.recvfrom(4096)
                answer = self._answer(data, client[1], tcp=False)
                if answer is not None:
                    self._udp.sendto(answer, client)
            if self._tcp.fileno() in ready:
                self._converse()

    def _converse(self) -> None:
        connection, client = self._tcp.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(PATIENCE)
            while length := connection.recv(2, socket.MSG_WAITALL):
                data = connection.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL)
                answer = self._answer(data, client[1], tcp=True)
                if answer is not None:
                    connection.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, data: bytes, port: int, tcp: bool) -> bytes | None:
        labels = []
        at = 12
        while length := data[at]:
            labels.append(data[at + 1 : at + 1 + length].decode().lower())
            at += 1 + length
        asked = Asked(data, ".".join(labels), int.from_bytes(data[at + 1 : at + 3], "big"), tcp, port)
        self.asked.put(asked)
        return self._script(asked)
