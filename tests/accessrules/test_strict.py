"""What --strict refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s6tls.accessrules import Rule, RuleSetError
from s6tls.accessrules.strict import address_problem, problems
from tests.accessrules import trees


@pytest.mark.parametrize(
    ("family", "name"),
    [
        (b"ip4", b"0.0.0.0_0"),
        (b"ip4", b"10.0.0.0_8"),
        (b"ip4", b"10.1.2.3_32"),
        (b"ip6", b"::_0"),
        (b"ip6", b"2001:db8::_32"),
        (b"ip6", b"::ffff:102:304_128"),
        (b"ip6", b"1:0:0:2::_64"),
    ],
)
def test_names_that_match(family: bytes, name: bytes) -> None:
    assert address_problem(family, name) == ""


@pytest.mark.parametrize(
    ("family", "name", "problem"),
    [
        (b"ip4", b"10.0.0.1_8", "write it as 10.0.0.0_8"),
        (b"ip4", b"10.0.0.0_33", "prefix length from 0 to 32"),
        (b"ip4", b"10.0.0.0_08", "prefix length"),
        (b"ip4", b"10.0.0.0_", "prefix length"),
        (b"ip4", b"10.0.0.0", "prefix length"),
        (b"ip4", b"010.0.0.0_8", "address"),
        (b"ip4", b"localhost_32", "address"),
        (b"ip4", b"::_0", "address"),
        (b"ip4", b"\xff_0", "address"),
        (b"ip6", b"2001:DB8::_32", "write it as 2001:db8::_32"),
        (b"ip6", b"2001:0db8::_32", "write it as 2001:db8::_32"),
        (b"ip6", b"::ffff:1.2.3.4_128", "write it as ::ffff:102:304_128"),
        (b"ip6", b"1::2:0:0:0_64", "write it as 1::_64"),
        (b"ip6", b"2001:db8::1_64", "write it as 2001:db8::_64"),
        (b"ip6", b"::_129", "prefix length from 0 to 128"),
        (b"ip6", b"1.2.3.4_32", "address"),
    ],
)
def test_names_that_never_match(family: bytes, name: bytes, problem: str) -> None:
    assert problem in address_problem(family, name)


def test_a_tree(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path) + b"/rules"
    names = (b"ip4/10.0.0.1_8", b"ip4/10.0.0.0_8", b"ip6/::1_0", b"reversedns/10.0.0.1_8")
    trees.write_tree(root, {name: Rule(True) for name in names})
    assert [line.split()[0] for line in problems(root)] == ["ip4/10.0.0.1_8", "ip6/::1_0"]
    trees.write(root + b"/stray", b"")
    with pytest.raises(RuleSetError):
        list(problems(root))
