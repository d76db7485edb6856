"""A connection as the super-server has it, from its acceptance until it gives its slot back."""

from __future__ import annotations

import os

from s6tls.posix.reactor import Timer
from s6tls.ucspi.image import Image, Waiting
from s6tls.ucspi.ledger import Client

ACCEPTED, SERVED, CLOSING = "accepted", "served", "closing"
"""States of a connection, beside waiting in a stage: not in a stage yet, with a program, and without one any more."""


class Connection:
    """One client on its way through the chain, and then as long as it holds its slot.

    `pid` is that of its program, or the server's if it got none.  Both its program and its session may be `pending`.
    `state` is the name of the stage in which it waits, since `asked`, or what comes after the stages.
    """

    __slots__ = ("accepted", "asked", "client", "image", "pending", "pid", "state", "timer", "waiting")

    def __init__(self, client: Client, image: Image) -> None:
        self.client, self.image = client, image
        self.waiting: Waiting | None = None
        self.timer: Timer | None = None
        self.accepted = image.since
        self.pid, self.pending = os.getpid(), 1
        self.state, self.asked = ACCEPTED, 0.0


def how_ended(status: int) -> str:
    """Return what the log says of a program's end, from its status of wait(2)."""
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return f"exitcode {os.WEXITSTATUS(status)}"
