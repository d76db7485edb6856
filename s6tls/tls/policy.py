"""Checks that the TLS library skips when a session is resumed.

The library verifies a client's certificate when it sees it.  A session that resumes
shows none: its ticket says that all was well once.  So a client that resumes must still
have a valid certificate, and tickets are no longer valid when anything that they were
based on (an authority, a revocation list) has expired.  A session that resumes does not
need a certificate of ours either, so a name that we do not serve must be refused here.
In TLS 1.2 the library takes the session's name for the one that is asked for, so we look at what the client said.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from s6tls.tls import wire
from s6tls.tls.library import Connection

if TYPE_CHECKING:
    from OpenSSL import SSL

clock = time.time
_NOT_SERVED = "no certificate for the name that the peer asked for"


class Predecessor(NamedTuple):
    """A context whose tickets still count, and the name of their key: each of them begins with it."""

    context: SSL.Context
    key_name: bytes


@dataclass
class SessionPolicy:
    """Which sessions a context may hold.

    `serves` is false when the context is for clients that ask for no name that we have; `only` are
    the names that may be asked for, if not all may; `valid_until` is when
    what is known about clients' certificates runs out, in seconds since 1970.

    `predecessor` had the ticket key before, and `successor` makes the context that takes the place of one.  `stapled`
    are the OCSP responses, by their files, and when each runs out.
    """

    serves: bool = True
    valid_until: float = inf
    only: frozenset[bytes] | None = None
    predecessor: Predecessor | None = field(default=None, compare=False)
    successor: Callable[[SSL.Context], SSL.Context] | None = field(default=None, compare=False)
    stapled: dict[str, float] = field(default_factory=dict, compare=False)


def new_session(context: SSL.Context) -> Connection:
    """Make a server's session; one whose tickets do not count, if what they were issued on has run out."""
    connection = Connection(context)
    if of(context).valid_until <= clock():
        connection.refuse_tickets()
    return connection


def checks_names(connection: Connection) -> bool:
    """Tell whether `rejection_reason` must be told what the client said."""
    return of(connection.context).only is not None


def rejection_reason(connection: Connection, said: bytes) -> str:
    """Return why a session that the library has established must not be, or "".

    `said` is what the client has said up to now, its first message at least; b"" will do if nobody `checks_names`.
    """
    policy = of(connection.context)
    if not policy.serves:
        return _NOT_SERVED
    if connection.resumed:
        if policy.only is not None and not _asks_for_one_of(policy.only, said):
            return _NOT_SERVED
        certificate = connection.peer_certificate
        now = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(clock())).encode()
        if certificate is not None and (certificate.get_notAfter() or b"") < now:
            return "certificate verify failed: certificate has expired"
    return ""


def entry(asked: bytes, names: Collection[bytes]) -> bytes | None:
    """Return under which of our names a server name is served: itself, or with ``*`` for its first label."""
    asked = asked.lower().rstrip(b".")
    _, dot, rest = asked.partition(b".")
    return next((name for name in (asked, b"*" + dot + rest) if asked and name in names), None)


def _asks_for_one_of(names: Collection[bytes], said: bytes) -> bool:
    try:
        return entry(wire.server_name(said), names) is not None
    except ValueError:
        return False


def of(context: SSL.Context) -> SessionPolicy:
    """Return the policy of a context."""
    found = context.get_app_data()
    return found if isinstance(found, SessionPolicy) else SessionPolicy()
