"""The stage of s6-tcpserver-access: rules decide who passes, and what they change on the way.

Banner first, then the rules by address.  When they do not decide, or a name is wanted for the
environment, the lookup helper looks the client up; a client that no address rule decides passes only if a
``reversedns`` rule allows its name.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

from s6tls.accessrules import AddressError, Decision, RuleSet, Verdict
from s6tls.accessrules.identifiers import normalised
from s6tls.accessrules.keys import address_text, client_address, parse_address
from s6tls.accessrules.text import shown
from s6tls.helper import ident
from s6tls.helper.helper import LookupHelper
from s6tls.helper.reply import Answers, Reply
from s6tls.helper.variables import ERROR, LOCAL_HOST, REMOTE_HOST, REMOTE_INFO, VARIABLES
from s6tls.posix.exitcodes import ExitCode
from s6tls.stages.preparation import Preparation
from s6tls.stages.rulesource import Rules, check_rules, open_rules, rule_name
from s6tls.ucspi.image import Deadline, Image, StageExit
from s6tls.ucspi.log import Told, log
from s6tls.ucspi.spawn import locate
from s6tls.ucspi.status.files import File

_DEBIAN_SCRIPT, _DEBIAN_BIN = b"/usr/bin/execlineb", b"/usr/lib/execline/bin"
_DENIED, _USAGE, _BROKEN = ExitCode.DENIED, ExitCode.USAGE, ExitCode.SYSTEM
_MOST_NAME_SERVERS = 16
_LONGEST_LOOKUP_S = 120.0
_EVERYBODY_PASSES = Decision(Verdict.ALLOW)
_CLIENT = (b"LOCALIP", b"LOCALPORT", b"REMOTEIP", b"REMOTEPORT")


@dataclass(frozen=True)
class Lookups:
    """What to find out about a client beyond its address.

    `names` asks for host names, `hosts` looks into /etc/hosts first, `paranoid` drops a remote name that does
    not lead back to the client, `user` asks IDENT.  `strict` refuses a client when something cannot be found
    out.  `timeout_ms` is 0 for none.
    """

    names: bool = True
    hosts: bool = False
    paranoid: bool = False
    user: bool = False
    strict: bool = False
    timeout_ms: int = 0


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
    helper: LookupHelper = field(default_factory=LookupHelper)
    program: str = "s6-tcpserver-access"

    def prepare(self, preparation: Preparation) -> None:
        """Open the rules.  Raises StageExit: 111 when they cannot be read, 100 for wrong name servers."""
        if self.rules is not None:
            open_rules(self.program, self.rules)
            preparation.ruled = True
        if self.lookups.names or self.lookups.user:
            _name_servers(self.program, preparation.env)

    def reread(self) -> None:
        """Open the rules anew, and log it.  Raises StageExit (111)."""
        if self.rules is not None:
            open_rules(self.program, self.rules)
            log(self.program, "info", f"rules in {shown(self.rules.path)}: can be read")

    def apply(self, image: Image) -> Reply | None:
        """Raise StageExit: 1 denied, 99 timed out, 100 for a wrong environment, 111 for a broken rule set."""
        proto = self._proto(image.env)
        if self.banner:
            self._send_banner(image)
        if self.nodelay:
            self._disable_nagle(image)
        address = image.env[proto + b"REMOTEIP"]
        if b":" in address and len(packed := client_address(address)) == 4:
            image.env[proto + b"REMOTEIP"] = address = address_text(packed)
        return _Check(self, image, proto, address).by_address()

    def files(self) -> list[File]:
        """Return the files that decide."""
        return [] if self.rules is None else [File("rules", self.rules.path, self.rules.stamp)]

    def _proto(self, env: Mapping[bytes, bytes]) -> bytes:
        """Return PROTO, having checked that we run under a UCSPI server."""
        proto = env.get(b"PROTO")
        if proto is None:
            raise StageExit(self.program, _USAGE, "PROTO not set")
        for suffix in _CLIENT:
            value = env.get(proto + suffix)
            if value is None:
                raise StageExit(self.program, _USAGE, f"{shown(proto + suffix)} not set")
            if not (_is_address(value) if suffix.endswith(b"IP") else _is_port(value)):
                raise StageExit(self.program, _USAGE, f"invalid ${shown(proto + suffix)}")
        return proto

    def _send_banner(self, image: Image) -> None:
        """Write the banner without waiting: it fits an empty socket's buffer, or the connection is refused."""
        try:
            os.set_blocking(image.stdout, False)
            try:
                written = os.write(image.stdout, self.banner)
            finally:
                os.set_blocking(image.stdout, True)
        except OSError as error:
            raise StageExit(self.program, _BROKEN, f"unable to write banner: {error.strerror}") from error
        if written < len(self.banner):
            raise StageExit(self.program, _BROKEN, "unable to write banner: longer than the socket's buffer")

    def _disable_nagle(self, image: Image) -> None:
        try:
            with socket.socket(fileno=os.dup(image.stdout)) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            if self.verbosity >= 1:
                log(self.program, "warning", f"unable to disable Nagle's algorithm: {error.strerror}")


@dataclass
class _Check:
    """One client's way through the rules: by address, then by name if there is need, then admitted or refused."""

    options: Access
    image: Image
    proto: bytes
    address: bytes
    decision: Decision = _EVERYBODY_PASSES
    asked: float = 0.0

    def by_address(self) -> Reply | None:
        """Admit the client and return None, or return what waits for its names.  Raises StageExit."""
        rules, lookups = self.options.rules, self.options.lookups
        if rules is not None:
            self.decision = check_rules(self.options.program, rules, lambda rules: rules.check_address(self.address))
        verdict = self.decision.verdict
        if verdict is Verdict.DENY or (verdict is Verdict.NOTFOUND and not lookups.names):
            raise self._denied()
        if lookups.names or lookups.user:
            answers = Answers(self._by_name, self._helper_ended)
            return Reply(self._look_up(), self.options.program, VARIABLES, answers, self._deadline())
        self._admit({})
        return None

    def _look_up(self) -> int:
        env, wanted = self.image.env, self.options.lookups
        local_ip, local_port, remote_ip, remote_port = (env[self.proto + name].decode() for name in _CLIENT)
        lookup = {
            "remote": remote_ip,
            "local": local_ip,
            "remote_port": int(remote_port),
            "local_port": int(local_port),
            "remote_name": wanted.names,
            "local_name": wanted.names and self.options.local_name is None,
            "hosts": wanted.hosts,
            "paranoid": wanted.paranoid,
            "user": wanted.user,
        }
        servers = _name_servers(self.options.program, env)
        return self.options.helper.look_up(self.options.program, lookup, wanted.timeout_ms, servers)

    def _deadline(self) -> Deadline:
        """Return when a helper that does not answer is given up: it ends a lookup in time by itself, if it can."""
        self.asked = time.monotonic()
        seconds = self.options.lookups.timeout_ms / 1000 or _LONGEST_LOOKUP_S
        program = self.options.program
        late = self._unable("took too long")
        return Deadline(self.asked + seconds, lambda: StageExit(program, ExitCode.TIMEOUT, late))

    def _by_name(self, found: dict[bytes, bytes]) -> None:
        self.image.since += time.monotonic() - self.asked
        if not all(_is_usable(*variable) for variable in found.items()):
            raise self._unable_to_look_up("invalid reply from lookup helper")
        problem = shown(found.pop(ERROR, b""))
        if problem and self.options.lookups.strict:
            raise self._unable_to_look_up(problem)
        if problem and self.options.verbosity >= 2:
            log(self.options.program, "warning", self._unable(problem))
        rules, name = self.options.rules, found.get(REMOTE_HOST)
        if self.decision.verdict is Verdict.NOTFOUND and rules is not None and name is not None:
            self.decision = check_rules(
                self.options.program, rules, lambda rules: _by_address_and_name(rules, self.address, name)
            )
        if self.decision.verdict is not Verdict.ALLOW:
            raise self._denied()
        self._admit(found)

    def _helper_ended(self) -> NoReturn:
        raise self._unable_to_look_up("lookup helper ended")

    def _unable_to_look_up(self, why: str) -> StageExit:
        return StageExit(self.options.program, _BROKEN, self._unable(why))

    def _unable(self, why: str) -> Told:
        return Told("unable to look up {ip}: {reason}", ip=shown(self.address), reason=why)

    def _denied(self) -> StageExit:
        self.image.rule = rule_name(self.decision)
        message = self._told("deny")(os.getpid()) if self.options.verbosity >= 2 else ""
        return StageExit(self.options.program, _DENIED, message, kind="info")

    def _told(self, event: str) -> Callable[[int], Told]:
        """Return what says of a process what was decided; it keeps nothing of the connection."""
        return partial(_decided, event, shown(self.address), self.image.rule)

    def _admit(self, names: dict[bytes, bytes]) -> None:
        """Apply the rule that decided; then set those of the names that are there, and remove the others."""
        image, options = self.image, self.options
        image.rule = rule_name(self.decision)
        image.env = self.decision.apply_env(image.env)
        if self.decision.exec:
            run_instead(image, self.decision.exec)
        if options.verbosity >= 1:
            image.on_start.append((options.program, self._told("allow")))
        if options.local_name is not None:
            names = {**names, LOCAL_HOST: options.local_name}
        for name in (REMOTE_HOST, REMOTE_INFO, LOCAL_HOST):
            if name in names:
                image.env[self.proto + name] = names[name]
            else:
                image.env.pop(self.proto + name, None)


def _name_servers(program: str, env: Mapping[bytes, bytes]) -> list[str]:
    """Return the addresses in DNSCACHEIP.  Raises StageExit (100)."""
    servers = [text for text in re.split(rb"[\s,;]+", env.get(b"DNSCACHEIP", b"")) if text]
    if not all(map(_is_address, servers)):
        raise StageExit(program, _USAGE, "invalid $DNSCACHEIP")
    if len(servers) > _MOST_NAME_SERVERS:
        raise StageExit(program, _USAGE, f"more than {_MOST_NAME_SERVERS} name servers in $DNSCACHEIP")
    return [text.decode() for text in servers]


def _decided(event: str, ip: str, rule: str, pid: int) -> Told:
    return Told("{event} pid {pid} ip {ip} rule {rule}", event=event, pid=pid, ip=ip, rule=rule)


def _by_address_and_name(rules: RuleSet, address: bytes, name: bytes) -> Decision:
    """Decide by the address and, if that does not, by the name.

    Rules may have changed while the name was looked up, and the name counts only where the same set leaves the
    address undecided: one set's silence and another's names could let in whom both deny.
    """
    decision = rules.check_address(address)
    return rules.check_name(name) if decision.verdict is Verdict.NOTFOUND else decision


def run_instead(image: Image, script: bytes) -> None:
    """Let a rule's execlineb script run instead of the whole rest of the chain."""
    image.replace_rest([b"execlineb", b"-c", script])
    _shorten_debian_path(image)


def _shorten_debian_path(image: Image) -> None:
    """Run Debian's execlineb itself, not the script of that name on the usual PATH.

    The script puts the directory of execline's programs in front of PATH and runs the execlineb in there.  We do
    the same, and save the five programs that the script runs for it.
    """
    try:
        stand_in = locate(image) == _DEBIAN_SCRIPT and os.access(_DEBIAN_BIN + b"/execlineb", os.X_OK)
    except StageExit:
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
    """Check a variable from the helper, which strangers may have taken over."""
    if name in (REMOTE_HOST, LOCAL_HOST):
        return normalised(value) == value
    return name != REMOTE_INFO or ident.usable(value)
