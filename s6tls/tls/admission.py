"""What a context must answer for itself, because the TLS library does not ask.

The library verifies a client's certificate when it sees it.  A session that resumes
shows none: its ticket says that all was well once.  So whoever resumes must still
have a certificate in force, and tickets stop to count when anything that they were
issued on (an authority, a revocation list) has run out.  Nor does a session that
resumes need a certificate of ours: a name that we do not serve must be refused here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf

from OpenSSL import SSL
from OpenSSL._util import lib


@dataclass(frozen=True)
class Admission:
    """Whom a context lets in.

    `serves` is false when the context is for clients that ask for no name that we have; `until` is when
    what is known about clients' certificates runs out, in seconds since 1970.
    """

    serves: bool = True
    until: float = inf


def begin(context: SSL.Context) -> SSL.Connection:
    """Make a server's session; one whose tickets do not count, if what they were issued on has run out."""
    connection = SSL.Connection(context, None)
    connection.set_accept_state()
    if _admission(connection).until <= time.time():
        connection.set_options(SSL.OP_NO_TICKET)
    return connection


def objection(connection: SSL.Connection) -> str:
    """Return why a session that the library has established must not be, or ""."""
    if not _admission(connection).serves:
        return "no certificate for the name that the peer asked for"
    if resumed(connection):
        certificate = connection.get_peer_certificate()
        now = time.strftime("%Y%m%d%H%M%SZ", time.gmtime()).encode()
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


def _admission(connection: SSL.Connection) -> Admission:
    found = connection.get_context().get_app_data()
    return found if isinstance(found, Admission) else Admission()
