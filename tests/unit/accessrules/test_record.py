"""Values of cdb records."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.accessrules import MalformedRecord, Rule, record
from s6tls.accessrules.errors import UsageProblem
from tests.support.rules import trees


@given(trees.rules)
def test_a_rule_survives_its_record(rule: Rule) -> None:
    assert record.decode(record.encode(rule)) == rule


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (b"D", Rule(False)),
        (b"Dxx", Rule(False)),
        (b"A\0\0\0\0", Rule(True)),
        (b"A\0\4X=1\0\0\0", Rule(True, ((b"X", b"1"),))),
        (b"A\0\2X\0\0\0", Rule(True, ((b"X", None),))),
        (b"A\0\3X=\0\0\2ls", Rule(True, ((b"X", b""),), b"ls")),
        (b"A\0\6X=a=b\0\0\0", Rule(True, ((b"X", b"a=b"),))),
        (b"X", None),
        (b"a\0\0\0\0", None),
        (b"A\x10\0" + b"V=" + b"v" * 4093 + b"\0\0\0", Rule(True, ((b"V", b"v" * 4093),))),
        (b"A\0\0\x10\0" + b"x" * 4096, Rule(True, (), b"x" * 4096)),
    ],
)
def test_what_values_say(value: bytes, rule: Rule | None) -> None:
    assert record.decode(value) == rule


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"A", b"A\0", b"A\0\0", b"A\0\0\0", b"A\0\0\0\0\0", b"A\0\0\0\1", b"A\0\0\0\2x", b"A\0\1\0\0"),
        *(b"A\xff\xff\0\0", b"A\0\5FOO=b", b"A\0\0\xff\xff"),
        b"A\0\3FOO\0\0",  # the environment ends within a string
        b"A\0\1\0\0\0",  # a variable without a name
        b"A\0\3=x\0\0\0",
        b"A\x10\1" + b"V=" + b"v" * 4094 + b"\0\0\0",
        b"A\0\0\x10\1" + b"x" * 4097,
        *(b"D" * 8198, b"X" * 8198, b"A" * 8198),
    ],
)
def test_malformed_values_are_errors(value: bytes) -> None:
    with pytest.raises(MalformedRecord):
        record.decode(value)


@given(st.binary(max_size=30) | st.binary(max_size=30).map(lambda tail: b"A" + tail))
def test_any_bytes_are_a_rule_or_none_or_malformed(value: bytes) -> None:
    try:
        rule = record.decode(value)
    except MalformedRecord:
        return
    assert (rule is None) == (value[:1] not in (b"A", b"D"))
    if rule is not None and rule.allow:
        assert record.encode(rule) == value


def test_the_environment_has_a_limit() -> None:
    assert len(record.encode(Rule(True, ((b"V", b"v" * 4093),)))) == 5 + 4096
    with pytest.raises(UsageProblem, match="4097 bytes"):
        record.encode(Rule(True, ((b"V", b"v" * 4094),)))
