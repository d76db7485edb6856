"""Which key a context seals its session tickets with.

The library makes a key for each context, and neither takes nor shows one.  But each ticket begins with the name of its
key (16 bytes at random), and a client shows its ticket in clear.  So we ask a client of our own: it holds a session in
memory, and comes again with the ticket.
"""

from __future__ import annotations

import contextlib

from OpenSSL import SSL

from s6tls.tls import wire
from s6tls.tls.context.algorithms import restrict
from s6tls.tls.credentials import SessionOptions
from s6tls.tls.library import Connection

_NAME_LENGTH = 16
_PIECE = 65536


def key_name(context: SSL.Context, options: SessionOptions, server_name: bytes) -> bytes:
    """Return the name of the key that a context seals tickets with; it serves `server_name`.

    Raises LibraryError, SSL.Error or ValueError where no ticket is to be had.
    """
    client_context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client_context.set_min_proto_version(SSL.TLS1_3_VERSION)
    restrict(client_context, options)
    client, server = _client(client_context, server_name), Connection(context)
    server.ask_for_no_certificate()
    for _ in range(3):  # a greeting may have to be asked for again
        _go_on(client)
        server.take(_said(client))
        server.shake_hands()
        while answer := server.give():
            client.bio_write(answer)
    _go_on(client)
    session = client.get_session()
    again = _client(client_context, server_name)
    if session is not None:
        again.set_session(session)
    _go_on(again)
    ticket = wire.ticket(_said(again))
    if len(ticket) < _NAME_LENGTH:
        raise ValueError("no session ticket")
    return ticket[:_NAME_LENGTH]


def _client(context: SSL.Context, server_name: bytes) -> SSL.Connection:
    client = SSL.Connection(context, None)
    client.set_connect_state()
    if server_name:
        client.set_tlsext_host_name(server_name)
    return client


def _go_on(connection: SSL.Connection) -> None:
    with contextlib.suppress(SSL.WantReadError):
        connection.do_handshake()
        connection.recv(1)


def _said(connection: SSL.Connection) -> bytes:
    said = b""
    with contextlib.suppress(SSL.WantReadError):
        while True:
            said += connection.bio_read(_PIECE)
    return said
