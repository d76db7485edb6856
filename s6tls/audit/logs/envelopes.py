"""What collectors put in front of a line: stamps, syslog's headers, the names of containers.

Each is a regular expression over bytes that matches within one line.  Groups have no possessive quantifiers, here and
in the formats, but are atomic: those of Python 3.11.2 (Debian 12) forget where they were when they match nothing.
"""

from __future__ import annotations

import re

_TIME = rb"\d\d:\d\d:\d\d"
_OFFSET = rb"[+-]\d\d:?\d\d"
_ZONE = rb"(?:Z|" + _OFFSET + rb")?"
_ISO = rb"\d{4}-\d\d-\d\dT" + _TIME + rb"(?:[.,]\d{1,9})?" + _ZONE
_LOCAL = rb"\d{4}-\d\d-\d\d[ T]" + _TIME + rb"(?:[.,]\d{1,9})?"
_STAMP = _LOCAL + _ZONE
# The sender of a line and its program, such as "host sshd[12]: "; without a host, "sshd[12]: ".
_SENDER = rb" (?:(?:\S*[^\s:] )?[^\s:\[\]]+\[[^\]\s]*\]: |\S*[^\s:] [^\s:\[\]]+: )"

ENVELOPES: dict[str, bytes] = {
    "TAI64N": rb"@[0-9a-f]{24}[ \t]",
    "syslog, RFC 5424": rb"<\d{1,3}>1 (?:\S+ ){5}(?:-|(?:\[(?:[^\]\\\n]|\\.)*\])+) ?(?:\xef\xbb\xbf)?",
    "the length of a line of RFC 5424 (RFC 6587)": rb"\d{1,7} (?=<\d{1,3}>1 )",
    "the priority of RFC 3164": rb"<\d{1,3}>",
    "syslog, RFC 3164; journald's short": rb"[A-Z][a-z]{2} [ \d]\d (?:\d{4} )?%s(?:\.\d{1,9})?" % _TIME + _SENDER,
    "CRI": _ISO + rb" std(?:out|err) [FP](?::\S*)? ",
    "rsyslog's file format; journald's short-iso": _ISO + _SENDER,
    "journald's short-full": rb"[A-Z][a-z]{2} \d{4}-\d\d-\d\d %s(?:\.\d{1,9})? [A-Z+-][A-Za-z0-9:]*" % _TIME + _SENDER,
    "journald's short-unix": rb"\d{9,11}\.\d{6}" + _SENDER,
    "journald's short-monotonic, short-delta": rb"\[ *\d+\.\d{6}(?: <[^>\n]*>)?\]" + _SENDER,
    "journald's export, verbose": rb"MESSAGE=",
    "kubectl --prefix": rb"\[pod/[^\]\s]++\] ",
    "date and time": _STAMP + rb"[ \t]",
    "date and time, and a comma": _STAMP + rb",(?! )",
}
_COMPOSE = rb"\w[\w.@-]*+ ++\| "

# Lines begin with an IPv4 address more often than not: these have no envelope.
_NONE = rb"(?=\d{1,3}\.)"

ENVELOPE = rb"(?:%s|(?>[ \t]*+(?:%s)?(?:(?=[@<\[\dA-Z])(?:%s)[ \t]*+)*))" % (
    _NONE,
    _COMPOSE,
    rb"|".join(ENVELOPES.values()),
)
"""All that may stand in front of a line, nested.  It takes what there is, and never gives it back."""

_START = re.compile(ENVELOPE)
_SYSLOG_OR_TABLE = re.compile(rb"[ \t]*%s(?:%s[ \t]|Z?\t)" % (_LOCAL, _OFFSET))


def may_begin_otherwise(line: bytes) -> bool:
    """Tell whether a stamp may be syslog's, with a sender behind it, or a table's, with any column behind it."""
    return _SYSLOG_OR_TABLE.match(line) is not None


def opened(line: bytes) -> bytes:
    """Return a line without what stands in front of it."""
    found = _START.match(line)
    return line[found.end() :] if found else line
