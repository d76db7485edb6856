"""The keys, certificates, authorities and revocation lists that rules name: whether a server could use them.

Servers read and judge them with `s6tls.pki`, and so are they read and judged here.
"""

from __future__ import annotations

import datetime
import os
import stat
from collections import Counter
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from s6tls.accessrules.text import shown
from s6tls.audit.core.progress import Progress, counted, silent
from s6tls.audit.lint.findings import Finding, Severity
from s6tls.pki import REMEDIES, Kind, Unusable, files, judgement, parsing
from s6tls.pki.judgement import Times
from s6tls.pki.ocsp import staple
from s6tls.pki.parsing import authorities, check_keypair, check_kinds, private_key, revocations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cryptography import x509

    from s6tls.accessrules.rule import Rule
    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.pki.judgement import Oddity
    from s6tls.pki.parsing import Key


class Named(NamedTuple):
    """A variable and the path that a rule gives it."""

    variable: bytes
    path: bytes

    def __str__(self) -> str:
        return f"{shown(self.variable)} {shown(self.path)}"


Uses = tuple[Named, ...]
"""What is looked at, and what is looked at beside it: a key's certificate; the CAFILE that may do without a CADIR."""


def findings(
    loaded: LoadedRules, days: int, progress: Progress = silent, now: datetime.datetime | None = None
) -> Iterator[Finding]:
    """Yield what is wrong with the files that rules name, or will be within `days`, each with its first rule."""
    users: dict[Uses, bytes] = {}
    count: Counter[Uses] = Counter()
    for key, rule in loaded.rules.items():
        if rule.env:
            for uses in _uses(rule):
                users.setdefault(uses, key)
                count[uses] += 1
    check = _Check(Times.within(days) if now is None else Times(now, datetime.timedelta(days=days)))
    for uses, key in counted(users.items(), "files looked at", progress):
        for found in check.findings(uses):
            yield found.at(key, count[uses])


def _uses(rule: Rule) -> Iterator[Uses]:
    env = {name: value for name, value in rule.env if value}
    for variable, path in env.items():
        kind, colon, server = variable.partition(b":")
        if variable == b"CADIR" and b"CAFILE" in env:
            yield Named(variable, path), Named(b"CAFILE", env[b"CAFILE"])
        elif variable in _OF_CLIENTS or (kind in _OF_PAIRS and (server or not colon)):
            yield (Named(variable, path),)
        for other in _BESIDE.get(kind, ()):
            beside = other + colon + server
            if beside in env:
                yield Named(variable, path), Named(beside, env[beside])


_OF_CLIENTS = (b"CADIR", b"CAFILE", b"CRLFILE")
_OF_PAIRS = (b"KEYFILE", b"CERTFILE", b"OCSPFILE", b"KEYFILE2", b"CERTFILE2", b"OCSPFILE2")
_BESIDE = {
    b"KEYFILE": (b"CERTFILE",),
    b"KEYFILE2": (b"CERTFILE2", b"KEYFILE"),
    b"OCSPFILE": (b"CERTFILE",),
    b"OCSPFILE2": (b"CERTFILE2",),
}
"""With what a file is compared: a key with its certificate, and with the first key, if it is the second."""


class _Check:
    """Reads each file once."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._keys: dict[Named, Key] = {}
        self._chains: dict[Named, list[x509.Certificate]] = {}
        self._responses: dict[Named, bytes] = {}

    def findings(self, uses: Uses) -> Iterator[Finding]:
        try:
            if uses[0].variable != b"CADIR" and len(uses) == 2:
                self._compare(*uses)
            elif uses[0].path.startswith(b"/"):
                yield from self._file(*uses)
            else:
                message = f"{uses[0]} is found from the working directory of the server, and not looked at here"
                yield Finding("relative-path", Severity.WARNING, message, "write the whole path")
        except Unusable as error:
            yield _faulty(uses, error)

    def _file(self, named: Named, beside: Named | None = None) -> Iterator[Finding]:
        kind, which = named.variable.partition(b":")[0], shown(named.path)
        if kind == b"CADIR":
            found = _in_directory(named.path)
            if not found and beside is None:
                raise Unusable(Kind.CERTIFICATE, which, "there is no CA in it")
            yield from self._authorities(named, found)
            return
        file = files.read(named.path)
        if kind in (b"KEYFILE", b"KEYFILE2"):
            self._keys[named] = private_key(file.data)
            if file.mode & stat.S_IROTH:
                message = f"{named} may be read by every user of this machine"
                yield Finding("key-exposed", Severity.WARNING, message, "take that permission away")
        elif kind in (b"CERTFILE", b"CERTFILE2"):
            certificates = self._chains[named] = parsing.chain(file.data)
            for certificate in certificates:
                yield from _findings(named, judgement.of_certificate(certificate, self._times))
            yield from _findings(named, judgement.of_chain(certificates))
        elif kind in (b"OCSPFILE", b"OCSPFILE2"):
            self._responses[named] = file.data
        elif kind == b"CRLFILE":
            for crl in revocations(file.data, which):
                yield from _findings(named, judgement.of_list(crl, self._times))
        else:
            yield from self._authorities(named, authorities(file.data, which))

    def _compare(self, key: Named, other: Named) -> None:
        """Compare a key or a response with a certificate, or two keys, which have been read before."""
        if key in self._responses and other in self._chains:
            staple(self._responses[key], self._chains[other], shown(key.path))
        elif key in self._keys and other in self._chains:
            check_keypair(self._keys[key], self._chains[other])
        elif key in self._keys and other in self._keys:
            check_kinds([self._keys[other], self._keys[key]])

    def _authorities(self, named: Named, found: list[x509.Certificate]) -> Iterator[Finding]:
        """Of many authorities some may be of no use any more: that is an error only when no other is left."""
        trusted = dict.fromkeys(found)  # in a hashed directory most are there twice
        by_authority = [list(_findings(named, judgement.of_authority(one, self._times))) for one in trusted]
        alive = any(all(finding.severity < Severity.ERROR for finding in of_one) for of_one in by_authority)
        for finding in chain.from_iterable(by_authority):
            yield replace(finding, severity=Severity.WARNING) if alive else finding


def _findings(named: Named, oddities: Iterable[Oddity]) -> Iterator[Finding]:
    for odd in oddities:
        severity = Severity.ERROR if odd.grave else Severity.WARNING
        yield Finding(odd.code, severity, f"{named}: {odd.message}", odd.remedy)


def _faulty(uses: Uses, error: Unusable) -> Finding:
    code, remedy = _FAULTS[error.kind]
    if error.kind is Kind.MISSING:
        why = "is not there"
    elif error.kind is Kind.KEYPAIR:
        why = f"does not go with {uses[1]}: {error.why}"
    else:
        why = f"unable to {'read' if error.kind is Kind.UNREADABLE else 'use'} it: {error.why}"
    severity = Severity.WARNING if uses[0].variable.startswith(b"OCSPFILE") else Severity.ERROR
    return Finding(code, severity, f"{uses[0]}: {why}", remedy)


_FAULTS = {
    Kind.MISSING: ("file-missing", REMEDIES[Kind.MISSING]),
    Kind.UNREADABLE: ("file-unreadable", REMEDIES[Kind.UNREADABLE]),
    Kind.KEY: ("bad-key", "replace it by a PEM or DER key, RSA, ECDSA or Ed25519, without a password"),
    Kind.CERTIFICATE: ("bad-certificate", "replace it by PEM or DER certificates"),
    Kind.CRL: ("bad-crl", "replace it by PEM or DER revocation lists"),
    Kind.KEYPAIR: ("keypair-mismatch", "name the two that belong together"),
    Kind.OCSP: ("bad-ocsp", "fetch a new response: until then none is stapled"),
}


def _in_directory(path: bytes) -> list[x509.Certificate]:
    """Return the certificates in the files of a directory.  Raises Unusable, and names the file."""
    found: list[x509.Certificate] = []
    for file in files.authorities_in(path):
        name = shown(os.path.basename(file))
        try:
            found += authorities(files.read(file).data, name)
        except Unusable as error:
            raise Unusable(error.kind, error.what, f"{name}: {error.why}") from error
    return found
