"""TLS contexts from the bytes of key and certificate files: PEM or DER, RSA, ECDSA or Ed25519.

TLS 1.2 and 1.3, forward secrecy and authenticated encryption only, the server's
order of preference, no renegotiation.  Session tickets are made with keys that
live in the context and nowhere else, and name it; each set of parameters has its own
context, so a ticket from one is noise to another.
"""

from __future__ import annotations

import os

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key
from OpenSSL import SSL, crypto

from s6tls.tls.material import Material, Options

_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL"
_PEM = b"-----BEGIN"
_SESSION_NAME_LENGTH = 32
_ENABLE_PARTIAL_WRITE = 0x1
"""SSL_MODE_ENABLE_PARTIAL_WRITE of openssl/ssl.h: pyOpenSSL sets it and does not export it."""


class BadConfiguration(Exception):
    """A key or certificate that cannot be used; the message says which and why."""


def build(material: Material, options: Options) -> SSL.Context:
    """Make the context for one set of parameters.

    Raises BadConfiguration for keys and certificates that do not parse or do not match.
    """
    # In a directory of CAs most are there twice, under a name and under a hash.
    trusted = list(dict.fromkeys(found for data in material.trusted for found in _certificates(data, "CA")))
    name = os.urandom(_SESSION_NAME_LENGTH)
    contexts: dict[bytes, SSL.Context] = {}
    for server, key, chain in material.keypairs:
        contexts[server] = _empty_context(name, trusted, options)
        _use_keypair(contexts[server], key, chain, server)
    if not options.sni_level:
        return contexts[b""]
    # Without a default pair, a client that asks for no name that we have meets a context without a certificate.
    first = contexts.get(b"") or _empty_context(name, trusted, options)
    _choose_by_name(first, contexts)
    return first


def _empty_context(session_name: bytes, trusted: list[x509.Certificate], options: Options) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(_CIPHERS)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.clear_mode(_ENABLE_PARTIAL_WRITE)
    context.set_session_id(session_name)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if options.client_certificate:
        _ask_for_certificate(context, trusted, options)
    return context


def _use_keypair(context: SSL.Context, key: bytes, chain: bytes, server: bytes) -> None:
    which = f" for {server.decode('ascii', 'backslashreplace')}" if server else ""
    certificates = _certificates(chain, "certificate")
    try:
        context.use_certificate(certificates[0])
        for certificate in certificates[1:]:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(_private_key(key))
        context.check_privatekey()
    except (SSL.Error, crypto.Error, TypeError, ValueError) as error:
        raise BadConfiguration(f"unable to use keypair{which}: {_reason(error)}") from error


def _private_key(data: bytes) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey:
    try:
        key = (load_pem_private_key if _PEM in data else load_der_private_key)(data, None)
    except Exception as error:
        raise BadConfiguration(f"unable to read private key: {_reason(error)}") from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise BadConfiguration("unable to use private key: neither RSA, ECDSA nor Ed25519")
    return key


def _certificates(data: bytes, kind: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data) if _PEM in data else [x509.load_der_x509_certificate(data)]
    except Exception as error:
        raise BadConfiguration(f"unable to read {kind}: {_reason(error)}") from error


def _ask_for_certificate(context: SSL.Context, trusted: list[x509.Certificate], options: Options) -> None:
    store = context.get_cert_store()
    if store is None:
        raise BadConfiguration("unable to get the certificate store")
    try:
        for certificate in trusted:
            store.add_cert(crypto.X509.from_cryptography(certificate))
            context.add_client_ca(certificate)
    except (SSL.Error, crypto.Error) as error:
        raise BadConfiguration(f"unable to use CA: {_reason(error)}") from error
    mode = SSL.VERIFY_PEER | SSL.VERIFY_CLIENT_ONCE
    if options.client_certificate == "mandatory":
        mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    context.set_verify(mode)


def _choose_by_name(first: SSL.Context, contexts: dict[bytes, SSL.Context]) -> None:
    """Serve each server name its own keypair; a name's first label may be covered by ``*``."""

    def choose(connection: SSL.Connection) -> None:
        asked = (connection.get_servername() or b"").lower().rstrip(b".")
        chosen = contexts.get(asked) or contexts.get(b"*." + asked.partition(b".")[2])
        if asked and chosen is not None:
            connection.set_context(chosen)

    first.set_tlsext_servername_callback(choose)


def _reason(error: Exception) -> str:
    """Return the first sentence of a library's message, on one line."""
    if isinstance(error, SSL.Error | crypto.Error) and error.args and isinstance(error.args[0], list):
        return "; ".join(str(entry[-1]) for entry in error.args[0]) or "unusable"
    return " ".join(str(error).split())[:200] or type(error).__name__
