"""What the kernel says about a server's processes."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from tests.support.kin import family
from tests.support.servers import PATIENCE, Server


def await_that(condition: Callable[[], bool]) -> None:
    """Look again and again until something holds that nobody announces."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.005)


def status(pid: int) -> dict[str, str]:
    """Return /proc/PID/status."""
    with open(f"/proc/{pid}/status") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}


def limits(pid: int) -> dict[str, str]:
    """Return the soft limits of a process, by their names in /proc/PID/limits."""
    with open(f"/proc/{pid}/limits") as file:
        rows = (re.split(r"\s{2,}", line) for line in file)
        return {row[0]: row[1] for row in rows}


def kilobytes(pid: int, what: str) -> int:
    """Return one of status's sizes, such as VmHWM: the most that ever was resident."""
    return int(status(pid)[what].removesuffix(" kB"))


def descriptors(pid: int) -> dict[int, str]:
    """Return what each open descriptor of a process is."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def of_session(leader: int) -> list[int]:
    """Return the processes of a server's session, those included that it has left behind."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(ProcessLookupError):
            if os.getsid(int(name)) == leader:
                found.append(int(name))
    return found


def holders(server: Server, client: socket.socket) -> list[int]:
    """Return the processes below a server that hold its end of a client's connection."""
    inode = _inode(client.getpeername(), client.getsockname())
    found = []
    for pid in set(family(server.pid)) - {server.pid}:
        with suppress(FileNotFoundError, ProcessLookupError):
            if f"socket:[{inode}]" in descriptors(pid).values():
                found.append(pid)
    return found


def engine(server: Server, client: socket.socket) -> int:
    """Return the one process that holds a client's connection."""
    (pid,) = holders(server, client)
    return pid


def sockets(pid: int) -> set[str]:
    """Return the sockets that a process holds."""
    return {what for what in descriptors(pid).values() if what.startswith("socket:")}


def maps(pid: int) -> str:
    """Return the files that a process has mapped."""
    with open(f"/proc/{pid}/maps") as file:
        return file.read()


def written(pid: int) -> int:
    """Return how many bytes a process has written so far."""
    with open(f"/proc/{pid}/io") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("wchar:"))


def _inode(local: tuple[str, int], remote: tuple[str, int]) -> str:
    with open("/proc/net/tcp") as file:
        for line in file.read().splitlines()[1:]:
            words = line.split()
            if words[1:3] == [_endpoint(*local), _endpoint(*remote)]:
                return words[9]
    raise AssertionError("no such connection")


def _endpoint(host: str, port: int) -> str:
    return f"{socket.inet_aton(host)[::-1].hex().upper()}:{port:04X}"
