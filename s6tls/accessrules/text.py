"""Bytes and texts as people may see them: on one line, and with nothing in them that moves a cursor."""

from __future__ import annotations


def shown(raw: bytes) -> str:
    """Return bytes fit for a message: what is not printable ASCII stands as an escape."""
    return "".join(chr(c) if 32 <= c < 127 else f"\\x{c:02x}" for c in raw)


def decoded(raw: bytes) -> str:
    """Return bytes as text, as JSON has them: what is not UTF-8 stands as an escape."""
    return raw.decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """Return a text on one line: control characters, and those that turn its direction, stand as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def printable_ascii(text: str) -> str:
    """Return a text fit for a log: what is not printable ASCII stands as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if " " <= c <= "~" else _escape(c) for c in text)


def _escape(char: str) -> str:
    return ascii(char)[1:-1]
