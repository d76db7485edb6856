"""Versions, ciphers and groups: those of today, or those that the operator names.

TLS 1.2 and 1.3, only forward secrecy and authenticated encryption.  Groups are few: who offers many has much to attack,
and a client that knows none of these is long out of use.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from OpenSSL import SSL

from s6tls.tls.credentials import SessionOptions
from s6tls.tls.library import lib

_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL"
_GROUPS = b"X25519MLKEM768/X25519:P-256/P-384"
_GROUPS_OF_OLDER_LIBRARIES = b"X25519:P-256:P-384"
_OF_TLS13 = b"TLS_"


class Unknown(Exception):
    """A cipher or group that the library does not have."""


def restrict(context: SSL.Context, options: SessionOptions) -> None:
    """Have a context take only what `options` say.  Raises Unknown."""
    context.set_min_proto_version(SSL.TLS1_3_VERSION if options.tls13_only else SSL.TLS1_2_VERSION)
    older, newer = _by_version(options.ciphers)
    try:
        context.set_cipher_list(older or _CIPHERS)
        if newer:
            context.set_tls13_ciphersuites(newer)
    except SSL.Error as error:
        raise Unknown(f"no such ciphers: {options.ciphers.decode(errors='replace')}") from error
    if options.groups:
        if not _set_groups(context, options.groups):
            raise Unknown(f"no such groups: {options.groups.decode(errors='replace')}")
    elif not _set_groups(context, _GROUPS):
        _set_groups(context, _GROUPS_OF_OLDER_LIBRARIES)


def are_known(options: SessionOptions) -> bool:
    """Tell whether the library knows each cipher and group of `options`; it passes over ciphers that it does not."""
    with contextlib.suppress(Unknown, SSL.Error):
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        restrict(context, options)
        for name in _names(options.ciphers):
            context.set_cipher_list(name)
        return True
    return False


def _set_groups(context: SSL.Context, groups: bytes) -> bool:
    if lib.SSL_CTX_set1_curves_list(context._context, groups) == 1:
        return True
    lib.ERR_clear_error()
    return False


def _by_version(ciphers: bytes) -> tuple[bytes, bytes]:
    """Return the ciphers for TLS 1.2 and those for TLS 1.3; the library has a list for each."""
    words = ciphers.split(b":") if ciphers else []
    newer = [word for word in words if word.startswith(_OF_TLS13)]
    return b":".join(word for word in words if word not in newer), b":".join(newer)


def _names(ciphers: bytes) -> Iterator[bytes]:
    """Yield what a list for TLS 1.2 names, without what is to be done with it; ``@`` begins a command."""
    for word in _by_version(ciphers)[0].split(b":"):
        if word and not word.startswith(b"@"):
            yield word.lstrip(b"!-+")
