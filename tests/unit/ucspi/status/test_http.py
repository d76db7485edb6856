"""The little of HTTP that an exporter needs, on a socket and on pipes."""

from __future__ import annotations

import os
import socket
from http import HTTPStatus

import pytest

from s6tls.ucspi.status import http
from tests.support.servers import read_all

BODY = b"metrics\n"


def ask(request: bytes, then: bytes = b"") -> tuple[str, bytes]:
    """Send a request, and more behind it; return the status line and the body."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(request + then)
        ours.shutdown(socket.SHUT_WR)
        http.answer(theirs.fileno(), theirs.fileno(), "/metrics", lambda: (HTTPStatus.OK, "text/plain", BODY))
        theirs.close()
        head, _, body = read_all(ours).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert not lines[0] or "Connection: close" in lines
    return lines[0], body


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /metrics HTTP/1.1", 200),
        ("GET /metrics?name=x HTTP/1.0", 200),
        ("HEAD /metrics HTTP/1.1", 200),
        ("POST /metrics HTTP/1.1", 405),
        ("GET / HTTP/1.1", 404),
        ("DELETE /metrics/x HTTP/1.1", 404),
        ("GET /metrics", 400),
        ("GET /metrics HTTP/2.0", 400),
        ("GET  /metrics HTTP/1.1", 400),
        ("\x16\x03\x01", 400),
    ],
)
def test_requests(request_line: str, status: int) -> None:
    line, body = ask(f"{request_line}\r\nHost: localhost\r\n\r\n".encode("latin-1"), b"x" * 10000)
    assert line.startswith(f"HTTP/1.1 {status} ")
    expected = BODY if status == 200 else f"{status} {HTTPStatus(status).phrase}\n".encode()
    assert body == (b"" if request_line.startswith("HEAD") else expected)


def test_who_says_nothing_gets_nothing_and_who_says_too_much_is_cut_short() -> None:
    assert ask(b"") == ("", b"")
    assert ask(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 20000)[0].startswith("HTTP/1.1 431 ")
    assert ask(b"GET /metr")[0].startswith("HTTP/1.1 400 ")


def test_a_large_answer_comes_whole_through_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"x" * 50000
    (reading, asking), (answered, writing) = os.pipe(), os.pipe()
    os.write(asking, b"GET /metrics HTTP/1.0\r\n\r\n")
    os.close(asking)
    http.answer(reading, writing, "/metrics", lambda: (HTTPStatus.OK, "text/plain", body))
    with open(answered, "rb") as pipe:
        assert pipe.read().endswith(b"\r\n\r\n" + body)
    os.close(reading)


def test_a_client_that_takes_too_long_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_PATIENCE_S", 0.05)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimeoutError):
        ours.sendall(b"GET /metrics HTTP/1.0\r\n")
        http.answer(theirs.fileno(), theirs.fileno(), "/metrics", lambda: (HTTPStatus.OK, "", BODY))
