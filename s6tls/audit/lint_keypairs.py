"""The keys, certificates, authorities and revocation lists that rules name: whether a server could use them.

Servers take PEM and DER; RSA, ECDSA and Ed25519; plain files of at most 4 MiB; and directories of at most 4096 files,
in which hidden ones and revocation lists of a hashed directory are passed over.
"""

from __future__ import annotations

import datetime
import os
import re
import stat
import warnings
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from s6tls.accessrules.errors import shown
from s6tls.audit.findings import Finding, Severity, with_others
from s6tls.audit.progress import Progress, counted, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from s6tls.accessrules.rule import Rule
    from s6tls.audit.contents import Contents

    T = TypeVar("T")
    Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_LARGEST_FILE = 4 * 2**20
_LARGEST_DIRECTORY = 4096
_HASHED_CRL = re.compile(rb"[0-9a-f]{8}\.r[0-9]+")
_PEM = b"-----BEGIN"
_CRL_BEGINS, _CRL_ENDS = b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----"


class Named(NamedTuple):
    """A variable and the path that a rule gives it."""

    variable: bytes
    path: bytes

    def __str__(self) -> str:
        return f"{shown(self.variable)} {shown(self.path)}"


Uses = tuple[Named, ...]  # one file, or a key and its certificate


class Problem(NamedTuple):
    """A finding, without the rule."""

    code: str
    severity: Severity
    message: str
    remedy: str


class Unusable(Exception):
    """A file that a server could not use."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def findings(
    contents: Contents, days: int, progress: Progress = silent, now: datetime.datetime | None = None
) -> Iterator[Finding]:
    """Yield what is wrong with the files that rules name, or will be within `days`, each with its first rule."""
    users: dict[Uses, bytes] = {}
    count: Counter[Uses] = Counter()
    for key, rule in contents.rules.items():
        if rule.env:
            for uses in _uses(rule):
                users.setdefault(uses, key)
                count[uses] += 1
    check = _Check(now or datetime.datetime.now(datetime.UTC), datetime.timedelta(days=days))
    for uses, key in counted(users.items(), "files looked at", progress):
        for code, severity, message, remedy in check.problems(uses):
            yield Finding(code, severity, key, with_others(message, count[uses]), remedy)


def _uses(rule: Rule) -> Iterator[Uses]:
    env = {name: value for name, value in rule.env if value}
    for variable, path in env.items():
        kind, colon, server = variable.partition(b":")
        if variable in (b"CADIR", b"CAFILE", b"CRLFILE") or (
            kind in (b"KEYFILE", b"CERTFILE") and (server or not colon)
        ):
            yield (Named(variable, path),)
        certificate = b"CERTFILE" + colon + server
        if kind == b"KEYFILE" and certificate in env:
            yield Named(variable, path), Named(certificate, env[certificate])


class _Check:
    """Reads each file once."""

    def __init__(self, now: datetime.datetime, soon: datetime.timedelta) -> None:
        self._now, self._soon = now, soon
        self._keys: dict[Named, Key] = {}
        self._chains: dict[Named, list[x509.Certificate]] = {}

    def problems(self, uses: Uses) -> Iterator[Problem]:
        try:
            if len(uses) == 2:
                self._compare(*uses)
            elif uses[0].path.startswith(b"/"):
                yield from self._file(uses[0])
            else:
                message = f"{uses[0]} is found from the working directory of the server, and not looked at here"
                yield Problem("relative-path", Severity.WARNING, message, "write the whole path")
        except Unusable as error:
            yield Problem(error.code, Severity.ERROR, f"{uses[0]}: {error}", _REMEDIES[error.code])

    def _file(self, named: Named) -> Iterator[Problem]:
        kind = named.variable.partition(b":")[0]
        if kind == b"KEYFILE":
            self._keys[named] = _private_key(_read(named.path))
            if os.stat(named.path).st_mode & stat.S_IROTH:
                message = f"{named} may be read by every user of this machine"
                yield Problem("key-exposed", Severity.WARNING, message, "take that permission away")
        elif kind == b"CERTFILE":
            chain = _file(named.path)
            if not _serves(chain[0]):
                raise Unusable("bad-certificate", "its key is neither RSA, ECDSA nor Ed25519")
            self._chains[named] = chain
            yield from self._periods(named, chain)
        elif kind == b"CRLFILE":
            yield from self._revocations(named, _crls(_read(named.path)))
        else:
            yield from self._authorities(named, (_directory if kind == b"CADIR" else _file)(named.path))

    def _compare(self, key: Named, certificate: Named) -> None:
        """Compare a key and a certificate that have been read, each by itself, before: rules name them first."""
        if key not in self._keys or certificate not in self._chains:
            return
        if _public(self._keys[key]) != _public(self._chains[certificate][0]):
            raise Unusable("keypair-mismatch", f"is not the key of the first certificate in {certificate}")

    def _periods(self, named: Named, certificates: list[x509.Certificate]) -> Iterator[Problem]:
        for certificate in certificates:
            which = f"{named}: {_name(certificate)}"
            begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            if ends < self._now:
                message = f"{which} has expired, on {ends:%Y-%m-%d}"
                yield Problem("certificate-expired", Severity.ERROR, message, "renew it")
            elif begins > self._now:
                message = f"{which} is not valid before {begins:%Y-%m-%d}"
                yield Problem("certificate-not-yet-valid", Severity.ERROR, message, "wait, or use another one")
            elif ends - self._now < self._soon:
                message = f"{which} expires soon, on {ends:%Y-%m-%d}"
                yield Problem("certificate-expires", Severity.WARNING, message, "renew it")

    def _authorities(self, named: Named, found: list[x509.Certificate]) -> Iterator[Problem]:
        """Of many authorities some may have expired: that is an error only when no other is left."""
        authorities = list(dict.fromkeys(found))  # in a hashed directory most are there twice
        if not authorities:
            raise Unusable("bad-certificate", "has no certificate in it")
        problems = list(self._periods(named, authorities))
        dead = sum(problem.severity == Severity.ERROR for problem in problems)
        for problem in problems:
            yield problem if dead == len(authorities) else problem._replace(severity=Severity.WARNING)

    def _revocations(self, named: Named, lists: list[x509.CertificateRevocationList]) -> Iterator[Problem]:
        for crl in lists:
            ends = crl.next_update_utc
            which = f"{named}: the list of {shown(crl.issuer.rfc4514_string().encode())}"
            if ends is not None and ends < self._now:
                message = f"{which} has expired, on {ends:%Y-%m-%d}: no client of this authority gets in"
                yield Problem("crl-expired", Severity.ERROR, message, "fetch a new one")
            elif ends is not None and ends - self._now < self._soon:
                message = f"{which} expires soon, on {ends:%Y-%m-%d}"
                yield Problem("crl-expires", Severity.WARNING, message, "fetch a new one in time")


_REMEDIES = {
    "file-missing": "put it there, or correct the path",
    "file-unreadable": "see to its owner, its permissions and its kind",
    "bad-key": "replace it by a PEM or DER key, RSA, ECDSA or Ed25519, without a password",
    "bad-certificate": "replace it by PEM or DER certificates",
    "bad-crl": "replace it by PEM or DER revocation lists",
    "keypair-mismatch": "name the two that belong together",
}


def _read(path: bytes) -> bytes:
    """Return the bytes of a plain file.  Raises Unusable."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # it is told before it is opened: that sets some devices going
            raise Unusable("file-unreadable", "is not a regular file")
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(error) from error
    if len(data) > _LARGEST_FILE:
        raise Unusable("file-unreadable", "is larger than 4 MiB")
    return data


def _file(path: bytes) -> list[x509.Certificate]:
    """Return the certificates in a file.  Raises Unusable."""
    return _certificates(_read(path))


def _directory(path: bytes) -> list[x509.Certificate]:
    """Return the certificates in the files of a directory.  Raises Unusable."""
    try:
        names = sorted(os.listdir(path))
    except (OSError, ValueError) as error:
        raise _unreadable(error) from error
    if len(names) > _LARGEST_DIRECTORY:
        raise Unusable("file-unreadable", f"has more than {_LARGEST_DIRECTORY} files in it")
    found: list[x509.Certificate] = []
    for name in names:
        file = os.path.join(path, name)
        if not name.startswith(b".") and not _HASHED_CRL.fullmatch(name) and os.path.isfile(file):
            try:
                found += _file(file)
            except Unusable as error:
                raise Unusable(error.code, f"{shown(name)}: {error}") from error
    return found


def _unreadable(error: OSError | ValueError) -> Unusable:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Unusable("file-missing", "is not there")
    return Unusable("file-unreadable", f"unable to read it: {getattr(error, 'strerror', None) or error}")


def _parsed(code: str, parse: Callable[[], T]) -> T:
    """Parse with a library that warns of oddities which servers take.  Raises Unusable for whatever it raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return parse()
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise Unusable(code, f"unable to parse it: {reason}") from error


def _private_key(data: bytes) -> Key:
    key = _parsed("bad-key", lambda: (load_pem_private_key if _PEM in data else load_der_private_key)(data, None))
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise Unusable("bad-key", "is neither RSA, ECDSA nor Ed25519")
    return key


def _certificates(data: bytes) -> list[x509.Certificate]:
    def parse() -> list[x509.Certificate]:
        found = x509.load_pem_x509_certificates(data) if _PEM in data else [x509.load_der_x509_certificate(data)]
        for certificate in found:  # the library parses names and dates when it is asked for them
            _ = certificate.subject.rfc4514_string(), certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return found

    return _parsed("bad-certificate", parse)


def _crls(data: bytes) -> list[x509.CertificateRevocationList]:
    if _PEM not in data:
        return _parsed("bad-crl", lambda: [_whole(x509.load_der_x509_crl(data))])
    _, *blocks = data.split(_CRL_BEGINS)
    if not blocks or not all(_CRL_ENDS in block for block in blocks):
        raise Unusable("bad-crl", "has no whole list in it")
    whole = [_CRL_BEGINS + block.partition(_CRL_ENDS)[0] + _CRL_ENDS for block in blocks]
    return _parsed("bad-crl", lambda: [_whole(x509.load_pem_x509_crl(block)) for block in whole])


def _whole(crl: x509.CertificateRevocationList) -> x509.CertificateRevocationList:
    """Make the library parse what it parses when it is asked for it."""
    _ = crl.issuer.rfc4514_string(), crl.next_update_utc
    return crl


def _serves(certificate: x509.Certificate) -> bool:
    key = _parsed("bad-certificate", certificate.public_key)
    return isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey)


def _public(owner: Key | x509.Certificate) -> bytes:
    return owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _name(certificate: x509.Certificate) -> str:
    subject = certificate.subject.rfc4514_string()
    return f"the certificate of {shown(subject.encode())}" if subject else "the certificate"
