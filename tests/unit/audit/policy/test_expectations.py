"""Files of expectations: what they may say, and what is wrong with others."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import parse_cidr
from s6tls.audit.policy.expect import violations
from s6tls.audit.policy.expectations import BadExpectations, Expectation, parse

ROOT = Path(__file__).parents[4]


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


@pytest.mark.parametrize(
    "text",
    ["a{} = 1", "[a{}]", "[[expect]]\nenv = {{ x = 1, a{} = 1 }}", 'x = \' """, {{ a{} = 1 }}, "\''],
)
@pytest.mark.parametrize("part", [".a", ' . "a="', ".'\"'", '."\\""', ".-"])
def test_keys_of_many_parts_take_memory_with_the_square(text: str, part: str) -> None:
    with pytest.raises(BadExpectations, match="more than 40 words with dots"):
        parse(text.format(part * 100_000).encode())


def test_texts_may_have_dots() -> None:
    addresses = ",".join(["192.0.2.1"] * 50)
    name = ".".join(["0"] * 32 + ["ip6", "arpa"])
    (found,) = parse(f"{EXPECT}about = '{addresses} {name} {'.' * 99}'".encode())
    assert found.about.startswith(addresses)


@pytest.mark.parametrize("text", ["a", "'", '"', "'\"", '"\\', '"a', "a ", '"."', "\\", '"\\""', "."])
def test_texts_of_one_thing_many_times_take_no_long(text: str) -> None:
    with pytest.raises(BadExpectations):
        parse((text * 2**20).encode())


def test_files_that_are_too_large() -> None:
    with pytest.raises(BadExpectations, match="larger than 8 MiB"):
        parse(b"\n" * (8 * 2**20 + 1))


def test_a_long_key_is_cut_in_messages() -> None:
    for before in (b"", EXPECT.encode()):
        with pytest.raises(BadExpectations) as error:
            parse(before + b"k" * 2**20 + b" = 1")
        assert len(str(error.value)) < 200


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
    assert list(violations(LoadedRules.load(str(file.parent / "tree")), expectations)) == []


def test_the_page_quotes_an_example_as_it_is() -> None:
    example = (ROOT / "rules/partners/expectations.toml").read_text()
    assert f"```toml\n{example}```\n" in (ROOT / "docs/s6-accessrules-expect.md").read_text()
