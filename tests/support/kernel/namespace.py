"""A network namespace of its own, in which every address is local, and clients that come from any of them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.servers import PATH, PATIENCE

ROOT = Path(__file__).parents[3]
SERVERS = {4: "198.51.100.254", 6: "2001:db8:ffff::fe"}
_ENVIRONMENT = {"PATH": f"{PATH}:/usr/sbin:/sbin", "PYTHONPATH": str(ROOT)}
_IPV6_FREEBIND = 78
_SET_UP = """
ip link set lo up
ip route add local 0.0.0.0/0 dev lo
ip -6 route add local ::/0 dev lo
echo ready
read -r _
"""


class Namespace:
    """Runs commands in a network namespace; root makes one as it is, others with a user namespace around it."""

    def __init__(self, pid: int) -> None:
        users = [] if os.geteuid() == 0 else ["-U", "--preserve-credentials"]
        self._enter = ["nsenter", "-t", str(pid), "-n", *users, "--"]

    def run(self, words: Sequence[str], given: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command of this project, or of the system, with `given` on stdin."""
        return subprocess.run(
            [*self._enter, *words], env=_ENVIRONMENT, input=given, capture_output=True, text=True, timeout=PATIENCE
        )

    def start(self, words: Sequence[str]) -> subprocess.Popen[str]:
        """Start a command, with its stdout in a pipe."""
        return subprocess.Popen([*self._enter, *words], env=_ENVIRONMENT, stdout=subprocess.PIPE, text=True)

    def nft(self, *words: str, given: str = "") -> str:
        """Run nft, and return what it prints."""
        done = self.run(["nft", *words], given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def admitted(self, clients: list[str], port: int) -> set[str]:
        """Let a client come from each of these addresses, and return those who got a connection to `port`.

        Each then makes another one, to the next port, which is to be free to all: when that is made, the kernel has
        done with the packets of the first.
        """
        done = self.run([sys.executable, "-m", __name__, str(port)], json.dumps(clients))
        assert done.returncode == 0, done.stderr
        return set(json.loads(done.stdout))


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """Make a namespace that lasts as long as the block."""
    words = ["unshare", "-n", *([] if os.geteuid() == 0 else ["-r"]), "sh", "-ec", _SET_UP]
    with subprocess.Popen(words, env=_ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"ready\n"
        yield Namespace(holder.pid)
        holder.communicate(b"\n")


def _main() -> None:
    clients, port = json.load(sys.stdin), int(sys.argv[1])
    with contextlib.ExitStack() as stack:
        listeners = {}
        for version, server in SERVERS.items():
            asked, free = (stack.enter_context(_bound(server, number)) for number in (port, port + 1))
            for listener in (asked, free):
                listener.listen()
            listeners[version] = asked, free
        json.dump(
            [client for client in clients if _connects(client, *listeners[6 if ":" in client else 4])], sys.stdout
        )


def _connects(client: str, asked: socket.socket, free: socket.socket) -> bool:
    with _bound(client, 0) as first, _bound(client, 0) as second:
        first.setblocking(False)
        first.connect_ex(asked.getsockname())
        second.connect(free.getsockname())
        free.accept()[0].close()
        is_made = bool(select.select([], [first], [], 0)[1])
        if is_made:
            asked.accept()[0].close()
        return is_made


def _bound(address: str, port: int) -> socket.socket:
    one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    if ":" in address:
        one.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((address, port))
    return one


if __name__ == "__main__":
    _main()
