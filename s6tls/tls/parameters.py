"""TLS parameters: what a rule, or the environment and the command line, ask of engines, and under which ids."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass

from s6tls.accessrules.identifiers import BadId, parse_id
from s6tls.accessrules.text import shown
from s6tls.posix.identity import Identity, own_account, primary_group
from s6tls.tls.credentials import (
    BAD_CONFIGURATION,
    PROGRAM,
    TLS_PREFIXES,
    TLS_VARIABLES,
    CredentialPaths,
    SessionOptions,
    SniLevel,
)
from s6tls.ucspi.image import StageExit

ACCOUNT = "s6tls-engine"
"""The account of the engines of a root that names none."""
_MOST_KNOWN = 64


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
        """Read the variables.  Raises NotSet when one is missing, StageExit (96) when an id is none or root's."""
        return cls(CredentialPaths.from_environment(env, options), options, _identity(env, options))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[TlsParameters], tuple[object, ...]]:
        return TlsParameters, (self.paths, self.options, self.identity)  # hashes differ from process to process

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.paths, self.options, self.identity))


class KnownParameters:
    """The parameters of earlier connections, so that those of the next need not be read anew."""

    def __init__(self, options: SessionOptions) -> None:
        self._options = options
        self._known: dict[tuple[object, ...], TlsParameters] = {}

    def of(self, env: Mapping[bytes, bytes]) -> TlsParameters:
        """Return the parameters in these variables.  Raises StageExit (96), as `TlsParameters` says."""
        variables: tuple[object, ...] = tuple(map(env.get, TLS_VARIABLES))
        if self._options.sni_level is not SniLevel.NONE:
            variables += tuple(item for item in env.items() if item[0].startswith(TLS_PREFIXES))
        known = self._known.get(variables)
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[variables] = TlsParameters.from_environment(env, self._options)
        return known


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
