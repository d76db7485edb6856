"""Checks that the TLS library skips when a session is resumed.

The library verifies a client's certificate when it sees it.  A session that resumes
shows none: its ticket says that all was well once.  So a client that resumes must still
have a valid certificate, and tickets are no longer valid when anything that they were
based on (an authority, a revocation list) has expired.  A session that resumes does not
need a certificate of ours either, so a name that we do not serve must be refused here.
In TLS 1.2 the library takes the session's name for the one that is asked for, so we look at what the client said:
under another name it must not resume (RFC 6066, 3).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from s6tls.helper import texts
from s6tls.tls import wire
from s6tls.tls.library import Connection

if TYPE_CHECKING:
    from OpenSSL import SSL

clock = time.time
_WITHOUT_CERTIFICATE = ("no shared cipher", "no suitable signature algorithm")
"""What the library says in TLS 1.2, and in TLS 1.3, where it has none."""


class Predecessor(NamedTuple):
    """A context whose tickets still count, and the name of their key: each of them begins with it."""

    context: SSL.Context
    key_name: bytes


@dataclass
class SessionPolicy:
    """Which sessions a context may hold.

    `serves` is false when the context is for clients that ask for no name that we have; `valid_until` is when what is
    known about clients' certificates runs out, in seconds since 1970.

    `predecessor` had the ticket key before, and `successor` makes the context that takes the place of one.  `stapled`
    are the OCSP responses, by their files, and when each runs out.
    """

    serves: bool = True
    valid_until: float = inf
    predecessor: Predecessor | None = field(default=None, compare=False)
    successor: Callable[[SSL.Context], SSL.Context] | None = field(default=None, compare=False)
    stapled: dict[str, float] = field(default_factory=dict, compare=False)


def new_session(context: SSL.Context) -> Connection:
    """Make a server's session; one whose tickets do not count, if what they were issued on has run out."""
    connection = Connection(context)
    if of(context).valid_until <= clock():
        connection.refuse_tickets()
    return connection


def has_another_name(connection: Connection, said: bytes) -> bool:
    """Tell whether this goes on with a session of another name than the client asks for in the first that it `said`."""
    return connection.resumed and _asked(said) != connection.server_name


def rejection_reason(connection: Connection) -> str:
    """Return why a session that the library has established must not be, or ""."""
    policy = of(connection.context)
    if not policy.serves:
        return _not_served(connection.server_name)
    if connection.resumed:
        certificate = connection.peer_certificate
        now = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(clock())).encode()
        if certificate is not None and (certificate.get_notAfter() or b"") < now:
            return "certificate verify failed: certificate has expired"
    return ""


def explained(connection: Connection, reason: str) -> str:
    """Return the reason for which the library ends a handshake, or why, where that is for want of a certificate."""
    wants_certificate = reason in _WITHOUT_CERTIFICATE and not of(connection.context).serves
    return _not_served(connection.server_name) if wants_certificate else reason


def entry(asked: bytes, names: Collection[bytes]) -> bytes | None:
    """Return under which of our names a server name is served: itself, or with ``*`` for its first label."""
    asked = asked.lower().rstrip(b".")
    _, dot, rest = asked.partition(b".")
    return next((name for name in (asked, b"*" + dot + rest) if asked and name in names), None)


def _asked(said: bytes) -> bytes:
    try:
        return wire.server_name(said)
    except ValueError:
        return b""


def _not_served(asked: bytes) -> str:
    if not asked:
        return "no certificate for a peer that asks for no name"
    name = texts.host_name(asked)
    return f"no certificate for {name.decode()}" if name else "no certificate for what is no name of a host"


def of(context: SSL.Context) -> SessionPolicy:
    """Return the policy of a context."""
    found = context.get_app_data()
    return found if isinstance(found, SessionPolicy) else SessionPolicy()
