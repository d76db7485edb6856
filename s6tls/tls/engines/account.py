"""What an engine tells of its session: to the server, so that it knows when a connection is over, or on stderr.

The server's engines tell it on a pipe, in records of the form of replies (`s6tls.helper.reply`).  The first is the
reply, or the refusal of a client whose handshake has failed.  One more gives an account of the session when it has
ended.  Empty records between them say that the engine does not hang.
The pipe stays open until the end: end of file means that the connection is over, with or without an account.
An engine may have been taken over by its client.  Of what it says, nothing but a line in the log depends on it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from typing import Protocol

from s6tls.accessrules.text import shown
from s6tls.helper import reply
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.process import kill_holders
from s6tls.tls.credentials import BAD_HANDSHAKE, PROGRAM
from s6tls.ucspi.image import ClientFailure, StageExit
from s6tls.ucspi.log import Told, complaint, log

HANDSHAKE_TOO_LONG = "the handshake took too long"
_HANDSHAKE, _GO_ON = "complete the handshake", "go on"

_IN, _OUT, _FAILURE, _FAULT = _NAMES = (b"in", b"out", b"failure", b"fault")
_END = b"\0\0"
_ALL_WELL = b"\0failure=\0fault=" + _END
"""How most accounts end, and then they need not be read if nobody is to be told of them."""
_READS_A_TURN = 4
_EMPTY_RECORDS = re.compile(rb"\0{3,}")
_COUNT = re.compile(rb"[0-9]{1,20}")
_SHOWN = (
    ("protocol", b"SSL_PROTOCOL"),
    ("cipher", b"SSL_CIPHER"),
    ("name", b"SSL_TLS_SNI_SERVERNAME"),
    ("subject", b"SSL_PEER_CERT_SUBJECT"),
)


class Teller(Protocol):
    """Where an engine tells of one session."""

    def shaken(self) -> None:
        """The handshake is done; the reply, if there is to be one, is told elsewhere, now."""

    def unable(self, message: str) -> None:
        """There is no session, and that is not the client's doing."""

    def failed(self, reason: str, during_handshake: bool, ours: bool) -> None:
        """The client has failed, or left; or we have, and it has done nothing wrong."""

    def ended(self, received: int, sent: int) -> None:
        """The session is over; the program got and wrote so many bytes.  Nothing more is told."""


class OnStderr:
    """Tells whoever reads the log; `peer` names the client, unless it is empty."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def shaken(self) -> None:
        """See `Teller`."""

    def unable(self, message: str) -> None:
        """See `Teller`."""
        log(PROGRAM, "fatal", message)

    def failed(self, reason: str, during_handshake: bool, ours: bool) -> None:
        """See `Teller`."""
        log(PROGRAM, "fatal", _complaint(_HANDSHAKE if during_handshake else _GO_ON, reason, self._peer))

    def ended(self, received: int, sent: int) -> None:
        """An ordinary end needs no line."""


class OnPipe:
    """Tells the server; the descriptor is closed here, at the session's end.

    With `awaits_reply`, a reply or a refusal is to be the first that comes.
    """

    def __init__(self, fd: int, awaits_reply: bool) -> None:
        self._fd, self._failure, self._fault = fd, "", ""
        self._awaits_reply, self.is_open = awaits_reply, True
        os.set_blocking(fd, False)

    def alive(self) -> None:
        """Show that this process still does what is due."""
        if self.is_open and not self._awaits_reply:
            self._tell(_END)

    def shaken(self) -> None:
        """See `Teller`."""
        self._awaits_reply = False

    def unable(self, message: str) -> None:
        """See `Teller`."""
        self._tell(reply.refusal(ExitCode.SYSTEM, message))

    def failed(self, reason: str, during_handshake: bool, ours: bool) -> None:
        """See `Teller`."""
        if during_handshake:
            refused = (ExitCode.SYSTEM, _complaint(_HANDSHAKE, reason)) if ours else (BAD_HANDSHAKE, reason)
            self._tell(reply.refusal(*refused))
        elif ours:
            self._fault = reason
        else:
            self._failure = reason

    def ended(self, received: int, sent: int) -> None:
        """See `Teller`."""
        reasons = {_FAILURE: _value(self._failure), _FAULT: _value(self._fault)}
        self._tell(reply.encode({_IN: b"%d" % received, _OUT: b"%d" % sent, **reasons}))
        os.close(self._fd)
        self.is_open = False

    def _tell(self, record: bytes) -> None:
        self._awaits_reply = False
        with contextlib.suppress(OSError):  # a server that has gone, or does not read, misses a line
            os.write(self._fd, record)


class Account:
    """The server's end of such a pipe once the reply has come (an `OpenSession`); `said` is what came with the reply.

    The descriptor `fd` does not block.
    `peer` names the client, and `variables` are those of the reply: none if there was no handshake.  `rule` names the
    rule that let the client in, "" if none were asked.
    """

    def __init__(
        self,
        fd: int,
        said: bytes,
        peer: str,
        variables: Mapping[bytes, bytes],
        rule: str = "",
        silence_s: float = 0,
    ) -> None:
        self.fd, self.silence_s, self.heard = fd, silence_s, 0
        self._said, self._peer, self._variables, self._rule = said, peer, variables, rule
        self._is_abandoned = False

    def resume(self) -> bool | None:
        """Take in what has come, or a part of it: an engine may write without end."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(_READS_A_TURN):
                data = os.read(self.fd, reply.LARGEST)
                if not data:
                    return True
                self.heard += len(data)
                records = (self._said + data).lstrip(b"\0")
                self._said = _EMPTY_RECORDS.sub(_END, records)[-reply.LARGEST :]
            return None
        return False

    def abandon(self) -> None:
        """See `OpenSession`: the engine is killed, if it can be found."""
        self._is_abandoned = True
        kill_holders(self.fd)

    def close(self) -> None:
        """Stop listening."""
        os.close(self.fd)

    @property
    def failure(self) -> StageExit | None:
        """What has gone wrong after the reply; that is the handshake, where there was none before the reply.

        It is a warning if it was not the client's doing.
        """
        if self._is_abandoned:
            return StageExit(PROGRAM, ExitCode.SYSTEM, _complaint(_GO_ON, "its engine hangs", self._peer), "warning")
        if not self._variables:
            first, _, _ = self._said.partition(b"\0\0")
            try:
                reply.parse(first + b"\0\0", _NAMES)
            except reply.RefusalReply as refused:
                return refusal(refused, self._peer)
            except ValueError:
                return None
        if self._said.endswith(_ALL_WELL):
            return None
        told = self._told()
        if fault := told.get(_FAULT):
            return StageExit(PROGRAM, ExitCode.SYSTEM, _complaint(_GO_ON, shown(fault), self._peer), kind="warning")
        if reason := told.get(_FAILURE):
            return ClientFailure(PROGRAM, ExitCode.BROKEN_SESSION, _complaint(_GO_ON, shown(reason), self._peer))
        return None

    def told(self) -> Told:
        """See `OpenSession`."""
        told = self._told()
        if not self._variables and not any(int(told.get(name, b"0")) for name in (_IN, _OUT)):
            return Told("")
        fields: dict[str, object] = {name.decode(): int(told[name]) for name in (_IN, _OUT) if told}
        fields |= {word: shown(self._variables[name]) for word, name in _SHOWN if name in self._variables}
        fields |= {"rule": self._rule} if self._rule else {}
        template = "".join(f"{word} {{{word}}} " for word in fields) + "{end}"
        failed = told.get(_FAILURE) or told.get(_FAULT)
        return Told(template, **fields, end="broken" if failed else "ended" if told else "its engine has died")

    @property
    def traffic(self) -> tuple[int, int]:
        """See `OpenSession`."""
        told = self._told()
        return (int(told[_IN]), int(told[_OUT])) if told else (0, 0)

    def _told(self) -> dict[bytes, bytes]:
        """Return the last record, if it is an account."""
        last = self._said.removesuffix(b"\0\0").rpartition(b"\0\0")[2]
        try:
            told = reply.parse(last + b"\0\0", _NAMES)
        except (ValueError, reply.RefusalReply):
            return {}
        is_whole = set(told) == set(_NAMES) and all(_COUNT.fullmatch(told[name]) for name in (_IN, _OUT))
        return told if is_whole else {}


def refusal(refused: reply.RefusalReply, peer: str) -> StageExit:
    """Return how a connection ends whose engine refuses it."""
    if refused.code == BAD_HANDSHAKE:
        return ClientFailure(PROGRAM, BAD_HANDSHAKE, _complaint(_HANDSHAKE, str(refused), peer))
    return StageExit(PROGRAM, refused.code, str(refused))


def _value(reason: str) -> bytes:
    return reason.encode("ascii", "backslashreplace").replace(b"\0", b"")


def _complaint(aim: str, reason: str, peer: str = "") -> Told:
    return complaint(f"unable to {aim}", "with", peer, reason)
