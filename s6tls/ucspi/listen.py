"""Listening sockets: made by s6-tcpserver-socketbinder, or found on a descriptor."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

from s6tls.accessrules.errors import AddressError
from s6tls.accessrules.keys import address_text, client_address, parse_address
from s6tls.accessrules.text import shown

_QUESTIONS = 6
"""How many questions may go unanswered."""


@dataclass(frozen=True)
class Binding:
    """An address to bind and how.  `backlog` 0 makes a socket that does not listen."""

    ip: bytes
    port: int
    backlog: int = socket.SOMAXCONN
    reuse: bool = True
    datagram: bool = False
    blocking: bool = False


def bind(binding: Binding) -> socket.socket:
    """Make the socket.  IPv6 sockets are IPv6 only.

    Raises ValueError for text that is no IP address, OSError when the system refuses.
    """
    try:
        family = socket.AF_INET if len(parse_address(binding.ip)) == 4 else socket.AF_INET6
    except AddressError:
        raise ValueError(f"invalid IP address: {shown(binding.ip)}") from None
    made = socket.socket(family, socket.SOCK_DGRAM if binding.datagram else socket.SOCK_STREAM)
    try:
        made.setblocking(binding.blocking)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if binding.reuse:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((binding.ip.decode(), binding.port))
        if binding.backlog:
            made.listen(binding.backlog)
    except BaseException:
        made.close()
        raise
    return made


def end_stalled(listener: socket.socket, stall_ms: int) -> None:
    """Have the kernel end each accepted connection whose client acknowledges nothing for so long, or has vanished.

    Who vanishes from an idle connection is found by questions (keepalive), which whoever is there answers.  Accepted
    sockets inherit all this from a listening one.
    """
    idle_s = max(1, stall_ms // 1000)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_USER_TIMEOUT, stall_ms),
        (socket.TCP_KEEPIDLE, idle_s),
        (socket.TCP_KEEPINTVL, max(1, idle_s // _QUESTIONS)),
        (socket.TCP_KEEPCNT, _QUESTIONS),
    ):
        listener.setsockopt(socket.IPPROTO_TCP, option, value)


def endpoint(name: tuple[Any, ...]) -> tuple[str, int]:
    """Return address and port of a socket's name, the address in canonical text, without a scope and not mapped."""
    text: str = name[0]
    if ":" not in text:
        return text, name[1]
    text = text.partition("%")[0]
    return address_text(client_address(text)).decode(), name[1]


def local_endpoint(accepted: int) -> tuple[str, int]:
    """Return our address and port, of several, that a client has connected to.  Raises OSError."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, accepted)  # of whatever family it really is
    try:
        return endpoint(connection.getsockname())
    finally:
        connection.detach()


def inherited(fd: int) -> socket.socket:
    """Take over a bound and listening TCP socket.

    Raises OSError when `fd` is none, ValueError when it is another kind of socket.
    """
    found = socket.socket(fileno=fd)
    if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM:
        found.detach()
        raise ValueError("not a TCP socket")
    if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        found.detach()
        raise ValueError("not a listening socket")
    found.setblocking(False)
    return found
