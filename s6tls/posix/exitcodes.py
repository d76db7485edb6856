"""The exit codes of all programs."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a program's exit code means.  Some share a number, as in the programs that this project follows."""

    DENIED = 1
    FINDINGS = 1
    """Of audits: there is something to report."""
    BAD_HEADER = 1
    """A PROXY header is malformed, or comes from a proxy that is not trusted."""
    UNSUPPORTED_HEADER = 2

    KEYPAIR_MISMATCH = 95
    """Of a pool of engines, told to its server only: a renewed key does not belong to its certificate."""
    BAD_TLS_CONFIGURATION = 96
    BAD_HANDSHAKE = 97
    BROKEN_SESSION = 98
    TIMEOUT = 99
    USAGE = 100
    """Wrong usage or configuration."""
    SYSTEM = 111
    """A system call failed, or a rule set is broken."""
    NOT_EXECUTABLE = 126
    NOT_FOUND = 127
    INTERRUPTED = 130
