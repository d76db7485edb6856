"""One HTTP request on a connection, and the answer: all of a web server that an exporter needs."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import time
from collections.abc import Callable
from http import HTTPStatus

_LONGEST_HEAD = 8192
_PATIENCE_S = 10.0
_END = b"\r\n\r\n"
_PLAIN = "text/plain; charset=utf-8"

Body = tuple[HTTPStatus, str, bytes]
"""Status, media type and bytes of an answer."""


def answer(reading: int, writing: int, path: str, body: Callable[[], Body]) -> None:
    """Read a request and answer it: GET and HEAD of `path` by `body`.  A client that says nothing gets nothing.

    All of it takes ten seconds at most.  Raises OSError, TimeoutError.
    """
    deadline = time.monotonic() + _PATIENCE_S
    head = _head(reading, deadline)
    if head is None:
        return
    method, target, version = _request_line(head)
    if not version.startswith("HTTP/1."):
        found: Body = _plain(HTTPStatus.BAD_REQUEST)
    elif len(head) > _LONGEST_HEAD:
        found = _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    elif target.partition("?")[0] != path:
        found = _plain(HTTPStatus.NOT_FOUND)
    elif method not in ("GET", "HEAD"):
        found = _plain(HTTPStatus.METHOD_NOT_ALLOWED)
    else:
        found = body()
    _write(writing, _message(*found, without_body=method == "HEAD"), deadline)
    _end(reading, writing, deadline)


def _head(fd: int, deadline: float) -> bytes | None:
    """Return what comes up to the first empty line, or more than there is room for; None when nothing comes."""
    head = b""
    while _END not in head and len(head) <= _LONGEST_HEAD:
        _await(fd, select.POLLIN, deadline)
        piece = os.read(fd, _LONGEST_HEAD)
        if not piece:
            return head or None
        head += piece
    return head


def _request_line(head: bytes) -> tuple[str, str, str]:
    words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
    method, target, version = words if len(words) == 3 else ("", "", "")
    return method, target, version


def _plain(status: HTTPStatus) -> Body:
    return status, _PLAIN, f"{status.value} {status.phrase}\n".encode()


def _message(status: HTTPStatus, media_type: str, body: bytes, without_body: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {media_type}",
        f"Content-Length: {len(body)}",
        *(["Allow: GET, HEAD"] if status is HTTPStatus.METHOD_NOT_ALLOWED else []),
        "Connection: close",
    ]
    return "\r\n".join(lines).encode() + _END + (b"" if without_body else body)


def _write(fd: int, data: bytes, deadline: float) -> None:
    rest = memoryview(data)
    while rest:
        _await(fd, select.POLLOUT, deadline)
        rest = rest[os.write(fd, rest[: select.PIPE_BUF]) :]


def _end(reading: int, writing: int, deadline: float) -> None:
    """Say that this is all, and let the client have it: a socket closed with something unread in it resets."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.fstat(writing).st_mode):
            with socket.socket(fileno=os.dup(writing)) as connection:
                connection.shutdown(socket.SHUT_WR)
        else:
            os.close(writing)
        left = _LONGEST_HEAD * 8
        while left > 0:
            _await(reading, select.POLLIN, deadline)
            piece = os.read(reading, _LONGEST_HEAD)
            left = left - len(piece) if piece else 0


def _await(fd: int, events: int, deadline: float) -> None:
    """Wait until a descriptor can be used.  Raises TimeoutError."""
    poll = select.poll()
    poll.register(fd, events)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError("the client takes too long")
