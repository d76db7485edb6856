"""The IDENT protocol, RFC 1413: whose connection is this, by the client's own word.

A question is a pair of ports, ``6193, 23``.  The answer repeats them and continues with ``: USERID :
UNIX : name`` or ``: ERROR : NO-USER``.  A server on port 113 of a stranger's host is a stranger too.
"""

from __future__ import annotations

PORT = 113
LONGEST_ANSWER = 1000
TIMEOUT_S = 30.0
"""How long an answer may take; RFC 1413 asks for no less."""
_LONGEST_NAME = 512


class IdentError(Exception):
    """What came back is no answer to the question."""


def question(remote_port: int, local_port: int) -> bytes:
    """Return what to send to the client's host about a connection from its `remote_port` to our `local_port`."""
    return b"%d, %d\r\n" % (remote_port, local_port)


def read_answer(data: bytes, remote_port: int, local_port: int) -> bytes:
    """Return the user's name that an answer gives, or b"" when the client's host does not say.

    The answer is the first line of `data`.  A line without an end may be half a name.  Raises IdentError.
    """
    line, end, _ = data.partition(b"\n")
    if not end:
        raise IdentError("no whole answer")
    ports, colon, rest = line.rstrip(b"\r\n").partition(b":")
    words = [word.strip() for word in ports.split(b",")]
    if not colon or words != [b"%d" % remote_port, b"%d" % local_port]:
        raise IdentError("answer to another question")
    kind, _, rest = rest.partition(b":")
    if kind.strip().upper() == b"ERROR":
        return b""
    system, colon, name = rest.partition(b":")
    if kind.strip().upper() != b"USERID" or not colon or not system.strip():
        raise IdentError("malformed answer")
    name = name.strip()
    if not usable(name):
        raise IdentError("unusable name in answer")
    return name


def usable(name: bytes) -> bool:
    """Tell whether this can be a user's name: 1 to 512 bytes (RFC 1413), none of them a control character."""
    return 0 < len(name) <= _LONGEST_NAME and all(byte >= 32 and byte != 127 for byte in name)
