"""The stage of proxy-server: the client that a proxy speaks for takes the proxy's place in the environment.

The header comes in clear.  If TLS follows it, our own TLS sets the same variables as the header, which is about
the TLS between client and proxy.  So `ProxyServer(until_later=True)` keeps the header's variables aside, and a
second stage, `Remember`, restores them afterwards.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from s6tls.accessrules.keys import client_address, parse_address, unmapped
from s6tls.accessrules.text import shown
from s6tls.helper.helper import LookupHelper
from s6tls.helper.proxyheader import MALFORMED, VARIABLES
from s6tls.helper.reply import Answers, Reply
from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi.image import ClientFailure, Deadline, Image, StageExit, Waiting, peer
from s6tls.ucspi.log import Told, complaint

Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network

_SYSTEM = ExitCode.SYSTEM
_ABOUT_TLS = tuple(name for name in VARIABLES if name.startswith(b"SSL_"))
_KEPT = b"tlsbak_"


@dataclass(frozen=True)
class ProxyServer:
    """Read a PROXY header of one of these `versions`.

    `timeout_ms` is 0 for none.  `trusted` are the networks of the proxies, None for any.
    `until_later` keeps what is said about TLS under other names, for `Remember`.
    """

    helper: LookupHelper
    versions: tuple[int, ...] = (1, 2)
    timeout_ms: int = 0
    trusted: Sequence[Prefix] | None = None
    until_later: bool = False
    program: str = "proxy-server"

    def apply(self, image: Image) -> Waiting:
        """Have the header read.  StageExit: 1 malformed or from somebody else, 2 unsupported, 111 cut short or late."""
        if self.trusted is not None:
            self._check_proxy(image, self.trusted)
        if self.until_later:
            image.unset(_KEPT + name for name in _ABOUT_TLS)

        def take(variables: dict[bytes, bytes]) -> None:
            for name, value in variables.items():
                image.env[_KEPT + name if self.until_later and name in _ABOUT_TLS else name] = value

        proxy = peer(image.env)
        fd = self.helper.read_proxy_header(self.program, image.stdin, self.versions, self.timeout_ms)
        late = None
        if self.timeout_ms:
            moment = image.since + self.timeout_ms / 1000
            late = Deadline(moment, lambda: ClientFailure(self.program, _SYSTEM, _unable(proxy, "took too long")))
        return _Header(Reply(fd, self.program, VARIABLES, Answers(take, lambda: _SYSTEM), late), proxy)

    def _check_proxy(self, image: Image, trusted: Sequence[Prefix]) -> None:
        proxy = image.env.get(image.env.get(b"PROTO", b"") + b"REMOTEIP", b"")
        try:
            address = ipaddress.ip_address(client_address(proxy))
        except ValueError:
            raise StageExit(self.program, MALFORMED, "unable to tell who the proxy is") from None
        if not any(address in prefix for prefix in trusted):
            raise ClientFailure(self.program, MALFORMED, f"unable to trust a PROXY header from {shown(proxy)}")


class _Header:
    """A `Waiting` for what a header says; a refusal names the proxy."""

    def __init__(self, reply: Reply, proxy: str) -> None:
        self.fd, self.deadline = reply.fd, reply.deadline
        self._reply, self._proxy = reply, proxy

    def resume(self) -> bool:
        """See `Reply`."""
        try:
            return self._reply.resume()
        except StageExit as refused:
            raise ClientFailure(refused.program, refused.code, _unable(self._proxy, str(refused))) from refused

    def close(self) -> None:
        """See `Reply`."""
        self._reply.close()


def _unable(proxy: str, reason: str) -> Told:
    return complaint("unable to take the PROXY header", "from", proxy, reason)


@dataclass(frozen=True)
class Remember:
    """Give the program what a PROXY header has said about TLS."""

    program: str = "proxy-server"

    def apply(self, image: Image) -> None:
        """Put the variables that were kept in the place of our own."""
        for name in _ABOUT_TLS:
            value = image.env.pop(_KEPT + name, None)
            if value is not None:
                image.env[name] = value


def parse_prefixes(text: bytes) -> list[Prefix]:
    """Read a comma-separated list of networks, such as ``10.0.0.0/8,2001:db8::1``.  Raises ValueError."""
    return [_parse_prefix(word) for word in text.split(b",")]


def _parse_prefix(text: bytes) -> Prefix:
    address, slash, length = text.partition(b"/")
    packed = parse_address(address)
    if slash and not (length.isdigit() and len(length) <= 3):
        raise ValueError("not a number of bits")
    bits = int(length) if slash else 8 * len(packed)
    plain = unmapped(packed)
    if plain != packed and bits >= 96:
        packed, bits = plain, bits - 96
    return ipaddress.ip_network((packed, bits))
