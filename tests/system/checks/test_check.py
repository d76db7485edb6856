"""--check beyond the start: what it prints, what it finds in rules, and that it binds nothing."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from s6tls.accessrules import Rule
from s6tls.accessrules.compile import compile_tree
from tests.support import pki
from tests.support.checks.starts import start
from tests.support.rules import trees
from tests.support.servers import BIN, PATIENCE


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The variables of a server in `tmp_path`, whose rules are there, too."""
    key, chain = pki.pair("www.example", "mail.example").write(tmp_path)
    return {"KEYFILE": os.fsdecode(key), "CERTFILE": os.fsdecode(chain), "TLS_UID": "64001", "TLS_GID": "64002"}


def test_it_prints_what_it_reads(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(pki.root())
    (tmp_path / "crl.pem").write_bytes(pki.revocations(days=99))
    env |= {"CAFILE": "ca.pem", "CRLFILE": "crl.pem"}
    checked = start(["s6-tlsserver", "-H", "-y", "-c9", "127.0.0.1", "0", "cat"], env, tmp_path, "--check")
    date = r"\d{4}-\d\d-\d\d"
    ours = r"[^;]+,O=ours"
    assert (checked.code, checked.stderr) == (0, "")
    expected = [
        rf"CERTFILE \S+/server\.crt: the certificate of [^;]+; for www\.example, mail\.example; from {date} to {date}; "
        rf"issued by {ours}; clients have to trust {ours}$",
        r"KEYFILE \S+/server\.key: the key of CERTFILE \S+/server\.crt",
        rf"CAFILE ca\.pem: the certificate of .+, until {date}",
        rf"CRLFILE crl\.pem: the list of .+, until {date}",
        "TLS engines run as user 64001 and group 64002",
        f"the server runs as user {os.geteuid()} and group {os.getegid()}",
        "program /bin/cat|program /usr/bin/cat",
        "at most 9 clients, and 9 connections of each",
    ]
    lines = checked.stdout.splitlines()
    assert len(lines) == len(expected)
    assert [line for line, form in zip(lines, expected, strict=True) if not re.match(form, line)] == []


def test_what_is_wrong_with_rules_is_a_warning(env: dict[str, str], tmp_path: Path) -> None:
    """It keeps out their clients, and not the server from starting."""
    rules: trees.Rules = {
        b"ip4/192.0.2.1_32": Rule(True, ((b"KEYFILE", b"/nowhere"), (b"CERTFILE", os.fsencode(env["CERTFILE"])))),
        b"ip4/192.0.2.2_32": Rule(True, (), b"/no/such/program"),
        b"ip4/192.0.2.3_8": Rule(True),
        b"ip4/192.0.2.4_32": Rule(False),
    }
    trees.write_tree(bytes(tmp_path / "rules"), rules)
    checked = start(["s6-tlsserver", "-H", "-i", "rules", "127.0.0.1", "0", "cat"], env, tmp_path, "--check")
    assert checked.code == 0
    assert "rules in rules: 4\n" in checked.stdout
    for rule, message in (
        ("192.0.2.1_32", "KEYFILE /nowhere: is not there: put it there"),
        ("192.0.2.2_32", "exec runs /no/such/program, which is not there or not executable: "),
        ("192.0.2.3_8", ""),
    ):
        assert f"s6-tcpserverd: warning: rules, rule ip4/{rule}: {message}" in checked.stderr
    assert checked.stderr.count("\n") == 3


def test_rules_that_cannot_all_be_read(tmp_path: Path) -> None:
    """The start opens them only, and so does not fail either."""
    (tmp_path / "r").write_bytes(b"".join(struct.pack("<II", 2048, 2) for _ in range(256)) + bytes(16))
    words = ["s6-tcpserver", "127.0.0.1", "0", "s6-tcpserver-access", "-H", "-x", "r", "cat"]
    checked, started = (start(words, {}, tmp_path, option) for option in ("--check", "-1"))
    assert (checked.code, started.code) == (0, None)
    assert checked.stderr.startswith("s6-tcpserverd: warning: unable to read all rules in r: ")


def test_rules_without_a_rule(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    words = ["s6-tcpserver", "127.0.0.1", "0", "s6-tcpserver-access", "-H", "-i", "rules", "cat"]
    checked = start(words, {}, tmp_path, "--check")
    assert (checked.code, checked.stderr) == (0, "")
    assert "rules in rules: 0, so that nobody is let in\n" in checked.stdout


@pytest.mark.parametrize("server", ["s6-tcpserver", "s6-tlsserver"])
def test_it_binds_nothing(server: str, env: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert start([server, "127.0.0.1", port, "cat"], env, tmp_path, "--check").code == 0
        assert start([server, "127.0.0.1", port, "cat"], env, tmp_path, "-1").code == 111


def test_a_socket_that_a_manager_will_hand_over(tmp_path: Path) -> None:
    assert start(["s6-tcpserver", "-", "-", "cat"], {}, tmp_path, "--check").code == 0
    assert start(["s6-tcpserver", "127.0.0.1", "x", "cat"], {}, tmp_path, "--check").code == 100


def test_it_takes_the_ids_of_the_server(env: dict[str, str], tmp_path: Path) -> None:
    """And so it finds that the key is for root alone."""
    Path(env["KEYFILE"]).chmod(0o600)
    words = ["s6-tcpserver", "-u", "64001", "-g", "64001", "127.0.0.1", "0", "s6-tlsd", "/bin/cat"]
    checked = start(words, env, tmp_path, "--check")
    why = "Permission denied: see to its owner, its permissions and its kind"
    message = f"s6-tlsd-io: fatal: unable to read KEYFILE {env['KEYFILE']}: {why}\n"
    assert (checked.code, checked.stderr) == (96, message)
    started = start(words, env, tmp_path, "-1")
    assert (started.code, started.stderr) == (checked.code, checked.stderr)


def test_ids_that_nobody_but_root_can_take(tmp_path: Path) -> None:
    words = ["s6-tcpserver", "-u", "64001", "127.0.0.1", "0", "s6-applyuidgid", "-u", "5", "/bin/cat"]
    checked = start(words, {}, tmp_path, "--check")
    why = "unable to drop privileges: Operation not permitted: only root can take other ids"
    assert (checked.code, checked.stderr) == (111, f"s6-applyuidgid: fatal: {why}\n")


PAGE = (Path(__file__).parents[3] / "docs/s6-tlsserver.md").read_text()
_EXAMPLE = re.compile(r"^    \$ (.*--check.*)\n((?:    (?!\$ ).*\n)*)", re.MULTILINE)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def test_the_page_shows_what_it_says(tmp_path: Path) -> None:
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj /CN=localhost"
    words += " -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem"
    subprocess.run(words.split(), cwd=tmp_path, check=True, capture_output=True)
    trees.write_tree(bytes(tmp_path / "rules"), {b"ip4/127.0.0.0_8": Rule(True)})
    compile_tree(os.fsencode(tmp_path / "rules.cdb"), os.fsencode(tmp_path / "rules"))
    examples = _EXAMPLE.findall(PAGE)
    assert len(examples) == 2
    for command, shown in examples:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=tmp_path,
            env={"PATH": f"{BIN}:/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        assert _DATE.sub("DATE", done.stdout) == _DATE.sub("DATE", re.sub("^    ", "", shown, flags=re.MULTILINE))
