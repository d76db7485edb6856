"""Python's ssl: sockets with unwrap, shutdown and close, and an SSLObject that ends one direction only."""

from __future__ import annotations

import contextlib
import socket
import ssl

from tests.support import peers
from tests.support.closers.sessions import WITH_HALF, Session, Way, connect, one_by_one

WAYS = (
    Way("unwrap", polite=True),
    Way("SHUT_WR", polite=False, acts=WITH_HALF),
    Way("close", polite=False),
    Way("reset", polite=False),
    Way("SSLObject", polite=True, acts=WITH_HALF),
)


def _context(version: str) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.minimum_version = made.maximum_version = {"1.2": peers.TLS12, "1.3": peers.TLS13}[version]
    return made


def _hold(port: int, way: Way, session: Session) -> int:
    with connect(port) as tcp:
        if way.name == "SSLObject":
            return _with_object(tcp, session)
        with _context(session.version).wrap_socket(tcp) as client:
            return _with_socket(client, way, session)


def _with_socket(client: ssl.SSLSocket, way: Way, session: Session) -> int:
    got = 0
    client.sendall(session.request)
    while session.act == "answer" and got < session.size:
        got += len(client.recv(session.size - got))
    client.sendall(session.line.encode() + b"\n")
    if session.act == "half":
        peers.send_eof(client)
    if session.act in ("half", "end"):
        got = len(peers.read_all(client))
    if way.name == "unwrap":
        with contextlib.suppress(OSError):  # with -s no close_notify answers
            client.unwrap()
    elif way.name == "SHUT_WR":
        with contextlib.suppress(OSError):  # the server has ended, too
            client.shutdown(socket.SHUT_WR)
    elif way.name == "reset":
        peers.reset(client)
    return got


def _with_object(tcp: socket.socket, session: Session) -> int:
    client = peers.Polite(tcp, _context(session.version))
    got = 0
    client.send(session.request)
    if session.act == "answer":
        got = len(client.read(session.size))
    client.send(session.line.encode() + b"\n")
    if session.act == "half":
        client.end(politely=True)
    if session.act in ("half", "end"):
        got = len(client.read_all())
    if session.act != "half":
        with contextlib.suppress(OSError):
            client.end(politely=True)
    return got


run = one_by_one(_hold)
