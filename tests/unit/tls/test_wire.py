"""The server name in a ClientHello: OpenSSL's own, cut into records in any way, and what is none."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from s6tls.tls.wire import server_name, ticket
from tests.support.tls.memory import VERSIONS, Client, client_context


def hello(version: int, name: bytes | None) -> bytes:
    client = Client(client_context(version), name)
    with contextlib.suppress(SSL.WantReadError):
        client.hear()
    return client.said()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [b"a.example", b"x" * 60 + b".example", None])
def test_it_is_what_openssl_asks_for(version: int, name: bytes | None) -> None:
    said = hello(version, name)
    assert server_name(said) == (name or b"")
    assert server_name(said + b"more") == (name or b"")


@given(st.integers(1, 300))
def test_the_message_may_be_cut_into_records(size: int) -> None:
    message = hello(SSL.TLS1_2_VERSION, b"a.example")[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    assert server_name(b"".join(b"\x16\3\1" + len(piece).to_bytes(2) + piece for piece in pieces)) == b"a.example"


def test_a_part_of_one_is_none() -> None:
    said = hello(SSL.TLS1_2_VERSION, b"a.example")
    for size in range(len(said)):
        with pytest.raises(ValueError):
            server_name(said[:size])


@given(st.binary(max_size=200), st.integers(0, 200))
def test_anything_else_is_a_name_or_an_error(junk: bytes, where: int) -> None:
    said = hello(SSL.TLS1_3_VERSION, b"a.example")
    for read in (server_name, ticket):
        with contextlib.suppress(ValueError):
            assert isinstance(read(said[:where] + junk + said[where + len(junk) :]), bytes)


def test_without_a_session_there_is_no_ticket() -> None:
    assert ticket(hello(SSL.TLS1_3_VERSION, b"a.example")) == b""
