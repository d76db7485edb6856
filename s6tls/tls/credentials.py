"""TLS parameters, as a rule or the environment and the command line give them; and the bytes of their files.

Files are read here with the privileges that this takes (as root, before any byte of the
network), but not parsed: that is done in the process that has dropped its privileges.
"""

from __future__ import annotations

import contextlib
import enum
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from s6tls.accessrules.identifiers import BadId, parse_id
from s6tls.accessrules.stamp import stamp_of
from s6tls.accessrules.text import shown
from s6tls.pki import Unusable, files
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.identity import Identity, IdRange, own_account, primary_group
from s6tls.posix.jail import Level
from s6tls.ucspi.image import StageExit

if TYPE_CHECKING:
    from s6tls.accessrules.stamp import Stamp

PROGRAM = "s6-tlsd-io"
BAD_CONFIGURATION = ExitCode.BAD_TLS_CONFIGURATION
BAD_HANDSHAKE = ExitCode.BAD_HANDSHAKE


class ClientCertificate(enum.Enum):
    """Whether a client is asked for a certificate, and must have one."""

    NONE = enum.auto()
    OPTIONAL = enum.auto()
    MANDATORY = enum.auto()


class SniLevel(enum.IntEnum):
    """Which keypairs serve: the default one, those for server names too, or only those."""

    NONE = 0
    OPTIONAL = 1
    MANDATORY = 2


class Isolation(enum.Enum):
    """What shares a process: nothing, or many sessions of the same parameters."""

    CONNECTION = "connection"
    WORKER = "worker"


@dataclass(frozen=True)
class SessionOptions:
    """How sessions are to be held, from the command line of s6-tlsd.

    `handshake_timeout_ms` and `stall_timeout_ms` are 0 for none.  `delayed` sessions begin with a command
    (see `s6tls.tls.delayed`).  `alpn` are the protocols to agree on, the best first.  `allow_root` lets TLS_UID and
    TLS_GID be 0.  Of `engine_uids` each engine takes one.  `jail` is how much there must be of the engines' jail.
    """

    close_notify: bool = False
    demand_close_notify: bool = False
    client_certificate: ClientCertificate = ClientCertificate.NONE
    sni_level: SniLevel = SniLevel.NONE
    handshake_timeout_ms: int = 0
    stall_timeout_ms: int = 0
    delayed: bool = False
    alpn: tuple[bytes, ...] = ()
    allow_root: bool = False
    engine_uids: IdRange | None = None
    jail: Level = Level.BEST


class KeypairPaths(NamedTuple):
    """Where a key and its certificate chain are; the server name b"" is for the default pair."""

    server_name: bytes
    key: bytes
    chain: bytes


@dataclass(frozen=True)
class CredentialPaths:
    """Where credentials are: empty for what is not asked for."""

    keypairs: tuple[KeypairPaths, ...]
    ca_dir: bytes = b""
    ca_file: bytes = b""
    crl_file: bytes = b""

    @classmethod
    def from_environment(cls, env: Mapping[bytes, bytes], options: SessionOptions) -> CredentialPaths:
        """Read the variables.  Raises StageExit (96) when one that is needed is missing."""
        keypairs: list[KeypairPaths] = []
        if options.sni_level is not SniLevel.MANDATORY:
            keypairs.append(KeypairPaths(b"", _needed(env, b"KEYFILE"), _needed(env, b"CERTFILE")))
        if options.sni_level is not SniLevel.NONE:
            for name in sorted(env):
                prefix, _, server = name.partition(b":")
                if prefix == b"KEYFILE" and server:
                    chain = _needed(env, b"CERTFILE:" + server)
                    keypairs.append(KeypairPaths(server.lower().rstrip(b"."), _needed(env, name), chain))
        if not keypairs:
            raise StageExit(PROGRAM, BAD_CONFIGURATION, "no KEYFILE:name set")
        if options.client_certificate is ClientCertificate.NONE:
            return cls(tuple(keypairs))
        ca_dir, ca_file, crl_file = (env.get(name, b"") for name in (b"CADIR", b"CAFILE", b"CRLFILE"))
        if not (ca_dir or ca_file):
            raise StageExit(PROGRAM, BAD_CONFIGURATION, "client certificates asked for, but no CADIR or CAFILE set")
        return cls(tuple(keypairs), ca_dir, ca_file, crl_file)

    def stamps(self) -> tuple[Stamp, ...]:
        """Return what changes when one of the files does.  Raises StageExit (96) for a file that is not there."""
        with _refusing():
            return tuple(map(_stamp, self._paths()))

    def read(self) -> Credentials:
        """Read all files.  Raises StageExit (96) when one cannot be read."""
        trusted = [self.ca_file] if self.ca_file else []
        trusted += self._ca_dir_files()
        revoked = [self.crl_file] if self.crl_file else []
        return Credentials(
            tuple(Keypair(name, _read(key), _read(chain)) for name, key, chain in self.keypairs),
            _read_all(trusted),
            _read_all(revoked),
        )

    def _paths(self) -> list[bytes]:
        paths = [path for _, key, chain in self.keypairs for path in (key, chain)]
        paths += [path for path in (self.ca_file, self.crl_file) if path]
        if self.ca_dir:
            paths += [self.ca_dir, *self._ca_dir_files()]
        return paths

    def _ca_dir_files(self) -> list[bytes]:
        with _refusing():
            return files.authorities_in(self.ca_dir) if self.ca_dir else []


class Keypair(NamedTuple):
    """The bytes of a key and of its certificate chain."""

    server_name: bytes
    key: bytes
    chain: bytes


class NamedFile(NamedTuple):
    """What messages call a file, and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Credentials:
    """The files' bytes; `trusted` are those of authorities, `revoked` those of revocation lists."""

    keypairs: tuple[Keypair, ...]
    trusted: tuple[NamedFile, ...] = ()
    revoked: tuple[NamedFile, ...] = ()


@dataclass(frozen=True)
class TlsParameters:
    """A set of TLS parameters.  Those who have the same one share ticket keys, and engines under the same ids.

    `identity` are the engines' ids, None for those of a process that is not root.
    """

    paths: CredentialPaths
    options: SessionOptions
    identity: Identity | None = None

    @classmethod
    def from_environment(cls, env: Mapping[bytes, bytes], options: SessionOptions) -> TlsParameters:
        """Read the variables.  Raises StageExit (96) when one that is needed is missing, or an id is none or root's."""
        return cls(CredentialPaths.from_environment(env, options), options, _identity(env, options))


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
ACCOUNT = "s6tls-engine"
"""The account of the engines of a root that names none."""


def _needed(env: Mapping[bytes, bytes], name: bytes) -> bytes:
    value = env.get(name, b"")
    if not value:
        raise StageExit(PROGRAM, BAD_CONFIGURATION, f"{shown(name)} not set")
    return value


def _identity(env: Mapping[bytes, bytes], options: SessionOptions) -> Identity | None:
    """Return the engines' ids.  Only root can take others, so without root they are not asked for.

    Root's own are never those that nobody has named.
    """
    if os.geteuid() != 0:
        if options.engine_uids is not None:
            raise StageExit(PROGRAM, BAD_CONFIGURATION, "only root can have engines use --engine-uids")
        return None
    uid, gid = _id(env, b"TLS_UID"), _id(env, b"TLS_GID")
    if uid is None:
        account = own_account(ACCOUNT)
        identity = Identity(account.uid, account.gid if gid is None else gid)
    else:
        identity = Identity(uid, primary_group(uid) if gid is None else gid)
    if 0 in (identity.uid, identity.gid) and not options.allow_root:
        ids = f"user {identity.uid} and group {identity.gid}"
        raise StageExit(PROGRAM, BAD_CONFIGURATION, f"engines run as {ids} only with --allow-root-engine")
    return identity


def _id(env: Mapping[bytes, bytes], name: bytes) -> int | None:
    try:
        return parse_id(env[name]) if name in env else None
    except BadId as error:
        raise StageExit(PROGRAM, BAD_CONFIGURATION, f"{shown(name)}: {error}") from error


def _stamp(path: bytes) -> Stamp:
    try:
        return stamp_of(os.stat(path))
    except (OSError, ValueError) as error:
        raise files.unreadable(path, error) from error


def _read(path: bytes) -> bytes:
    with _refusing():
        return files.read(path).data


def _read_all(paths: Iterable[bytes]) -> tuple[NamedFile, ...]:
    return tuple(NamedFile(shown(path), _read(path)) for path in paths)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except Unusable as error:
        raise StageExit(PROGRAM, BAD_CONFIGURATION, str(error)) from error
