"""The stage of s6-tcpserver-access: rules decide who passes, and what they change on the way.

Banner first, then the rules by address.  When they do not decide, or a name is wanted for the
environment, the outpost looks the client up; a client that no address rule decides passes only if a
``reversedns`` rule allows its name.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass, field
from typing import NoReturn

from s6tls.accessrules import AddressError, Decision, RuleSet, Verdict
from s6tls.accessrules.hostnames import normalised
from s6tls.accessrules.keys import parse_address
from s6tls.accessrules.text import shown
from s6tls.helper import ident
from s6tls.helper.helper import Outpost
from s6tls.helper.reply import Reply
from s6tls.helper.variables import ERROR, FINDINGS, LOCAL_HOST, REMOTE_HOST, REMOTE_INFO
from s6tls.stages.rulesource import Question, Rules
from s6tls.ucspi.image import Image, Refused
from s6tls.ucspi.log import log
from s6tls.ucspi.spawn import locate

_DEBIAN_SCRIPT, _DEBIAN_BIN = b"/usr/bin/execlineb", b"/usr/lib/execline/bin"
_DENIED, _USAGE, _BROKEN = 1, 100, 111
_CLIENT = (b"LOCALIP", b"LOCALPORT", b"REMOTEIP", b"REMOTEPORT")


@dataclass(frozen=True)
class Lookups:
    """What to find out about a client beyond its address.

    `names` asks for host names, `hosts` looks into /etc/hosts first, `paranoid` drops a remote name that does
    not lead back to the client, `user` asks IDENT.  `strict` refuses a client when something cannot be found
    out.  `timeout` is in milliseconds, 0 for none.
    """

    names: bool = True
    hosts: bool = False
    paranoid: bool = False
    user: bool = False
    strict: bool = False
    timeout: int = 0


@dataclass(frozen=True)
class Access:
    """Check a client against rules, apply its rule's environment and program, and set up the socket.

    `rules` is None when no rule set was named: everybody is allowed then.  `local_name`
    is the value for ``${PROTO}LOCALHOST``, None to look it up.
    """

    rules: Rules | None = None
    verbosity: int = 1
    lookups: Lookups = Lookups(names=False)
    local_name: bytes | None = None
    banner: bytes = b""
    nodelay: bool = False
    outpost: Outpost = field(default_factory=Outpost)
    program: str = "s6-tcpserver-access"

    def apply(self, image: Image) -> Reply | None:
        """Raise Refused: 1 denied, 99 timed out, 100 for a wrong environment, 111 for a broken rule set."""
        proto, address = self._client(image)
        if self.banner:
            self._send_banner(image)
        if self.nodelay:
            self._disable_nagle(image)
        decision = Decision(Verdict.ALLOW)
        if self.rules is not None:
            decision = check_rules(self.program, self.rules, lambda rules: rules.check_address(address))
        if decision.verdict is Verdict.DENY or (decision.verdict is Verdict.NOTFOUND and not self.lookups.names):
            raise self._denied(address)
        if not (self.lookups.names or self.lookups.user):
            self._admit(image, proto, address, decision, {})
            return None

        def found(findings: dict[bytes, bytes]) -> None:
            if not all(_is_usable(*finding) for finding in findings.items()):
                raise Refused(self.program, _BROKEN, f"unable to look up {shown(address)}: the outpost tells nonsense")
            self._decide_by_name(image, proto, address, decision, findings)

        def gone() -> NoReturn:
            raise Refused(self.program, _BROKEN, f"unable to look up {shown(address)}: the outpost is gone")

        return Reply(self._inquire(image, proto), self.program, FINDINGS, found, gone)

    def _inquire(self, image: Image, proto: bytes) -> int:
        env = {name: image.env[proto + name].decode() for name in _CLIENT}
        wanted = self.lookups
        question = {
            "remote": env[b"REMOTEIP"],
            "local": env[b"LOCALIP"],
            "remote_port": int(env[b"REMOTEPORT"]),
            "local_port": int(env[b"LOCALPORT"]),
            "remote_name": wanted.names,
            "local_name": wanted.names and self.local_name is None,
            "hosts": wanted.hosts,
            "paranoid": wanted.paranoid,
            "user": wanted.user,
        }
        return self.outpost.inquire(self.program, question, wanted.timeout, self._name_servers(image))

    def _name_servers(self, image: Image) -> list[str]:
        """Return the addresses in DNSCACHEIP."""
        servers = [text for text in re.split(rb"[\s,;]+", image.env.get(b"DNSCACHEIP", b"")) if text]
        if not all(map(_is_address, servers)):
            raise Refused(self.program, _USAGE, "invalid $DNSCACHEIP")
        return [text.decode() for text in servers]

    def _decide_by_name(
        self, image: Image, proto: bytes, address: bytes, decision: Decision, findings: dict[bytes, bytes]
    ) -> None:
        problem = findings.pop(ERROR, b"")
        if problem and self.lookups.strict:
            raise Refused(self.program, _BROKEN, f"unable to look up {shown(address)}: {shown(problem)}")
        if problem and self.verbosity >= 2:
            log(self.program, "warning", f"unable to look up {shown(address)}: {shown(problem)}")
        name = findings.get(REMOTE_HOST)
        if decision.verdict is Verdict.NOTFOUND and self.rules is not None and name is not None:
            decision = check_rules(self.program, self.rules, lambda rules: _by_address_and_name(rules, address, name))
        if decision.verdict is not Verdict.ALLOW:
            raise self._denied(address)
        self._admit(image, proto, address, decision, findings)

    def _denied(self, address: bytes) -> Refused:
        message = f"deny pid {os.getpid()} ip {shown(address)}" if self.verbosity >= 2 else ""
        return Refused(self.program, _DENIED, message, kind="info")

    def _admit(
        self, image: Image, proto: bytes, address: bytes, decision: Decision, findings: dict[bytes, bytes]
    ) -> None:
        image.env = decision.apply_env(image.env)
        if decision.exec:
            run_instead(image, decision.exec)
        if self.verbosity >= 1:
            image.on_start.append((self.program, f"allow pid {{pid}} ip {shown(address)}"))
        if self.local_name is not None:
            findings = {**findings, LOCAL_HOST: self.local_name}
        for name in (REMOTE_HOST, REMOTE_INFO, LOCAL_HOST):
            if name in findings:
                image.env[proto + name] = findings[name]
            else:
                image.env.pop(proto + name, None)

    def _client(self, image: Image) -> tuple[bytes, bytes]:
        """Return PROTO and the client's address, having checked that we run under a UCSPI server."""
        proto = image.env.get(b"PROTO")
        if proto is None:
            raise Refused(self.program, _USAGE, "PROTO not set")
        for suffix in _CLIENT:
            value = image.env.get(proto + suffix)
            if value is None:
                raise Refused(self.program, _USAGE, f"{shown(proto + suffix)} not set")
            if not (_is_address(value) if suffix.endswith(b"IP") else _is_port(value)):
                raise Refused(self.program, _USAGE, f"invalid ${shown(proto + suffix)}")
        return proto, image.env[proto + b"REMOTEIP"]

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


def _by_address_and_name(rules: RuleSet, address: bytes, name: bytes) -> Decision:
    """Decide by the address and, if that does not, by the name.

    Rules may have changed while the name was looked up, and the name counts only where the same set leaves the
    address undecided: one set's silence and another's names could let in whom both deny.
    """
    decision = rules.check_address(address)
    return rules.check_name(name) if decision.verdict is Verdict.NOTFOUND else decision


def check_rules(program: str, rules: Rules, question: Question) -> Decision:
    """Put a question to a rule set.  Raises Refused (111) for one that cannot be read or has no answer but an error."""
    try:
        decision = rules.ask(question)
    except OSError as error:
        decision = Decision(Verdict.ERROR, error=error.strerror or str(error))
    if decision.verdict is Verdict.ERROR:
        raise Refused(program, _BROKEN, f"unable to check rules in {shown(rules.path)}: {decision.error}")
    return decision


def run_instead(image: Image, script: bytes) -> None:
    """Let a rule's execlineb script run instead of the whole rest of the chain."""
    image.replace_rest([b"execlineb", b"-c", script])
    _shorten_debian_path(image)


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


def _is_usable(name: bytes, value: bytes) -> bool:
    """Check what the outpost tells, which strangers may have taken over."""
    if name in (REMOTE_HOST, LOCAL_HOST):
        return normalised(value) == value
    return name != REMOTE_INFO or ident.usable(value)
