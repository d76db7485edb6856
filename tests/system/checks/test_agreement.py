"""--check and the start agree about set-ups that are broken, or will be soon: same exit code, same message."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from s6tls.accessrules import Rule
from s6tls.accessrules.compile import compile_tree
from tests.support import pki
from tests.support.checks.starts import start
from tests.support.rules import trees

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
AIA = x509.AuthorityInformationAccess(
    [
        x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://ca.example/")
        )
    ]
)


@dataclass
class Setup:
    """A server that works, to be broken: files in `place`, which variables name; options, and what it serves."""

    place: Path
    env: dict[str, str] = field(default_factory=dict)
    options: list[str] = field(default_factory=lambda: ["-H"])
    address: list[str] = field(default_factory=lambda: ["127.0.0.1", "0"])
    program: list[str] = field(default_factory=lambda: ["cat"])
    server: str = "s6-tlsserver"

    def write(self, name: str, data: bytes, variable: str = "") -> None:
        (self.place / name).write_bytes(data)
        if variable:
            self.env[variable] = name

    @property
    def words(self) -> list[str]:
        return [self.server, *self.options, *self.address, *self.program]


Break = Callable[[Setup], object]


def dated(begins: datetime.timedelta, ends: datetime.timedelta, issuer: str = "leaf", fetchable: bool = False) -> bytes:
    """A certificate for `KEY` that is valid between two moments from now."""
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one)]) for one in ("leaf", issuer)]
    made = x509.CertificateBuilder(names[1], names[0], KEY.public_key(), 1)
    made = made.not_valid_before(NOW + begins).not_valid_after(NOW + ends)
    made = made.add_extension(AIA, critical=False) if fetchable else made
    return made.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


def pair(key: Callable[[], bytes] | None, chain: Callable[[], bytes] | None = None, suffix: str = "") -> Break:
    """Another key or chain than the one that is there."""

    def apply(setup: Setup) -> None:
        if key is not None:
            setup.write(f"other.key{suffix}", key(), f"KEYFILE{suffix}")
        if chain is not None:
            setup.write(f"other.crt{suffix}", chain(), f"CERTFILE{suffix}")

    return apply


def own(chain: Callable[[], bytes]) -> Break:
    """Another chain, for `KEY`."""
    return pair(lambda: pki.key_bytes(KEY), chain)


def both(*breaks: Break) -> Break:
    def apply(setup: Setup) -> None:
        for one in breaks:
            one(setup)

    return apply


def options(*words: str) -> Break:
    return lambda setup: setup.options.extend(words)


def variable(name: str, value: str) -> Break:
    return lambda setup: setup.env.update({name: value})


def unset(name: str) -> Break:
    return lambda setup: setup.env.pop(name)


def address(*words: str) -> Break:
    """Another address and port; without a port, no program follows either."""

    def apply(setup: Setup) -> None:
        setup.address = list(words)
        setup.program = setup.program[: len(words) - 1]

    return apply


def program(*words: str) -> Break:
    def apply(setup: Setup) -> None:
        setup.program = list(words)

    return apply


def tcp(*words: str) -> Break:
    """Another chain, under s6-tcpserver."""

    def apply(setup: Setup) -> None:
        setup.server, setup.options, setup.program = "s6-tcpserver", [], list(words)

    return apply


def file(name: str, data: Callable[[], bytes], variable: str = "") -> Break:
    return lambda setup: setup.write(name, data(), variable)


def directory(name: str) -> Break:
    return lambda setup: (setup.place / name).mkdir()


def clients(name: str, data: Callable[[], bytes]) -> Break:
    """Ask for client certificates, with this for an authority or a list."""
    return both(file("ca.pem", pki.root, "CAFILE"), file("it", data, name), options("-y"))


def two(setup: Setup) -> None:
    """A chain whose leaf comes last."""
    both = pki.pair_by_intermediate()
    certificates = x509.load_pem_x509_certificates(both.chain)[::-1]
    setup.write("k", both.key, "KEYFILE")
    setup.write("c", b"".join(one.public_bytes(Encoding.PEM) for one in certificates), "CERTFILE")


def too_short(setup: Setup) -> None:
    key = rsa.generate_private_key(65537, 1024)
    pair(lambda: pki.key_bytes(key), lambda: pki.self_signed(key).public_bytes(Encoding.PEM))(setup)


NEW = dated(-DAY, 99 * DAY)
ENCRYPTED = pki.key_bytes(KEY, password=b"x")
ONE = b"ip4/127.0.0.1_32"

REFUSED: dict[str, tuple[Break, int, str]] = {
    # what the command line says
    "no port": (address("127.0.0.1"), 100, "port is missing"),
    "no address": (address("localhost", "0"), 100, "invalid IP address: localhost"),
    "an option that is none": (options("--nosuch"), 100, "unrecognized option: --nosuch; try s6-tlsserver --help"),
    "no such program": (program("no-such-program"), 127, "unable to find the program no-such-program: No such file"),
    "no such path": (
        program("./nowhere"),
        127,
        "unable to find the program ./nowhere: No such file or directory: install",
    ),
    "a program that is none": (program("/etc/passwd"), 126, r"/etc/passwd: Permission denied: make it executable"),
    "a directory for a program": (program("/"), 126, "unable to find the program /: Is a directory$"),
    "a program without TLS": (tcp("no-such-program"), 127, "unable to find the program no-such-program: "),
    "ids that are not set": (options("-U"), 100, "s6-applyuidgid: fatal: UID not set$"),
    "engines as root": (variable("TLS_UID", "0"), 96, "engines run as user 0 and group 0 only with --allow-root"),
    "an id that is none": (variable("TLS_UID", "www"), 96, "TLS_UID: invalid id: www$"),
    "name servers": (
        both(variable("DNSCACHEIP", "x"), options("--dns")),
        100,
        r"s6-tcpserver-access: fatal: invalid \$DNSCACHEIP$",
    ),
    # rules
    "no rules file": (options("-x", "nosuch.cdb"), 111, r"rules in nosuch\.cdb: No such file or directory: compile"),
    "no rules directory": (
        options("-i", "nosuch"),
        111,
        "unable to check rules in nosuch: No such file or directory: ",
    ),
    "a broken cdb": (
        both(file("r", lambda: b"no cdb"), options("-x", "r")),
        111,
        "unable to check rules in r: not a cdb file: ",
    ),
    "a directory for a cdb": (
        both(directory("d"), options("-x", "d")),
        111,
        "rules in d: .*: it is a directory, which -i reads",
    ),
    "a file for a directory": (
        both(file("r", lambda: b""), options("-i", "r")),
        111,
        "rules in r: Not a directory: -i reads a d",
    ),
    "a limit that is none": (
        both(variable("TCPCONNMAX", "x"), options("-e")),
        100,
        "s6-connlimit: .* invalid TCPCONNMAX$",
    ),
    "a rate that is none": (both(variable("TCPCONNRATE", "x"), options("-e")), 100, "invalid TCPCONNRATE: ."),
    "no envdir": (tcp("s6-envdir", "nosuch", "cat"), 111, "unable to envdir nosuch: No such file or directory$"),
    "no account": (tcp("s6-envuidgid", "nobody-at-all", "cat"), 1, "unknown user: nobody-at-all$"),
    # keys and certificates
    "no key": (unset("KEYFILE"), 96, "s6-tlsd-io: fatal: KEYFILE not set$"),
    "no certificate": (unset("CERTFILE"), 96, "CERTFILE not set$"),
    "only names, and none": (options("-k2"), 96, "no KEYFILE:name set$"),
    "a key that is not there": (
        variable("KEYFILE", "nosuch"),
        96,
        "read KEYFILE nosuch: No such file or directory: put it",
    ),
    "a directory for a key": (variable("KEYFILE", "."), 96, r"unable to read KEYFILE \.: Is a directory: see"),
    "an encrypted key": (pair(lambda: ENCRYPTED), 96, r"read KEYFILE other\.key: it is encrypted, .* decrypt it"),
    "a certificate for a key": (
        pair(lambda: pki.pair().chain),
        96,
        "no private key in it, only CERTIFICATE: name the file with the",
    ),
    "a damaged key": (pair(lambda: b"x"), 96, r"KEYFILE other\.key: it is neither PEM nor DER: put the private key"),
    "a DSA key": (pair(lambda: pki.key_bytes(dsa.generate_private_key(1024))), 96, "neither RSA, ECDSA nor Ed25519: "),
    "an empty certificate": (pair(None, lambda: b""), 96, r"unable to read CERTFILE other\.crt: it is empty: put the "),
    "half a certificate": (pair(None, lambda: pki.pair().chain[:99]), 96, "a certificate in it is cut short: copy the"),
    "another's key": (
        pair(lambda: pki.key_bytes(KEY)),
        96,
        r"KEYFILE other\.key with CERTFILE server\.crt: the key is",
    ),
    "the leaf behind": (two, 96, "the key's certificate is number 2 in the file: put it first$"),
    "a short key": (too_short, 96, "its key is too short for this system's OpenSSL$"),
    "a second key of one kind": (
        pair(lambda: pki.key_bytes(KEY), lambda: NEW, "2"),
        96,
        "of the same kind as the first: ",
    ),
    "a key for a name": (
        both(options("-k1"), pair(lambda: ENCRYPTED, lambda: pki.pair().chain, ":a.example")),
        96,
        r"unable to read KEYFILE:a\.example other\.key:a\.example: it is encrypted",
    ),
    # clients
    "no authority": (options("-y"), 96, "client certificates asked for, but no CADIR or CAFILE set$"),
    "a broken authority": (clients("CAFILE", lambda: b"x"), 96, "unable to read CAFILE it: it is neither PEM nor DER"),
    "a broken list": (clients("CRLFILE", lambda: pki.root()), 96, "unable to read CRLFILE it: there is no revocation"),
    "an empty CADIR": (both(directory("cas"), variable("CADIR", "cas"), options("-y")), 96, "there is no CA in CADIR$"),
}
WARNED: dict[str, tuple[Break, str]] = {
    "expired": (
        own(lambda: dated(-9 * DAY, -DAY)),
        r"CERTFILE other\.crt: the certificate of CN=leaf has expired, on ",
    ),
    "expires soon": (own(lambda: dated(-DAY, 13 * DAY)), r"CERTFILE other\.crt: .* expires soon, on .*: renew it$"),
    "not yet valid": (own(lambda: dated(DAY, 99 * DAY)), "is not valid before .*: wait, or use another one$"),
    "incomplete": (own(lambda: dated(-DAY, 99 * DAY, "CA", fetchable=True)), "issued by CN=CA, whose certificate is n"),
    "unrelated": (own(lambda: NEW + pki.root()), "does not belong to the chain of the first: remove"),
    "an old list": (
        clients("CRLFILE", lambda: pki.revocations(days=-1)),
        "CRLFILE it: the list of .* has expired, on ",
    ),
    "a response": (variable("OCSPFILE", "nosuch"), "unable to use OCSPFILE nosuch: .*: it is left out$"),
    "left to rules": (
        both(unset("KEYFILE"), options("-x", "rules.cdb")),
        "KEYFILE not set: only clients whose",
    ),
}


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """A server that works."""
    made = Setup(tmp_path)
    made.write("server.key", pki.pair().key, "KEYFILE")
    made.write("server.crt", pki.pair().chain, "CERTFILE")
    trees.write_tree(bytes(tmp_path / "rules"), {ONE: Rule(True)})
    compile_tree(os.fsencode(tmp_path / "rules.cdb"), os.fsencode(tmp_path / "rules"))
    return made


def test_there_are_enough_of_them() -> None:
    assert len(REFUSED) + len(WARNED) >= 40


@pytest.mark.parametrize("what", REFUSED)
def test_what_can_never_work(setup: Setup, what: str) -> None:
    break_it, code, message = REFUSED[what]
    break_it(setup)
    checked = start(setup.words, setup.env, setup.place, "--check")
    started = start(setup.words, setup.env, setup.place, "-1")
    assert (checked.code, started.code) == (code, code), started.stderr
    assert checked.stderr == started.stderr
    assert re.search(message, checked.stderr.rstrip("\n")) and checked.stderr.count("\n") == 1, checked.stderr


def test_warnings_are_not_for_who_wants_none(setup: Setup) -> None:
    own(lambda: dated(-9 * DAY, -DAY))(setup)
    options("-q")(setup)
    for option in ("--check", "-1"):
        assert start(setup.words, setup.env, setup.place, option).stderr == ""


@pytest.mark.parametrize("what", WARNED)
def test_what_works_but_not_for_long(setup: Setup, what: str) -> None:
    break_it, message = WARNED[what]
    break_it(setup)
    checked = start(setup.words, setup.env, setup.place, "--check")
    started = start(setup.words, setup.env, setup.place, "-1")
    assert (checked.code, started.code) == (0, None), checked.stderr
    assert checked.stderr == started.stderr
    assert re.search(f"^s6-tlsd-io: warning: .*{message}", checked.stderr.rstrip("\n")), checked.stderr
    assert checked.stderr.count("\n") == 1
