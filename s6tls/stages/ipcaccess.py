"""The stage of s6-ipcserver-access: rules by user and group decide which local clients pass."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass

from s6tls.accessrules import Decision, Verdict
from s6tls.accessrules.identifiers import BadId, parse_id
from s6tls.accessrules.text import shown
from s6tls.posix.exitcodes import ExitCode
from s6tls.stages.access import run_instead
from s6tls.stages.rulesource import Rules, check_rules, rule_name
from s6tls.ucspi.image import Image, StageExit
from s6tls.ucspi.log import Told, log

_DENIED, _USAGE, _SYSTEM = ExitCode.DENIED, ExitCode.USAGE, ExitCode.SYSTEM
_LONGEST_PATH = 99
_VARIABLES = (b"REMOTEEUID", b"REMOTEEGID", b"REMOTEPATH", b"CONNNUM", b"LOCALPATH")


@dataclass(frozen=True)
class IpcAccess:
    """Check a local client's ids, and apply its rule's environment and program.

    `rules` is None when no rule set was named: everybody is allowed then.  `bare` removes the server's
    variables.  `local_name` stands for the socket's path, None to ask the kernel.
    """

    rules: Rules | None = None
    verbosity: int = 1
    bare: bool = False
    local_name: bytes | None = None
    program: str = "s6-ipcserver-access"

    def apply(self, image: Image) -> None:
        """Raise StageExit: 1 denied, 100 for a wrong environment, 111 for a broken rule set."""
        proto = image.env.get(b"PROTO")
        if proto is None:
            raise StageExit(self.program, _USAGE, "PROTO not set")
        uid, gid = self._id(image, proto + b"REMOTEEUID"), self._id(image, proto + b"REMOTEEGID")
        decision = self._decide(uid, gid)
        client = {"uid": uid, "gid": gid, "rule": (rule := rule_name(decision))}
        if decision.verdict is not Verdict.ALLOW:
            why = os.strerror(errno.EACCES if decision.verdict is Verdict.DENY else errno.ENOENT)
            template = "{event} pid {pid} uid {uid} gid {gid}: {reason} rule {rule}"
            told = Told(template, event="deny", pid=os.getpid(), reason=why, **client)
            message = told if self.verbosity >= 2 else ""
            raise StageExit(self.program, _DENIED, message, kind="info")
        if self.verbosity >= 1:
            template = "{event} pid {pid} uid {uid} gid {gid} rule {rule}"
            image.on_start.append((self.program, lambda pid: Told(template, event="allow", pid=pid, **client)))
        image.rule = rule
        image.env = decision.apply_env(image.env)
        if self.bare:
            image.unset([b"PROTO", *(proto + name for name in _VARIABLES)])
        else:
            image.env[proto + b"LOCALPATH"] = self._path(image)
        if decision.exec:
            run_instead(image, decision.exec)

    def _id(self, image: Image, name: bytes) -> int:
        value = image.env.get(name)
        if value is None:
            raise StageExit(self.program, _USAGE, f"{shown(name)} not set")
        try:
            return parse_id(value)
        except BadId as error:
            raise StageExit(self.program, _USAGE, f"invalid ${shown(name)}") from error

    def _decide(self, uid: int, gid: int) -> Decision:
        if self.rules is None:
            if self.verbosity >= 2:
                log(self.program, "warning", "invoked without a ruleset!")
            return Decision(Verdict.ALLOW)
        return check_rules(self.program, self.rules, lambda rules: rules.check_uidgid(uid, gid))

    def _path(self, image: Image) -> bytes:
        if self.local_name is not None:
            return self.local_name
        try:
            with socket.socket(fileno=os.dup(image.stdin)) as connection:
                name = connection.getsockname()
        except OSError as error:
            raise StageExit(self.program, _SYSTEM, f"unable to ipc_local: {error.strerror}") from error
        path = os.fsencode(name) if isinstance(name, str | bytes) else b""
        return path.partition(b"\0")[0][:_LONGEST_PATH]
