"""The project's commands, and how the tests run them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from s6tls.cli import (
    s6_accessrules,
    s6_accessrules_cdb_from_fs,
    s6_accessrules_fs_from_cdb,
    s6_applyuidgid,
    s6_connlimit,
    s6_envdir,
    s6_envuidgid,
    s6_ipcserver_access,
    s6_tcpserver,
    s6_tcpserver4,
    s6_tcpserver4d,
    s6_tcpserver6,
    s6_tcpserver6d,
    s6_tcpserver_access,
    s6_tcpserver_socketbinder,
    s6_tcpserverd,
    s6_tlsd,
    s6_tlsd_io,
    s6_tlsserver,
    s6_tlsserver_status,
)
from s6tls.cli.frame.options import Synopsis
from tests.support.servers import BIN, PATH, PATIENCE

LINKS: list[ModuleType] = [s6_applyuidgid, s6_connlimit, s6_tcpserver_access, s6_tlsd]
LINKS += [s6_envdir, s6_envuidgid, s6_ipcserver_access]
SERVERS: list[ModuleType] = [s6_tcpserver, s6_tcpserverd, s6_tlsserver]
SERVERS += [s6_tcpserver4, s6_tcpserver4d, s6_tcpserver6, s6_tcpserver6d]
OTHERS: list[ModuleType] = [s6_tcpserver_socketbinder, s6_tlsd_io, s6_tlsserver_status]
COMPILERS: list[ModuleType] = [s6_accessrules_cdb_from_fs, s6_accessrules_fs_from_cdb]
COMMANDS = [*LINKS, *SERVERS, *OTHERS, *COMPILERS, s6_accessrules]
UCSPI = {
    "PROTO": "TCP",
    "TCPLOCALIP": "127.0.0.1",
    "TCPLOCALPORT": "443",
    "TCPREMOTEIP": "192.0.2.7",
    "TCPREMOTEPORT": "50000",
}


def synopsis(command: ModuleType) -> Synopsis:
    found = command.SYNOPSIS
    assert isinstance(found, Synopsis)
    return found


def run(
    words: Sequence[str | bytes], env: Mapping[str, str] | None = None, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command with PATH and `env` for an environment and `given` on stdin."""
    program, *rest = words
    return subprocess.run(
        [os.path.join(BIN, os.fsdecode(program)), *rest],
        env={"PATH": PATH, **(env or {})},
        input=given,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=PATIENCE,
    )


def said(words: Sequence[str | bytes], env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a command that says nothing on stdout; return its exit code and what it says on stderr."""
    done = run(words, env)
    assert done.stdout == ""
    return done.returncode, done.stderr


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return what a subcommand of s6-accessrules has said with --json, without the version of its form."""
    found: dict[str, Any] = json.loads(done.stdout)
    assert found.pop("version") == 1
    return found
