"""Host names and IDENT answers come from strangers."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.accessrules.identifiers import normalised
from s6tls.helper import ident
from s6tls.helper.names import in_hosts_file, reverse_name


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("www.example.com", b"www.example.com"),
        ("WWW.Example.COM.", b"www.example.com"),
        ("_dmarc.x-1.example", b"_dmarc.x-1.example"),
        ("localhost", b"localhost"),
        ("a" * 63 + ".b", b"a" * 63 + b".b"),
        ("a" * 64 + ".b", None),
        (".".join(["a" * 49] * 6), None),
        ("a." * 126 + "a", b"a." * 126 + b"a"),
        ("a." * 127 + "a", None),
        ("www.example.com..", None),
        ("a\\.b", None),
        ("a\\000b.c", None),
        ("", None),
        (".", None),
        ("a..b", None),
        (".a", None),
        ("a b.c", None),
        ("a/../b", None),
        ("a\0b", None),
        ("a\nb", None),
        ("a=b", None),
        ("-a.b", None),
        ("a-.b", None),
        ("été.example", None),
        ("192.0.2.1", None),
        ("@", None),
        ("*.example.com", None),
    ],
)
def test_names_are_normalised_or_dropped(name: str, result: bytes | None) -> None:
    assert normalised(name) == normalised(name.encode()) == result


@given(st.one_of(st.text(), st.binary(), st.from_regex(r"[A-Za-z0-9._-]{0,300}")))
def test_what_is_left_is_harmless_and_stays_as_it_is(name: str | bytes) -> None:
    result = normalised(name)
    if result is not None:
        assert 0 < len(result) <= 253
        assert result.strip(b"abcdefghijklmnopqrstuvwxyz0123456789._-") == b""
        assert normalised(result) == result


@given(st.ip_addresses())
def test_reverse_names_are_those_of_the_standard_library(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert reverse_name(address.packed) == address.reverse_pointer


def test_hosts_file() -> None:
    lines = [
        b"# 192.0.2.1 comment\n",
        b"192.0.2.2\tother\n",
        b"192.0.2.1 \t bad/name Good.Example. alias # 192.0.2.1\n",
        b"192.0.2.1 later\n",
        b"2001:db8:0::1 six\n",
        b"fe80::1%lo0 scoped\n",
        b"nonsense\n",
    ]
    assert in_hosts_file(lines, socket.inet_aton("192.0.2.1")) == b"good.example"
    assert in_hosts_file(lines, socket.inet_pton(socket.AF_INET6, "2001:db8::1")) == b"six"
    assert in_hosts_file(lines, socket.inet_aton("192.0.2.3")) is None


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (b"6193, 23 : USERID : UNIX : stjohns\r\n", b"stjohns"),
        (b"6193,23:USERID:UNIX,US-ASCII:a:b c\n", b"a:b c"),
        (b" 6193 , 23 : userid : OTHER : \xc3\xa9\r\n", b"\xc3\xa9"),
        (b"6193, 23 : ERROR : NO-USER\r\n", b""),
    ],
)
def test_ident_answers(answer: bytes, name: bytes) -> None:
    assert ident.question(6193, 23) == b"6193, 23\r\n"
    assert ident.read_answer(answer, 6193, 23) == name


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"6193, 24 : USERID : UNIX : stjohns",
        b"6193 : USERID : UNIX : stjohns",
        b"6193, 23 : USERID : UNIX",
        b"6193, 23 : USERID : : stjohns",
        b"6193, 23 : USERID : UNIX : ",
        b"6193, 23 : USERID : UNIX : a\0b",
        b"6193, 23 : USERID : UNIX : a\x1b[2J",
        b"6193, 23 : USERID : UNIX : " + b"a" * 513,
        b"6193, 23 : MAYBE : UNIX : x",
    ],
)
def test_unusable_ident_answers(answer: bytes) -> None:
    with pytest.raises(ident.IdentError):
        ident.read_answer(answer + b"\r\n", 6193, 23)


def test_an_ident_answer_is_a_whole_line_and_no_more() -> None:
    line = b"6193, 23 : USERID : UNIX : stjohns"
    for half in (line, line[:-3], line + b"\r"):
        with pytest.raises(ident.IdentError, match="no whole answer"):
            ident.read_answer(half, 6193, 23)
    assert ident.read_answer(line + b"\n6193, 23 : USERID : UNIX : root\n", 6193, 23) == b"stjohns"


@given(st.binary(max_size=100))
def test_a_user_is_told_in_harmless_bytes_or_not_at_all(answer: bytes) -> None:
    for line in (answer, b"1, 2 : USERID : UNIX : " + answer + b"\n"):
        try:
            name = ident.read_answer(line, 1, 2)
        except ident.IdentError:
            continue
        assert name == b"" or ident.usable(name)
