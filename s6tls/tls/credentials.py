"""What a rule or the environment says about TLS: which files, which ids; and the bytes of those files.

Files are read by whoever has the right to (root, before any byte of the network),
and only read: they are parsed in the process that has given its rights up.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s6tls.accessrules.ids import BadId, parse_id
from s6tls.accessrules.rule import stamp_of
from s6tls.accessrules.text import shown
from s6tls.pki import Unusable, files
from s6tls.posix.identity import Identity
from s6tls.ucspi.image import Refused

if TYPE_CHECKING:
    from s6tls.accessrules.rule import Stamp

PROGRAM = "s6-tlsd-io"
BAD_CONFIGURATION = 96
BAD_HANDSHAKE = 97


@dataclass(frozen=True)
class Options:
    """How sessions are to be held, from the command line of s6-tlsd.

    `client_certificate` is "" for none, "optional" or "mandatory"; `sni_level` 0, 1 or 2;
    `handshake_timeout` in milliseconds, 0 for none.  `delayed` sessions begin with a command
    (see `s6tls.tls.delayed`).  `alpn` are the protocols to agree on, the best first.
    """

    close_notify: bool = False
    demand_close_notify: bool = False
    client_certificate: str = ""
    sni_level: int = 0
    handshake_timeout: int = 0
    delayed: bool = False
    alpn: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Sources:
    """Where TLS parameters come from: paths and ids, as the environment names them.

    `keypairs` are (server name, key path, certificate path); the name b"" is the default pair.
    """

    keypairs: tuple[tuple[bytes, bytes, bytes], ...]
    ca_dir: bytes = b""
    ca_file: bytes = b""
    identity: Identity | None = None
    crl_file: bytes = b""

    @classmethod
    def from_environment(cls, env: Mapping[bytes, bytes], options: Options) -> Sources:
        """Read the variables.  Raises Refused (96) when one that is needed is missing, or an id is none."""
        keypairs: list[tuple[bytes, bytes, bytes]] = []
        if options.sni_level < 2:
            keypairs.append((b"", _needed(env, b"KEYFILE"), _needed(env, b"CERTFILE")))
        if options.sni_level:
            for name in sorted(env):
                prefix, _, server = name.partition(b":")
                if prefix == b"KEYFILE" and server:
                    certificate = _needed(env, b"CERTFILE:" + server)
                    keypairs.append((server.lower().rstrip(b"."), _needed(env, name), certificate))
        if not keypairs:
            raise Refused(PROGRAM, BAD_CONFIGURATION, "no KEYFILE:name set")
        ca_dir = ca_file = crl_file = b""
        if options.client_certificate:
            ca_dir, ca_file = env.get(b"CADIR", b""), env.get(b"CAFILE", b"")
            crl_file = env.get(b"CRLFILE", b"")
            if not (ca_dir or ca_file):
                raise Refused(PROGRAM, BAD_CONFIGURATION, "client certificates asked for, but no CADIR or CAFILE set")
        return cls(tuple(keypairs), ca_dir, ca_file, _identity(env), crl_file)

    def stamps(self) -> tuple[Stamp, ...]:
        """Return what changes when one of the files does.  Raises Refused (96) for a file that is not there."""
        return tuple(_stamp(path) for path in self._paths())

    def read(self) -> Material:
        """Read all files.  Raises Refused (96) when one cannot be read."""
        keypairs = tuple((name, _read(key), _read(cert)) for name, key, cert in self.keypairs)
        trusted = [self.ca_file] if self.ca_file else []
        trusted += self._ca_dir_files()
        revoked = [self.crl_file] if self.crl_file else []
        return Material(
            keypairs, *(tuple((shown(path), _read(path)) for path in paths) for paths in (trusted, revoked))
        )

    def _paths(self) -> list[bytes]:
        paths = [path for _, key, cert in self.keypairs for path in (key, cert)]
        paths += [path for path in (self.ca_file, self.crl_file) if path]
        if self.ca_dir:
            paths += [self.ca_dir, *self._ca_dir_files()]
        return paths

    def _ca_dir_files(self) -> list[bytes]:
        with _refusing():
            return files.authorities_in(self.ca_dir) if self.ca_dir else []


@dataclass(frozen=True)
class Material:
    """The files' bytes.

    `keypairs` are (server name, key, certificate chain); `trusted`, the files of authorities, and `revoked`, of
    revocation lists, are (what messages call the file, its bytes).
    """

    keypairs: tuple[tuple[bytes, bytes, bytes], ...]
    trusted: tuple[tuple[str, bytes], ...] = ()
    revoked: tuple[tuple[str, bytes], ...] = ()


SESSION_VARIABLES = (
    b"SSL_PROTOCOL",
    b"SSL_CIPHER",
    b"SSL_TLS_SNI_SERVERNAME",
    b"SSL_PEER_CERT_HASH",
    b"SSL_PEER_CERT_SUBJECT",
    b"SSL_PEER_CERT_ISSUER",
    b"SSL_PEER_CERT_SERIAL",
    b"SSL_PEER_CERT_SAN",
    b"SSL_PEER_CERT_NOTAFTER",
    b"SSL_SESSION_REUSED",
    b"SSL_ALPN",
)
TLS_VARIABLES = (b"CADIR", b"CAFILE", b"CRLFILE", b"KEYFILE", b"CERTFILE", b"TLS_UID", b"TLS_GID")
TLS_PREFIXES = (b"KEYFILE:", b"CERTFILE:")


def _needed(env: Mapping[bytes, bytes], name: bytes) -> bytes:
    value = env.get(name, b"")
    if not value:
        raise Refused(PROGRAM, BAD_CONFIGURATION, f"{shown(name)} not set")
    return value


def _identity(env: Mapping[bytes, bytes]) -> Identity | None:
    """The engine's ids.  Only root can take others, so without root they are not asked for."""
    if os.geteuid() != 0 or not (b"TLS_UID" in env or b"TLS_GID" in env):
        return None
    try:
        uid = parse_id(env[b"TLS_UID"]) if b"TLS_UID" in env else None
        gid = parse_id(env[b"TLS_GID"]) if b"TLS_GID" in env else None
    except BadId as error:
        raise Refused(PROGRAM, BAD_CONFIGURATION, f"TLS_UID or TLS_GID: {error}") from error
    return Identity(uid, gid)


def _stamp(path: bytes) -> Stamp:
    with _refusing():
        try:
            return stamp_of(os.stat(path))
        except (OSError, ValueError) as error:
            raise files.unreadable(path, error) from error


def _read(path: bytes) -> bytes:
    with _refusing():
        return files.read(path).data


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except Unusable as error:
        raise Refused(PROGRAM, BAD_CONFIGURATION, str(error)) from error
