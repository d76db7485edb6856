"""HAProxy's pattern files of addresses: those of ``acl NAME src -f FILE`` (Configuration Manual, 7.1.2 and 7.1.4).

One address or network a line; a line that starts with ``#`` is a comment.
"""

from __future__ import annotations

from s6tls.audit.formats import cidrlist
from s6tls.audit.formats.entries import BadText, Fault, Parsed, Refusal, each_line

write = cidrlist.write


def parse(data: bytes, *, allow: bool = True) -> Parsed:
    """Read a file whose networks are all allowed, or all denied.  Raises BadText."""
    faults: list[Fault] = []

    def check(_: int, line: str) -> None:
        if "#" in line.lstrip(" \t")[1:] and not line.lstrip(" \t").startswith("#"):
            raise Refusal("a comment behind a network is no comment for HAProxy: put it on a line of its own")

    each_line(data, check, faults)
    if faults:
        raise BadText(faults)
    return cidrlist.parse(data, allow=allow, comments="#")
