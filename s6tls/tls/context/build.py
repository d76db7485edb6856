"""TLS contexts from the bytes of key and certificate files: PEM or DER, RSA, ECDSA or Ed25519.

Only forward secrecy and authenticated encryption, the server's order of preference, no renegotiation.

A session begins in a context that has a ticket key, and no certificate: the first context.  By the name that the client
asks for, it goes on in one of those that have a certificate.  The ticket key exists in the first
context and nowhere else; so a ticket from one set of parameters is noise to another, and to renew the key is to make
another first context.  Sessions that resume by the key before begin in the context before (see `s6tls.tls.policy`).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf

from OpenSSL import SSL

from s6tls.accessrules.text import shown
from s6tls.pki import Kind, Unusable
from s6tls.pki.parsing import Key, chain, check_kinds, private_key, use_keypair
from s6tls.tls import library, policy
from s6tls.tls.context.algorithms import Unknown, restrict
from s6tls.tls.context.clients import Clients
from s6tls.tls.context.errors import BadConfiguration, Mismatch
from s6tls.tls.context.stapling import Staples
from s6tls.tls.context.tickets import key_name
from s6tls.tls.credentials import PROGRAM, ClientCertificate, Credentials, Keypair, SessionOptions
from s6tls.tls.policy import Predecessor, SessionPolicy
from s6tls.ucspi.log import log

_SESSION_NAME_LENGTH = 32
_LONGEST_SESSION_S = 7200
_ENABLE_PARTIAL_WRITE = 0x1
"""SSL_MODE_ENABLE_PARTIAL_WRITE of openssl/ssl.h: pyOpenSSL sets it and does not export it."""


def build(credentials: Credentials, options: SessionOptions) -> SSL.Context:
    """Make the context in which sessions with one set of parameters begin.

    Raises BadConfiguration for keys and certificates that do not parse, Mismatch for those that do not match.
    """
    try:
        return _Maker(credentials, options).first()
    except Unusable as error:
        raise (Mismatch if error.kind is Kind.KEYPAIR else BadConfiguration)(str(error)) from error
    except Unknown as error:
        raise BadConfiguration(str(error)) from error


def renew(context: SSL.Context) -> SSL.Context:
    """Make a context like one that `build` has made, with another ticket key.

    Tickets of `context` still resume in it; those of the context before that do not, for it is let go of.
    """
    before = policy.of(context)
    assert before.successor is not None
    before.predecessor = None
    return before.successor(context)


class _Maker:
    """Makes the contexts of one set of parameters."""

    def __init__(self, credentials: Credentials, options: SessionOptions) -> None:
        """Parse what the files hold.  Raises Unusable, Unknown or BadConfiguration."""
        asks = options.client_certificate is not ClientCertificate.NONE
        self._options = options
        self._clients = Clients.of(credentials) if asks else None
        self._session_name = os.urandom(_SESSION_NAME_LENGTH)
        self._policy = SessionPolicy(valid_until=inf if self._clients is None else self._clients.valid_until)
        self._by_name: dict[bytes, SSL.Context | None] = {}
        for server, pairs in itertools.groupby(credentials.keypairs, lambda keypair: keypair.server_name):
            self._by_name[server] = self._with_or_none(tuple(pairs), credentials.renewed)

    def first(self, predecessor: SSL.Context | None = None) -> SSL.Context:
        """Make a context for sessions to begin in.  Clients that ask for no name that we have stay in it."""
        known = None if predecessor is None else self._predecessor(predecessor)
        context = self._empty(replace(self._policy, serves=False, predecessor=known, successor=self.first))
        # With this the library also keeps the name in the session, and a TLS 1.2 session that resumes still has it.
        library.serve_names(context, _choose_by_name(self._by_name))
        return context

    def _predecessor(self, context: SSL.Context) -> Predecessor | None:
        served = (name for name, its_context in self._by_name.items() if its_context is not None)
        name = next(served, b"").replace(b"*", b"x")
        try:
            return Predecessor(context, key_name(context, self._options, name))
        except (
            library.LibraryError,
            SSL.Error,
            ValueError,
        ):  # so nobody resumes by it, and nobody is the worse for that
            return None

    def _with_or_none(self, pairs: Sequence[Keypair], renewed: bool) -> SSL.Context | None:
        """Make the context for a name; None if its pair, which stands alone, is no good.

        A pair that does not match is none of these as long as it may only be half renewed.
        """
        first, why = pairs[0], pairs[0].trouble
        try:
            if not why:
                return self._with(pairs)
        except Unusable as error:
            if not first.stands_alone or (renewed and error.kind is Kind.KEYPAIR):
                raise
            why = str(error)
        log(PROGRAM, "warning", f"{why}: clients that ask for {shown(first.server_name)} are refused")
        return None

    def _with(self, pairs: Sequence[Keypair]) -> SSL.Context:
        """Make the context for a name, with its pair, or two of them: the library uses the one that the client can."""
        context = self._empty(self._policy)
        keys: list[Key] = []
        staples = Staples()
        for pair in pairs:
            keys.append(private_key(pair.key.data, pair.key.name))
            check_kinds(keys, pair.key.name)
            certificates = chain(pair.chain.data, pair.chain.name)
            both = f"{pair.key.name} with {pair.chain.name}"
            use_keypair(context, keys[-1], certificates, both, alone=len(pairs) == 1)
            if pair.response is not None:
                self._policy.stapled[pair.response.name] = staples.add(certificates, pair.response)
        staples.serve(context)
        return context

    def _empty(self, session_policy: SessionPolicy) -> SSL.Context:
        """Make a context that has no certificate yet.  Raises Unknown or BadConfiguration."""
        options = self._options
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        restrict(context, options)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.clear_mode(_ENABLE_PARTIAL_WRITE)
        context.set_session_id(self._session_name)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_timeout(min(_LONGEST_SESSION_S, options.ticket_lifetime_s))
        if options.alpn:
            library.serve_protocols(context, options.alpn)
        if self._clients is not None:
            self._clients.ask(context, options.client_certificate is ClientCertificate.MANDATORY)
        context.set_app_data(session_policy)
        return context


def _choose_by_name(contexts: Mapping[bytes, SSL.Context | None]) -> Callable[[bytes], SSL.Context | None]:
    """Serve each server name its own keypair, and others the default; a name's first label may be covered by ``*``.

    A name without a context is not served the default.
    """

    def choose(asked: bytes) -> SSL.Context | None:
        name = policy.entry(asked, contexts)
        return contexts.get(b"" if name is None else name)

    return choose
