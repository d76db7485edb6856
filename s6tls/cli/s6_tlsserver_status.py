"""s6-tlsserver-status: how a server is that was started with --status."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NoReturn

from s6tls.accessrules.text import shown
from s6tls.cli.frame.options import Option, Synopsis
from s6tls.cli.frame.program import Failure, run
from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi.status import http, text
from s6tls.ucspi.status.asking import NoStatus, ask, ask_raw, parse

_EVERY_S = 2.0
_CLEAR = "\x1b[H\x1b[2J"
SYNOPSIS = Synopsis(
    "s6-tlsserver-status",
    (
        Option("", ("watch",), None, "print it anew every two seconds, on a terminal in the same place"),
        Option("", ("json",), None, "print the document as the server gives it", alternative=True),
        Option(
            "",
            ("prometheus",),
            None,
            "print metrics in Prometheus' text format (needs the extra `metrics`)",
            alternative=True,
        ),
        Option(
            "",
            ("http",),
            None,
            "answer one HTTP request, on 0 and 1, for these metrics at `/metrics` (needs the extra `metrics`)",
            alternative=True,
        ),
    ),
    "path",
)


def body(argv: list[bytes]) -> int:
    """Print the status of the server whose socket is named."""
    given = SYNOPSIS.read_mixed(argv)
    (path,) = given.words
    if given.flag("http"):
        return _serve(path)
    if given.flag("watch"):
        _watch(path)
    elif given.flag("json"):
        told = _asked(path, ask_raw)
        _asked(path, lambda _: parse(told))
        _print(told)
    elif given.flag("prometheus"):
        _print(_metrics(path))
    else:
        _print(_text(_asked(path, ask)))
    return 0


def _serve(path: bytes) -> int:
    """Answer a request for metrics; a client that takes too long, or leaves, is no failure of ours."""
    try:
        http.answer(0, 1, "/metrics", lambda: _metrics_page(path))
    except TimeoutError:
        return ExitCode.TIMEOUT
    except ConnectionError:
        return ExitCode.DENIED
    return 0


def _asked(path: bytes, how: Callable[[bytes], Any]) -> Any:
    """Ask a server.  Raises Failure."""
    try:
        return how(path)
    except (OSError, NoStatus) as error:
        why = error.strerror or error if isinstance(error, OSError) else error
        raise Failure(ExitCode.SYSTEM, f"unable to get the status at {shown(path)}: {why}") from error


def _metrics(path: bytes) -> bytes:
    from s6tls.ucspi.status.metrics import exposition

    return exposition(_asked(path, ask))


def _metrics_page(path: bytes) -> http.Body:
    from s6tls.ucspi.status.metrics import CONTENT_TYPE

    try:
        return HTTPStatus.OK, CONTENT_TYPE, _metrics(path)
    except Failure as failure:
        return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", f"{failure}\n".encode()


def _text(document: dict[str, Any]) -> bytes:
    return "".join(f"{line}\n" for line in text.lines(document)).encode()


def _watch(path: bytes) -> NoReturn:
    """Print the status again and again, until somebody interrupts it or the server is gone."""
    clear = _CLEAR.encode() if os.isatty(1) else b""
    while True:
        _print(clear + _text(_asked(path, ask)))
        time.sleep(_EVERY_S)


def _print(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest) :]


def main() -> NoReturn:
    """Run the command."""
    run(SYNOPSIS, body)
