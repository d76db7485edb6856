"""TLS parameters, as a rule or the environment and the command line give them; and the bytes of their files.

Files are read here with the privileges that this takes (as root, before any byte of the
network), but not parsed: that is done in the process that has dropped its privileges.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import itertools
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from s6tls.accessrules.stamp import stamp_of
from s6tls.accessrules.text import shown
from s6tls.pki import REMEDIES, Unusable, files
from s6tls.pki.names import Named, named_in
from s6tls.posix.exitcodes import ExitCode
from s6tls.posix.identity import IdRange
from s6tls.posix.jail import Level
from s6tls.ucspi.image import StageExit
from s6tls.ucspi.status.files import File

if TYPE_CHECKING:
    from s6tls.accessrules.stamp import Stamp

PROGRAM = "s6-tlsd-io"
BAD_CONFIGURATION = ExitCode.BAD_TLS_CONFIGURATION
BAD_HANDSHAKE = ExitCode.BAD_HANDSHAKE
_SNI_DIRECTORY = b"--sni-directory"
_SHORTEST_SILENCE_S = 3.0
"""What a busy machine can make an engine miss is shorter."""


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

    @property
    def forks_often(self) -> bool:
        """Whether a pool forks for each connection."""
        return self is Isolation.CONNECTION


@dataclass(frozen=True)
class SessionOptions:
    """How sessions are to be held, from the command line of s6-tlsd.

    `handshake_timeout_ms` and `stall_timeout_ms` are 0 for none.  `delayed` sessions begin with a command
    (see `s6tls.tls.delayed`).  `alpn` are the protocols to agree on, the best first.  `allow_root` lets TLS_UID and
    TLS_GID be 0.  `ciphers` and `groups` are lists as OpenSSL has them, empty for the usual ones.  A ticket key seals
    tickets for `ticket_lifetime_s`, and opens them for as long again.  Of `engine_uids` each engine takes one.  `jail`
    is how much there must be of the engines' jail.  `sni_directory` has pairs for server names, b"" if there is none.
    """

    close_notify: bool = False
    demand_close_notify: bool = False
    client_certificate: ClientCertificate = ClientCertificate.NONE
    sni_level: SniLevel = SniLevel.NONE
    sni_directory: bytes = b""
    handshake_timeout_ms: int = 0
    stall_timeout_ms: int = 0
    delayed: bool = False
    alpn: tuple[bytes, ...] = ()
    allow_root: bool = False
    tls13_only: bool = False
    ciphers: bytes = b""
    groups: bytes = b""
    ticket_lifetime_s: int = 24 * 3600
    engine_uids: IdRange | None = None
    jail: Level = Level.BEST

    @property
    def silence_s(self) -> float:
        """How long a server hears nothing of an engine that hangs; 0 if it is not to ask."""
        return max(self.stall_timeout_ms / 1000, _SHORTEST_SILENCE_S) if self.stall_timeout_ms else 0


class KeypairPaths(NamedTuple):
    """Where a key and its certificate chain are; the server name b"" is for the default pair.

    A name may have a second pair, with a key of another kind: the client's algorithms decide.  `response` is where an
    OCSP response is, or b"".  `suffix` is what follows KEYFILE, CERTFILE and OCSPFILE in the variables' names.
    """

    server_name: bytes
    key: bytes
    chain: bytes
    response: bytes = b""
    suffix: bytes = b""

    def files(self) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
        """Return the variable and the path of the key, and those of the chain."""
        return (b"KEYFILE" + self.suffix, self.key), (b"CERTFILE" + self.suffix, self.chain)


@dataclass(frozen=True)
class CredentialPaths:
    """Where credentials are: empty for what is not asked for.

    Beside the keypairs, those of a directory serve, as it is now; of a name that is here and there, the one here.
    """

    keypairs: tuple[KeypairPaths, ...]
    ca_dir: bytes = b""
    ca_file: bytes = b""
    crl_file: bytes = b""
    sni_directory: bytes = b""

    @classmethod
    def from_environment(cls, env: Mapping[bytes, bytes], options: SessionOptions) -> CredentialPaths:
        """Read the variables.  Raises NotSet when one that is needed is missing."""
        names = [] if options.sni_level is SniLevel.MANDATORY else [b""]
        if options.sni_level is not SniLevel.NONE:
            found = (name.partition(b":") for name in env)
            names += sorted(
                {b":" + server for kind, _, server in found if kind in (b"KEYFILE", b"KEYFILE2") and server}
            )
        if not (names or options.sni_directory):
            raise NotSet("no KEYFILE:name set")
        by_server = {_server_name(name): tuple(_pairs(env, name)) for name in names}
        keypairs = tuple(itertools.chain.from_iterable(by_server.values()))
        if options.client_certificate is ClientCertificate.NONE:
            return cls(keypairs, sni_directory=options.sni_directory)
        ca_dir, ca_file, crl_file = (env.get(name, b"") for name in (b"CADIR", b"CAFILE", b"CRLFILE"))
        if not (ca_dir or ca_file):
            raise NotSet("client certificates asked for, but no CADIR or CAFILE set")
        return cls(keypairs, ca_dir, ca_file, crl_file, options.sni_directory)

    def server_names(self) -> list[bytes]:
        """Return the names that there are keypairs for, b"" for the default.  Raises StageExit (96)."""
        names = [pair.server_name for pair in self.keypairs] + [named.server_name for named in self._in_directory()]
        return list(dict.fromkeys(names))

    def stamps(self) -> tuple[Stamp, ...]:
        """Return what changes when one of the files does.  Raises StageExit (96) for a file that is not there."""
        in_directory = itertools.chain.from_iterable((pair.key, pair.chain) for pair in self._in_directory())
        needed = (*self._named, *self._ca_dir_files())
        return (*itertools.starmap(_stamp, needed), *map(_stamp_or_none, (*in_directory, *self._responses)))

    def read(self) -> Credentials:
        """Read all files, each once: a key and its certificate may be in one.  Raises StageExit (96)."""
        once = functools.cache(files.read)

        def read(variable: bytes, path: bytes) -> NamedFile:
            with _refusing(variable, path):
                return NamedFile(_called(variable, path), once(path).data)

        def keypair(pair: KeypairPaths) -> Keypair:
            key, chain = pair.files()
            return Keypair(pair.server_name, read(*key), read(*chain), _read_response(pair))

        trusted = [(b"CAFILE", self.ca_file)] if self.ca_file else []
        trusted += self._ca_dir_files()
        return Credentials(
            (*map(keypair, self.keypairs), *map(_read_alone, self._in_directory())),
            tuple(itertools.starmap(read, trusted)),
            (read(b"CRLFILE", self.crl_file),) if self.crl_file else (),
        )

    @functools.cached_property
    def _named(self) -> tuple[tuple[bytes, bytes], ...]:
        """The files and directories that there must be, with what names them."""
        of_pairs = (file for pair in self.keypairs for file in pair.files())
        others = (
            (b"CAFILE", self.ca_file),
            (b"CRLFILE", self.crl_file),
            (b"CADIR", self.ca_dir),
            (_SNI_DIRECTORY, self.sni_directory),
        )
        return (*of_pairs, *(file for file in others if file[1]))

    @functools.cached_property
    def _responses(self) -> tuple[bytes, ...]:
        return tuple(pair.response for pair in self.keypairs if pair.response)

    def _in_directory(self) -> list[Named]:
        if not self.sni_directory:
            return []
        with _refusing(_SNI_DIRECTORY, self.sni_directory):
            found = named_in(self.sni_directory)
        if not (found or self.keypairs):
            raise StageExit(PROGRAM, BAD_CONFIGURATION, f"no server name in {shown(self.sni_directory)}")
        elsewhere = {pair.server_name for pair in self.keypairs}
        return [named for named in found if named.server_name not in elsewhere]

    def files(self, stamps: Sequence[Stamp], validities: Sequence[tuple[int, int]]) -> list[File]:
        """Return the files that people know, with `stamps` as the method has them; `validities` are those of pairs."""
        found: list[File] = []
        pairs = itertools.zip_longest(self.keypairs, validities[: len(self.keypairs)])
        for number, (pair, validity) in enumerate(pairs):
            key, chain = stamps[2 * number : 2 * number + 2]
            found += [File("key", pair.key, key, pair.server_name)]
            found += [File("certificate", pair.chain, chain, pair.server_name, validity)]
        judges = (("authority", self.ca_file), ("revocation list", self.crl_file), ("authorities", self.ca_dir))
        rest = stamps[2 * len(self.keypairs) :]
        found += [File(*judge, stamp) for judge, stamp in zip((j for j in judges if j[1]), rest, strict=False)]
        stapled = [pair for pair in self.keypairs if pair.response]
        for pair, stamp in zip(stapled, stamps[len(stamps) - len(stapled) :], strict=True):
            found.append(File("OCSP response", pair.response, stamp, pair.server_name))
        return found

    def _ca_dir_files(self) -> list[tuple[bytes, bytes]]:
        if not self.ca_dir:
            return []
        with _refusing(b"CADIR", self.ca_dir):
            return [(b"CADIR", path) for path in files.authorities_in(self.ca_dir)]


class NotSet(StageExit):
    """A variable that is needed is missing: 96."""

    def __init__(self, message: str) -> None:
        super().__init__(PROGRAM, BAD_CONFIGURATION, message)


VALIDITY = struct.Struct("=qq")
"""From when to when a certificate is valid, in seconds since 1970."""


class NamedFile(NamedTuple):
    """What messages call a file (its variable and its path), and its bytes."""

    name: str
    data: bytes


class Keypair(NamedTuple):
    """The files of a key and of its certificate chain, and that of an OCSP response, if one is to be stapled.

    If a pair that `stands_alone` is no good, its name is refused, and no other.  `trouble` is why it could not be read.
    """

    server_name: bytes
    key: NamedFile
    chain: NamedFile
    response: NamedFile | None = None
    stands_alone: bool = False
    trouble: str = ""


@dataclass(frozen=True)
class Credentials:
    """The files' bytes; `trusted` are those of authorities, `revoked` those of revocation lists.

    They are `renewed` when earlier ones are in use, with the same authorities and lists: these go on if a key does not
    belong to its certificate yet.
    """

    keypairs: tuple[Keypair, ...]
    trusted: tuple[NamedFile, ...] = ()
    revoked: tuple[NamedFile, ...] = ()
    renewed: bool = field(default=False, compare=False)

    @property
    def judges(self) -> tuple[tuple[NamedFile, ...], ...]:
        """What clients are judged by."""
        return self.trusted, self.revoked


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
_OF_PAIRS = (b"KEYFILE", b"CERTFILE", b"OCSPFILE", b"KEYFILE2", b"CERTFILE2", b"OCSPFILE2")
TLS_VARIABLES = (b"CADIR", b"CAFILE", b"CRLFILE", *_OF_PAIRS, b"TLS_UID", b"TLS_GID")
TLS_PREFIXES = tuple(name + b":" for name in _OF_PAIRS)


def _pairs(env: Mapping[bytes, bytes], name: bytes) -> Iterator[KeypairPaths]:
    """Yield the pair for a ``:name``, b"" for the default, and the second one if there is any."""
    for number in (b"", b"2"):
        key, certificate = b"KEYFILE" + number + name, b"CERTFILE" + number + name
        if not number or env.get(key) or env.get(certificate):
            paths = _needed(env, key), _needed(env, certificate), env.get(b"OCSPFILE" + number + name, b"")
            yield KeypairPaths(_server_name(name), *paths, suffix=number + name)


def _server_name(name: bytes) -> bytes:
    return name[1:].lower().rstrip(b".")


def _needed(env: Mapping[bytes, bytes], name: bytes) -> bytes:
    value = env.get(name, b"")
    if not value:
        raise NotSet(f"{shown(name)} not set")
    return value


def _stamp(variable: bytes, path: bytes) -> Stamp:
    try:
        return stamp_of(os.stat(path))
    except (OSError, ValueError) as error:
        raise _refusal(variable, path, files.unreadable(path, error)) from error


def _stamp_or_none(path: bytes) -> Stamp:
    """Return a file's stamp, or one that no file has."""
    try:
        return stamp_of(os.stat(path))
    except (OSError, ValueError):
        return (0, 0, 0, 0, 0)


def _read_response(pair: KeypairPaths) -> NamedFile | None:
    """Read an OCSP response.  One that is not there is not stapled, and the pool says so."""
    if not pair.response:
        return None
    name = _called(b"OCSPFILE" + pair.suffix, pair.response)
    try:
        return NamedFile(name, files.read(pair.response).data)
    except Unusable:
        return NamedFile(name, b"")


def _read_alone(named: Named) -> Keypair:
    """Read a pair whose trouble is its own."""
    key, chain = (NamedFile(shown(path), b"") for path in (named.key, named.chain))
    pair = Keypair(named.server_name, key, chain, stands_alone=True)
    try:
        return pair._replace(
            key=key._replace(data=files.read(named.key).data), chain=chain._replace(data=files.read(named.chain).data)
        )
    except Unusable as error:
        return pair._replace(trouble=str(error))


def _called(variable: bytes, path: bytes) -> str:
    return f"{shown(variable)} {shown(path)}"


@contextlib.contextmanager
def _refusing(variable: bytes, path: bytes) -> Iterator[None]:
    try:
        yield
    except Unusable as error:
        raise _refusal(variable, path, error) from error


def _refusal(variable: bytes, path: bytes, unusable: Unusable) -> StageExit:
    message = f"unable to read {_called(variable, path)}: {unusable.why}: {REMEDIES[unusable.kind]}"
    return StageExit(PROGRAM, BAD_CONFIGURATION, message)
