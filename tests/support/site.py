"""The server's side of an end-to-end test: keys, rules, and an s6-tlsserver that uses them.

A `Site` is a directory with a certificate authority's output and rules in it, and one way of
isolation; everything that a test serves from it is served by a real ``s6-tlsserver``.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import trustme

from s6tls.accessrules import Rule
from tests.support import servers
from tests.support.rules import trees

TLS_UID, TLS_GID = 64001, 64002
"""Ids that own nothing on this machine."""

ENDED = r"^s6-tcpserverd: info: end (?:pid \d+|[0-9._]+) exitcode"
"""How the log tells the end of a connection, whether or not it got as far as a program of its own."""

Rules = dict[str, Rule]
Env = dict[str, str]


@dataclass(frozen=True)
class Pair:
    """A key and the certificate chain for it, in files."""

    key: str
    certificate: str

    def install(self, other: Pair) -> None:
        """Put another pair's files in the place of these, each at one stroke."""
        for mine, theirs in ((self.key, other.key), (self.certificate, other.certificate)):
            replace(mine, Path(theirs).read_bytes())


class Authority:
    """A certificate authority that writes what it issues into a directory."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._ca = trustme.CA()
        self.file = str(place / "ca.pem")
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, rsa_key: bool = False) -> Pair:
        """Issue a certificate for a host or a person, with the same common name."""
        kind = trustme.KeyType.RSA if rsa_key else trustme.KeyType.ECDSA
        issued = self._ca.issue_cert(name, common_name=name, key_type=kind)
        stem = name.replace("*", "any") + (".rsa" if rsa_key else "")
        key, certificate = str(self._place / f"{stem}.key"), str(self._place / f"{stem}.pem")
        for path in (key, certificate):
            Path(path).touch(mode=0o600)
        issued.private_key_pem.write_to_path(key)
        for pem in issued.cert_chain_pems:
            pem.write_to_path(certificate, append=True)
        return Pair(key, certificate)


class Site:
    """Serves from `place` with a way of isolation; `pair` is the default key and certificate."""

    def __init__(self, place: Path, isolation: str) -> None:
        self.place, self.isolation = place, isolation
        (place / "ca").mkdir()
        self.authority = Authority(place / "ca")
        self.pair = self.authority.issue("localhost")

    @property
    def env(self) -> Env:
        """What s6-tlsserver needs, and no more."""
        return {
            "KEYFILE": self.pair.key,
            "CERTFILE": self.pair.certificate,
            "TLS_UID": str(TLS_UID),
            "TLS_GID": str(TLS_GID),
        }

    def serve(
        self, *prog: str, options: tuple[str, ...] = (), env: Env | None = None, under: tuple[str, ...] = ()
    ) -> AbstractContextManager[servers.Server]:
        """Serve `prog` on a free port of 127.0.0.1, with every client logged; `env` replaces the usual variables.

        `under` is a command that becomes the server.
        """
        words = [
            *under,
            "s6-tlsserver",
            "-v",
            "-H",
            "--isolation",
            self.isolation,
            *options,
            "--",
            "127.0.0.1",
            "0",
            *prog,
        ]
        return servers.server(words, self.env if env is None else env, cwd=self.place)

    def compile(self, rules: Rules, name: str = "rules") -> str:
        """Write the rules down as a directory, compile them with the real compiler, and return the cdb's path."""
        cdb = str(self.place / f"{name}.cdb")
        tree = self.write(rules, f"{name}.{len(os.listdir(self.place))}")
        compiler = os.path.join(servers.BIN, "s6-accessrules-cdb-from-fs")
        subprocess.run([compiler, cdb, tree], check=True, timeout=servers.PATIENCE)
        return cdb

    def write(self, rules: Rules, name: str = "rules") -> str:
        """Write the rules down as a directory and return its path."""
        tree = str(self.place / name)
        trees.write_tree(os.fsencode(tree), {key.encode(): rule for key, rule in rules.items()})
        return tree


ALLOW, DENY = Rule(True), Rule(False)


def allow(exec: str = "", **env: str | None) -> Rule:
    """A rule that lets its clients in, with changes to the environment (None unsets)."""
    changes = tuple((name.encode(), None if value is None else value.encode()) for name, value in sorted(env.items()))
    return Rule(True, changes, exec.encode())


def replace(path: str, contents: bytes) -> None:
    """Put a file with these contents under this name, so that nobody ever sees half of it."""
    temporary = path + ".new"
    trees.write(os.fsencode(temporary), contents)
    os.rename(temporary, path)


def of(pair: Pair) -> Env:
    """The variables that name a pair."""
    return {"KEYFILE": pair.key, "CERTFILE": pair.certificate}
