"""The states of a TLS session, and what each event makes of them, as data; `s6tls.tls.session` acts on it.

A session has two directions, and each ends alone::

    inbound    the client's bytes      network ──> library ──> program
    outbound   the program's bytes     program ──> library ──> network

The inbound direction is

- OPEN: records are read and decrypted, and the program gets what is in them;
- LAST: the client has ended its direction, or broken the session.  Nothing more is decrypted, but the
  program still gets, however slowly it reads, what was decrypted before;
- DROPPING: the program gets nothing more.  The network is read all the same, and what comes is dropped:
  if a socket is closed with unread bytes in it, the kernel resets the connection.  Then the client may
  lose what it has not read yet: the end of an answer, or the alert that explains a refusal;
- CLOSED: the client's end of file has been read, or is not waited for any more.

The outbound direction is

- SHAKING: the handshake goes on, and the program is not read yet;
- OPEN: what the program writes is encrypted and sent;
- LEFT: so is what the program has left in its pipe, for it is gone;
- LAST: the program has ended, or may not go on.  What is encrypted is sent, a close_notify or an alert with it;
- ENDED: an end of file has been sent, and is still on its way with what came before it.  Whoever closed the socket
  now would never hear of a reset, and the kernel would not wait long for a slow client;
- CLOSED: the client's kernel has everything, or takes nothing more.

A session is over when both are CLOSED.  Each direction has a table of its own, `INBOUND` and `OUTBOUND`: what an
event makes of each state.  An event that a table does not name leaves the state as it is, so every pair of states
has an answer to every event.  Only two rules connect the directions:

- With close_notify (``-S``) the program's end ends both: `ONE_WAY` is added to `INBOUND`.
- In some pairs only the client can bring the session further, and it may never do so.  `WAITS_FOR_CLIENT`
  lists them; there the session asks after a while whether anything has moved towards the client,
  and raises STALLED if not.  In all others the program can move, or end, and the kernel tells of it.
  Before the handshake is done there is the handshake's own time limit, which raises ABANDONED.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class _Named(enum.Enum):
    """A member is found by its identity: the hash that Enum has is a function in Python, and a session asks often."""

    __hash__ = object.__hash__


class Inbound(_Named):
    """The direction from the client to the program."""

    OPEN = enum.auto()
    LAST = enum.auto()
    DROPPING = enum.auto()
    CLOSED = enum.auto()


class Outbound(_Named):
    """The direction from the program to the client."""

    SHAKING = enum.auto()
    OPEN = enum.auto()
    LEFT = enum.auto()
    LAST = enum.auto()
    ENDED = enum.auto()
    CLOSED = enum.auto()


class Event(_Named):
    """What happens to a session."""

    SHAKEN = enum.auto()
    """The handshake is done."""
    CLIENT_ENDED = enum.auto()
    """The client sends nothing more to the program: close_notify, end of file or reset."""
    BROKEN = enum.auto()
    """Nothing that comes is valid any more, and nothing can be encrypted: a bad record, a fatal alert."""
    DELIVERED = enum.auto()
    """The program has all that was decrypted."""
    PROGRAM_DEAF = enum.auto()
    """The program reads no more."""
    PROGRAM_GONE = enum.auto()
    """Nobody writes any more, though there may be something left to be read."""
    PROGRAM_ENDED = enum.auto()
    """The program writes no more, and all that it wrote has been read."""
    SENT = enum.auto()
    """The kernel has all that was encrypted."""
    ACKNOWLEDGED = enum.auto()
    """The client's kernel has all that was sent, our end of file too."""
    UNSENDABLE = enum.auto()
    """The network takes nothing more."""
    NETWORK_ENDED = enum.auto()
    """Nothing more is to be read from the network."""
    STALLED = enum.auto()
    """For a long time nothing has moved towards the client, and it has not ended either."""
    ABANDONED = enum.auto()
    """There will be no handshake: it took too long, or the program is gone."""


INBOUND: Mapping[Inbound, Mapping[Event, Inbound]] = {
    Inbound.OPEN: {
        Event.CLIENT_ENDED: Inbound.LAST,
        Event.BROKEN: Inbound.LAST,
        Event.PROGRAM_DEAF: Inbound.DROPPING,
        Event.STALLED: Inbound.LAST,
        Event.ABANDONED: Inbound.CLOSED,
    },
    Inbound.LAST: {
        Event.DELIVERED: Inbound.DROPPING,
        Event.PROGRAM_DEAF: Inbound.DROPPING,
    },
    Inbound.DROPPING: {
        Event.NETWORK_ENDED: Inbound.CLOSED,
        Event.STALLED: Inbound.CLOSED,
        Event.ABANDONED: Inbound.CLOSED,
    },
    Inbound.CLOSED: {},
}

ONE_WAY: Mapping[Inbound, Mapping[Event, Inbound]] = {Inbound.OPEN: {Event.SENT: Inbound.LAST}}

OUTBOUND: Mapping[Outbound, Mapping[Event, Outbound]] = {
    Outbound.SHAKING: {
        Event.SHAKEN: Outbound.OPEN,
        Event.BROKEN: Outbound.LAST,
        Event.UNSENDABLE: Outbound.CLOSED,
        Event.ABANDONED: Outbound.CLOSED,
    },
    Outbound.OPEN: {
        Event.PROGRAM_GONE: Outbound.LEFT,
        Event.PROGRAM_ENDED: Outbound.LAST,
        Event.BROKEN: Outbound.LAST,
        Event.UNSENDABLE: Outbound.CLOSED,
    },
    Outbound.LEFT: {
        Event.PROGRAM_ENDED: Outbound.LAST,
        Event.BROKEN: Outbound.LAST,
        Event.UNSENDABLE: Outbound.CLOSED,
        Event.STALLED: Outbound.CLOSED,
    },
    Outbound.LAST: {
        Event.SENT: Outbound.ENDED,
        Event.UNSENDABLE: Outbound.CLOSED,
        Event.STALLED: Outbound.CLOSED,
    },
    Outbound.ENDED: {
        Event.ACKNOWLEDGED: Outbound.CLOSED,
        Event.UNSENDABLE: Outbound.CLOSED,
        Event.STALLED: Outbound.CLOSED,
    },
    Outbound.CLOSED: {},
}

WAITS_FOR_CLIENT = frozenset(
    {(inbound, outbound) for inbound in Inbound for outbound in (Outbound.LEFT, Outbound.LAST, Outbound.ENDED)}
    | {(Inbound.DROPPING, Outbound.CLOSED)},
)

OVER = (Inbound.CLOSED, Outbound.CLOSED)
WITHOUT_PROGRAM = (Inbound.DROPPING, Outbound.SHAKING)
"""Where a program that has ended, too, and left nothing to be sent, needs no handshake any more."""

READS_PROGRAM = frozenset({Outbound.OPEN, Outbound.LEFT})
HAS_SAID_ALL = frozenset({Outbound.ENDED, Outbound.CLOSED})
READS_NETWORK = frozenset({Inbound.OPEN, Inbound.DROPPING})
DELIVERS = frozenset({Inbound.OPEN, Inbound.LAST})
PROGRAM_IS_DONE = frozenset(
    (inbound, outbound)
    for inbound in (Inbound.DROPPING, Inbound.CLOSED)
    for outbound in (Outbound.LAST, Outbound.ENDED, Outbound.CLOSED)
)
"""Where nobody can lose anything to a client that breaks the session."""


def follow(inbound: Inbound, outbound: Outbound, event: Event, one_way: bool) -> tuple[Inbound, Outbound]:
    """Return the states after `event`; `one_way` is close_notify mode."""
    then = INBOUND[inbound].get(event, inbound)
    if one_way:
        then = ONE_WAY.get(inbound, {}).get(event, then)
    return then, OUTBOUND[outbound].get(event, outbound)
