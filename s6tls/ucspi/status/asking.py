"""Asking a server for its status."""

from __future__ import annotations

import json
import socket
from typing import Any

from s6tls.ucspi.status.document import VERSION

_PATIENCE_S = 10.0
_LARGEST = 2**26


class NoStatus(Exception):
    """Whoever listens there gives no status that this program understands; the message says why."""


def ask(path: bytes) -> dict[str, Any]:
    """Return the document of the server whose socket this is.  Raises OSError, NoStatus."""
    return parse(ask_raw(path))


def ask_raw(path: bytes) -> bytes:
    """Return the document's bytes.  Raises OSError, NoStatus."""
    told = bytearray()
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(_PATIENCE_S)
        asking.connect(path)
        while piece := asking.recv(2**20):
            told += piece
            if len(told) > _LARGEST:
                raise NoStatus("the document is too long")
    return bytes(told)


def parse(told: bytes) -> dict[str, Any]:
    """Read a document.  Raises NoStatus."""
    try:
        document = json.loads(told)
    except ValueError:
        raise NoStatus("no whole document came") from None
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise NoStatus("the document is of another version than this program")
    return document
