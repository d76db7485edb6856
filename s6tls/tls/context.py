"""TLS contexts from the bytes of key and certificate files: PEM or DER, RSA, ECDSA or Ed25519.

TLS 1.2 and 1.3, only forward secrecy and authenticated encryption, the server's
order of preference, no renegotiation.  The keys of session tickets exist in the
context and nowhere else, and name it.  Each set of parameters has its own context, so a ticket
from one is noise to another.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from math import inf

from cryptography import x509
from OpenSSL import SSL, crypto

from s6tls.accessrules.text import shown
from s6tls.pki import Unusable
from s6tls.pki.parsing import authorities, chain, private_key, reason, revocations, use_keypair
from s6tls.tls import library, policy
from s6tls.tls.credentials import ClientCertificate, Credentials, SessionOptions, SniLevel
from s6tls.tls.policy import SessionPolicy

_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL"
_SESSION_NAME_LENGTH = 32
_ENABLE_PARTIAL_WRITE = 0x1
"""SSL_MODE_ENABLE_PARTIAL_WRITE of openssl/ssl.h: pyOpenSSL sets it and does not export it."""
_LONGEST_CA_LIST = 16384
"""Bytes of authorities' names that clients are told: more would not fit into what some of them take."""


class BadConfiguration(Exception):
    """A key or certificate that cannot be used; the message says which and why."""


def build(credentials: Credentials, options: SessionOptions) -> SSL.Context:
    """Make the context for one set of parameters.

    Raises BadConfiguration for keys and certificates that do not parse or do not match.
    """
    try:
        return _built(credentials, options)
    except Unusable as error:
        raise BadConfiguration(str(error)) from error


def _built(credentials: Credentials, options: SessionOptions) -> SSL.Context:
    clients = None if options.client_certificate is ClientCertificate.NONE else _clients(credentials)
    name = os.urandom(_SESSION_NAME_LENGTH)
    contexts: dict[bytes, SSL.Context] = {}
    names = [keypair.server_name for keypair in credentials.keypairs]
    session_policy = SessionPolicy(
        valid_until=inf if clients is None else clients.valid_until,
        only=None if b"" in names else frozenset(names),
    )
    for server, key, certificates in credentials.keypairs:
        contexts[server] = _empty_context(name, clients, options, session_policy)
        which = shown(server)
        use_keypair(contexts[server], private_key(key, which), chain(certificates, which), which)
    if options.sni_level is SniLevel.NONE:
        # With this the library keeps the name in the session, and a TLS 1.2 session that resumes still has it.
        library.serve_names(contexts[b""], lambda _: None)
        return contexts[b""]
    # Without a default pair, a client that asks for no name that we have meets a context without a certificate.
    first = contexts.get(b"") or _empty_context(name, clients, options, replace(session_policy, serves=False))
    _choose_by_name(first, contexts)
    return first


@dataclass(frozen=True)
class _Clients:
    """What clients' certificates are checked against."""

    authorities: list[x509.Certificate]
    revoked: list[x509.CertificateRevocationList]

    @property
    def valid_until(self) -> float:
        """When the first of these that is in force runs out; a list gives way to a newer one of the same issuer."""
        lists: dict[bytes, float] = {}
        for crl in self.revoked:
            ends = inf if crl.next_update_utc is None else crl.next_update_utc.timestamp()
            issuer = crl.issuer.public_bytes()
            lists[issuer] = max(lists.get(issuer, -inf), ends)
        all_ends = [authority.not_valid_after_utc.timestamp() for authority in self.authorities] + list(lists.values())
        return min((ends for ends in all_ends if ends > time.time()), default=inf)


def _clients(credentials: Credentials) -> _Clients:
    # In a directory of CAs most are there twice, under a name and under a hash.
    trusted = dict.fromkeys(found for which, data in credentials.trusted for found in authorities(data, which))
    if not trusted:
        raise BadConfiguration("unable to check client certificates: there is no CA in CADIR")
    return _Clients(list(trusted), [found for which, data in credentials.revoked for found in revocations(data, which)])


def _empty_context(
    session_name: bytes, clients: _Clients | None, options: SessionOptions, session_policy: SessionPolicy
) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(_CIPHERS)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.clear_mode(_ENABLE_PARTIAL_WRITE)
    context.set_session_id(session_name)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if options.alpn:
        library.serve_protocols(context, options.alpn)
    if clients is not None:
        _ask_for_certificate(context, clients, options.client_certificate is ClientCertificate.MANDATORY)
    context.set_app_data(session_policy)
    return context


def _ask_for_certificate(context: SSL.Context, clients: _Clients, mandatory: bool) -> None:
    """Check certificates against authorities and, if there is any, against a list of each one in the chain."""
    store = context.get_cert_store()
    if store is None:
        raise BadConfiguration("unable to get the certificate store")
    told = sum(len(certificate.subject.public_bytes()) for certificate in clients.authorities) <= _LONGEST_CA_LIST
    try:
        for certificate in clients.authorities:
            store.add_cert(crypto.X509.from_cryptography(certificate))
            if told:
                context.add_client_ca(certificate)
        for crl in clients.revoked:
            store.add_crl(crl)
        if clients.revoked:
            store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)
    except (SSL.Error, crypto.Error) as error:
        raise BadConfiguration(f"unable to use CA or CRL: {reason(error)}") from error
    mode = SSL.VERIFY_PEER | SSL.VERIFY_CLIENT_ONCE
    context.set_verify(mode | SSL.VERIFY_FAIL_IF_NO_PEER_CERT if mandatory else mode)


def _choose_by_name(first: SSL.Context, contexts: dict[bytes, SSL.Context]) -> None:
    """Serve each server name its own keypair; a name's first label may be covered by ``*``."""

    def choose(asked: bytes) -> SSL.Context | None:
        name = policy.entry(asked, contexts)
        return None if name is None else contexts[name]

    library.serve_names(first, choose)
