"""What a context must answer for itself, because the TLS library does not ask.

The library verifies a client's certificate when it sees it.  A session that resumes
shows none: its ticket says that all was well once.  So whoever resumes must still
have a certificate in force, and tickets stop to count when anything that they were
issued on (an authority, a revocation list) has run out.  Nor does a session that
resumes need a certificate of ours: a name that we do not serve must be refused here.
In TLS 1.2 the library takes the session's name for the one that is asked for, so we look at what the client said.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from math import inf

from OpenSSL import SSL
from OpenSSL._util import lib

from s6tls.tls import hello

_NOT_SERVED = "no certificate for the name that the peer asked for"


@dataclass(frozen=True)
class Admission:
    """Whom a context lets in.

    `serves` is false when the context is for clients that ask for no name that we have; `only` are
    the names that may be asked for, if not all may; `until` is when
    what is known about clients' certificates runs out, in seconds since 1970.
    """

    serves: bool = True
    until: float = inf
    only: frozenset[bytes] | None = None


def begin(context: SSL.Context) -> SSL.Connection:
    """Make a server's session; one whose tickets do not count, if what they were issued on has run out."""
    connection = SSL.Connection(context, None)
    connection.set_accept_state()
    if _admission(connection).until <= time.time():
        connection.set_options(SSL.OP_NO_TICKET)
    return connection


def is_choosy(connection: SSL.Connection) -> bool:
    """Tell whether `objection` must be told what the client said."""
    return _admission(connection).only is not None


def objection(connection: SSL.Connection, said: bytes) -> str:
    """Return why a session that the library has established must not be, or "".

    `said` is what the client has said up to now, its first message at least; it may be b"" if nobody `is_choosy`.
    """
    admission = _admission(connection)
    if not admission.serves:
        return _NOT_SERVED
    if resumed(connection):
        if admission.only is not None and not _asks_for_one_of(admission.only, said):
            return _NOT_SERVED
        certificate = connection.get_peer_certificate()
        now = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time())).encode()
        if certificate is not None and (certificate.get_notAfter() or b"") < now:
            return "certificate verify failed: cert has expired"
    return ""


def remark(connection: SSL.Connection) -> str:
    """Return what the check of a client's certificate has noted on its session, or ""."""
    noted = connection.get_app_data()
    return noted if isinstance(noted, str) else ""


def resumed(connection: SSL.Connection) -> bool:
    """Tell whether a session is an earlier one gone on with.  pyOpenSSL binds this function and never calls it."""
    return bool(lib.SSL_session_reused(connection._ssl))


def entry(asked: bytes, names: Collection[bytes]) -> bytes | None:
    """Return under which of our names a server name is served: itself, or with ``*`` for its first label."""
    asked = asked.lower().rstrip(b".")
    _, dot, rest = asked.partition(b".")
    return next((name for name in (asked, b"*" + dot + rest) if asked and name in names), None)


def _asks_for_one_of(names: Collection[bytes], said: bytes) -> bool:
    try:
        return entry(hello.server_name(said), names) is not None
    except ValueError:
        return False


def _admission(connection: SSL.Connection) -> Admission:
    found = connection.get_context().get_app_data()
    return found if isinstance(found, Admission) else Admission()
