"""Files of expectations: what they may say, and what is wrong with others."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.audit.contents import Contents
from s6tls.audit.expect import violations
from s6tls.audit.expectations import BadExpectations, Expectation, parse
from s6tls.audit.networks import parse_cidr

ROOT = Path(__file__).parents[2]


def test_a_file() -> None:
    found = parse(
        b"""
        [[expect]]
        about = "the office gets in as staff"
        allow = ["192.0.2.0/24", "2001:db8::1"]
        env = { ROLE = "staff", DEBUG = false, EMPTY = "" }
        exec = "echo hello"
        [[expect]]
        deny = ["0.0.0.0/0"]
        [[expect]]
        only = []
        [[expect]]
        allow = ["10.0.0.0/8"]
        exec = false
        """
    )
    office = (parse_cidr("192.0.2.0/24"), parse_cidr("2001:db8::1/128"))
    env = ((b"DEBUG", None), (b"EMPTY", b""), (b"ROLE", b"staff"))
    assert found == [
        Expectation(1, "allow", office, "the office gets in as staff", env, b"echo hello"),
        Expectation(2, "deny", (parse_cidr("0.0.0.0/0"),)),
        Expectation(3, "only", ()),
        Expectation(4, "allow", (parse_cidr("10.0.0.0/8"),), exec=b""),
    ]


GOOD = 'allow = ["10.0.0.0/8"]\n'
EXPECT = f"[[expect]]\n{GOOD}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "nothing is expected"),
        ("# nothing\n", "nothing is expected"),
        ("expect = []", "nothing is expected"),
        ("expect = 1", "nothing is expected"),
        ("expect = [1]", "nothing is expected"),
        (f"[expect]\n{GOOD}", "nothing is expected"),
        (f"version = 1\n{EXPECT}", "unknown key: version"),
        (f"[[expects]]\n{GOOD}", "unknown key: expects"),
        (f"{EXPECT}[[expect]]\n", "expectation 2: it has to have one of allow, deny and only"),
        (f'{EXPECT}deny = ["10.0.0.0/8"]', "expectation 1: .* not several"),
        (f"{EXPECT}only = []", "expectation 1: .* not several"),
        (f"{EXPECT}{EXPECT}Allow = 1", "expectation 2: unknown key: Allow"),
        (f"{EXPECT}about = 1", "expectation 1: about: not a text"),
        (f"{EXPECT}about = 2026-11-25", "about: not a text"),
        ('[[expect]]\nallow = "10.0.0.0/8"', "allow: not a list"),
        ("[[expect]]\nallow = [2026-11-25]", "allow: not a list"),
        ("[[expect]]\nallow = [10]", "allow: not a list"),
        ("[[expect]]\nonly = [['10.0.0.0/8']]", "only: not a list"),
        ("[[expect]]\nallow = []", "allow: an empty list"),
        ("[[expect]]\ndeny = []", "deny: an empty list"),
        ("[[expect]]\ndeny = ['10.0.0.1/8']", r"deny: bits are set .* as 10\.0\.0\.0/8"),
        ("[[expect]]\ndeny = ['10.0.0.0/33']", "deny: not a prefix length"),
        ("[[expect]]\ndeny = ['010.0.0.0/8']", "deny: not an address"),
        ("[[expect]]\nonly = ['localhost']", "only: not an address: localhost"),
        ("[[expect]]\nonly = ['']", "only: not an address"),
        ("[[expect]]\ndeny = ['10.0.0.0/8']\nenv = {}", "env: only beside allow"),
        ("[[expect]]\nonly = []\nexec = false", "exec: only beside allow"),
        (f"{EXPECT}env = []", "env: not a table"),
        (f"{EXPECT}env = 'ROLE=staff'", "env: not a table"),
        (f"{EXPECT}env = {{ ROLE = true }}", "env: ROLE: not a text"),
        (f"{EXPECT}env = {{ ROLE = 1 }}", "env: ROLE: not a text"),
        (f"{EXPECT}env = {{ ROLE.x = 'y' }}", "env: ROLE: not a text"),
        (f"{EXPECT}env = {{ 'A=B' = 'x' }}", "env: no variable can have this name"),
        (f"{EXPECT}env = {{ '' = 'x' }}", "env: no variable can have this name"),
        (f'{EXPECT}env = {{ "A\\u0000" = "x" }}', "env: no variable can have this name"),
        (f'{EXPECT}env = {{ A = "\\u0000" }}', "env: A: no variable can hold a NUL"),
        (f"{EXPECT}exec = true", "exec: not a text"),
        (f"{EXPECT}exec = ['echo']", "exec: not a text"),
        (f"{EXPECT}{GOOD}", "not TOML: .*line 3"),
        ("[[expect]]\nallow = ['10.0.0.0/8'", "not TOML: "),
        ("[[expect]", "not TOML: "),
        ("\ufeff[[expect]]", "not TOML: "),
        (f"{EXPECT}about = '\0'", "not TOML: "),
        (f"{EXPECT}about = {'1' * 5000}", "not TOML: "),
        (f"{EXPECT}about = {'[' * 100_000}", "not TOML: .*nested"),
        (f"{EXPECT}about = {'{a=' * 100_000}", "not TOML: .*nested"),
    ],
    ids=range(46),
)
def test_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(BadExpectations, match=problem):
        parse(text.encode())


def test_bytes_that_are_not_utf_8() -> None:
    with pytest.raises(BadExpectations, match="not UTF-8 at byte 2"):
        parse(b"# \xff\n")


def test_many_dots_are_too_deep_or_an_unknown_key() -> None:
    with pytest.raises(BadExpectations):
        parse(b"a" + b".a" * 2000 + b" = 1")


@given(st.binary(max_size=60) | st.text("[]{}=\",.#'\n \\abcdefxpt10/:", max_size=60).map(str.encode))
def test_whatever_stands_in_a_file_is_refused_or_read(text: bytes) -> None:
    for whole in (text, EXPECT.encode() + text):
        try:
            found = parse(whole)
        except BadExpectations:
            continue
        assert len(found) == len(tomllib.loads(whole.decode())["expect"])


@pytest.mark.parametrize(
    "file", sorted((ROOT / "rules").glob("*/expectations.toml")), ids=lambda file: file.parent.name
)
def test_the_expectations_of_rule_sets_hold(file: Path) -> None:
    expectations = parse(file.read_bytes())
    assert list(violations(Contents.load(str(file.parent / "tree")), expectations)) == []


def test_the_page_quotes_an_example_as_it_is() -> None:
    example = (ROOT / "rules/partners/expectations.toml").read_text()
    assert f"```toml\n{example}```\n" in (ROOT / "docs/s6-accessrules-expect.md").read_text()
