"""What CGI programs, and some that were made for inetd, read of a connection: the names of RFC 3875 and of mod_ssl.

Nothing is found out here: it is what UCSPI and our TLS say, under other names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime

_OF_MOD_SSL = b"SSL_CLIENT_"
_IN_NAMES = {
    b"CN": b"CN",
    b"OU": b"OU",
    b"O": b"O",
    b"L": b"L",
    b"ST": b"ST",
    b"C": b"C",
    b"UID": b"UID",
    b"1.2.840.113549.1.9.1": b"Email",
}
"""Parts of a distinguished name: as RFC 4514 writes them here, and as mod_ssl does."""
_ALTERNATIVES = {b"DNS": b"DNS", b"email": b"Email"}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_PART = re.compile(rb"(?:[^\\,+]|\\.)+")
_ALTERNATIVE = re.compile(rb"(?:[^\\,]|\\.)+")
_ESCAPED = re.compile(rb"\\([^0-9A-Fa-f])")


def say_it_as_cgi(env: dict[bytes, bytes]) -> None:
    """Add these variables to the environment of a program behind TLS, and remove those that do not apply."""
    said = dict(_variables(env))
    for name in [name for name in env if name in said or name.startswith(_OF_MOD_SSL)]:
        del env[name]
    env.update({name: value for name, value in said.items() if value})


def _variables(env: Mapping[bytes, bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield names and values, b"" for those that do not apply."""
    proto = env.get(b"PROTO", b"")

    def said(name: bytes) -> bytes:
        return env.get(proto + name, b"")

    server = env.get(b"SSL_TLS_SNI_SERVERNAME", b"")
    yield b"REMOTE_ADDR", said(b"REMOTEIP")
    yield b"REMOTE_PORT", said(b"REMOTEPORT")
    yield b"REMOTE_HOST", said(b"REMOTEHOST") or said(b"REMOTEIP")
    yield b"REMOTE_IDENT", said(b"REMOTEINFO")
    yield b"SERVER_ADDR", said(b"LOCALIP")
    yield b"SERVER_PORT", said(b"LOCALPORT")
    yield b"SERVER_NAME", server or said(b"LOCALHOST") or said(b"LOCALIP")
    yield b"HTTPS", b"on"
    yield b"SSL_TLS_SNI", server
    yield b"SSL_SESSION_RESUMED", b"Resumed" if env.get(b"SSL_SESSION_REUSED") else b"Initial"
    yield b"SSL_CLIENT_VERIFY", b"SUCCESS" if env.get(b"SSL_PEER_CERT_HASH") else b"NONE"
    yield b"SSL_CLIENT_M_SERIAL", env.get(b"SSL_PEER_CERT_SERIAL", b"")
    yield b"SSL_CLIENT_V_END", _date(env.get(b"SSL_PEER_CERT_NOTAFTER", b""))
    for ours, theirs in ((b"SUBJECT", b"SSL_CLIENT_S_DN"), (b"ISSUER", b"SSL_CLIENT_I_DN")):
        name = env.get(b"SSL_PEER_CERT_" + ours, b"")
        yield theirs, name
        yield from _parts(theirs, name)
    yield from _alternatives(env.get(b"SSL_PEER_CERT_SAN", b""))


def _parts(of: bytes, name: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the parts of a distinguished name, in RFC 4514's order: of each kind the last, mod_ssl's first, counts."""
    for part in _PART.findall(name):
        kind, _, value = part.partition(b"=")
        if kind in _IN_NAMES:
            yield b"%b_%b" % (of, _IN_NAMES[kind]), _unescaped(value)


def _alternatives(names: bytes) -> Iterator[tuple[bytes, bytes]]:
    counts = dict.fromkeys(_ALTERNATIVES, 0)
    for alternative in _ALTERNATIVE.findall(names):
        kind, _, value = alternative.partition(b":")
        if kind in counts:
            yield b"SSL_CLIENT_SAN_%b_%d" % (_ALTERNATIVES[kind], counts[kind]), _unescaped(value)
            counts[kind] += 1


def _unescaped(value: bytes) -> bytes:
    """Return a value without RFC 4514's escapes, but for those of control characters, which stay in hexadecimal."""
    return _ESCAPED.sub(rb"\1", value)


def _date(text: bytes) -> bytes:
    """Write a date as OpenSSL does, such as ``Mar  1 12:00:00 2027 GMT``; b"" for what is none."""
    try:
        moment = datetime.fromisoformat(text.decode())
    except ValueError:  # an engine may be in its client's hands
        return b""
    return f"{_MONTHS[moment.month - 1]} {moment.day:2} {moment:%H:%M:%S} {moment.year} GMT".encode()
