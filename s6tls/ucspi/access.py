"""The stage of s6-tcpserver-access: rules decide who passes, and what they change on the way.

Banner first, then the rules by address.  Names (DNS, /etc/hosts) and IDENT are
not looked up yet: a client that no address rule decides has no name, and is denied.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import Protocol

from s6tls.accessrules import AddressError, Decision, Verdict
from s6tls.accessrules.errors import shown
from s6tls.accessrules.keys import parse_address
from s6tls.ucspi.image import Image, Refused
from s6tls.ucspi.log import log
from s6tls.ucspi.process import locate

_DEBIAN_SCRIPT, _DEBIAN_BIN = b"/usr/bin/execlineb", b"/usr/lib/execline/bin"
_DENIED, _USAGE, _BROKEN = 1, 100, 111


class Rules(Protocol):
    """Where decisions come from: a rule set that follows the file or directory at `path`."""

    @property
    def path(self) -> bytes:
        """What messages call it."""

    def check_address(self, address: bytes) -> Decision:
        """Decide about an address.  Raises ValueError for text that is none, OSError when rules cannot be read."""


@dataclass(frozen=True)
class Access:
    """Check a client's address, apply its rule's environment and program, and set up the socket.

    `rules` is None when no rule set was named: everybody is allowed then.  `local_name`
    is the value for ``${PROTO}LOCALHOST`` or None to unset it.  `nodelay` is None to
    leave the socket alone.
    """

    rules: Rules | None = None
    verbosity: int = 1
    local_name: bytes | None = None
    banner: bytes = b""
    nodelay: bool = False
    program: str = field(default="s6-tcpserver-access")

    def apply(self, image: Image) -> None:
        """Raise Refused: 1 denied, 100 for a wrong environment, 111 for a broken rule set."""
        proto, address = self._client(image)
        if self.banner:
            self._send_banner(image)
        if self.nodelay:
            self._disable_nagle(image)
        if self.rules is not None:
            decision = self._decide(self.rules, address)
            if decision.verdict is not Verdict.ALLOW:
                message = f"deny pid {os.getpid()} ip {shown(address)}" if self.verbosity >= 2 else ""
                raise Refused(self.program, _DENIED, message, kind="info")
            image.env = decision.apply_env(image.env)
            if decision.exec:
                image.replace_rest([b"execlineb", b"-c", decision.exec])
                _shorten_debian_path(image)
        if self.verbosity >= 1:
            image.on_start.append((self.program, f"allow pid {{pid}} ip {shown(address)}"))
        image.unset((proto + b"REMOTEHOST", proto + b"REMOTEINFO", proto + b"LOCALHOST"))
        if self.local_name is not None:
            image.env[proto + b"LOCALHOST"] = self.local_name

    def _client(self, image: Image) -> tuple[bytes, bytes]:
        """Return PROTO and the client's address, having checked that we run under a UCSPI server."""
        proto = image.env.get(b"PROTO")
        if proto is None:
            raise Refused(self.program, _USAGE, "PROTO not set")
        for suffix in (b"LOCALIP", b"LOCALPORT", b"REMOTEIP", b"REMOTEPORT"):
            value = image.env.get(proto + suffix)
            if value is None:
                raise Refused(self.program, _USAGE, f"{shown(proto + suffix)} not set")
            if not (_is_address(value) if suffix.endswith(b"IP") else _is_port(value)):
                raise Refused(self.program, _USAGE, f"invalid ${shown(proto + suffix)}")
        return proto, image.env[proto + b"REMOTEIP"]

    def _decide(self, rules: Rules, address: bytes) -> Decision:
        try:
            decision = rules.check_address(address)
        except OSError as error:
            decision = Decision(Verdict.ERROR, error=error.strerror or str(error))
        if decision.verdict is Verdict.ERROR:
            raise Refused(self.program, _BROKEN, f"unable to check rules in {shown(rules.path)}: {decision.error}")
        return decision

    def _send_banner(self, image: Image) -> None:
        """Write the banner without waiting: it fits an empty socket's buffer, or the connection is refused."""
        try:
            os.set_blocking(image.stdout, False)
            try:
                written = os.write(image.stdout, self.banner)
            finally:
                os.set_blocking(image.stdout, True)
        except OSError as error:
            raise Refused(self.program, _BROKEN, f"unable to write banner: {error.strerror}") from error
        if written < len(self.banner):
            raise Refused(self.program, _BROKEN, "unable to write banner: longer than the socket's buffer")

    def _disable_nagle(self, image: Image) -> None:
        try:
            with socket.socket(fileno=os.dup(image.stdout)) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            if self.verbosity >= 1:
                log(self.program, "warning", f"unable to disable Nagle's algorithm: {error.strerror}")


def _shorten_debian_path(image: Image) -> None:
    """Run Debian's execlineb itself instead of the script that stands for it on the usual PATH.

    The script puts the directory of execline's programs in front of PATH and runs the execlineb in there: so
    do we, and save the five programs that the script runs to do it.
    """
    try:
        stand_in = locate(image) == _DEBIAN_SCRIPT and os.access(_DEBIAN_BIN + b"/execlineb", os.X_OK)
    except Refused:
        return
    if stand_in:
        image.env[b"PATH"] = image.path = _DEBIAN_BIN + b":" + image.env.get(b"PATH", os.fsencode(os.defpath))


def _is_address(text: bytes) -> bool:
    try:
        parse_address(text)
    except AddressError:
        return False
    return True


def _is_port(text: bytes) -> bool:
    return text.isdigit() and len(text) <= 5 and int(text) < 65536
