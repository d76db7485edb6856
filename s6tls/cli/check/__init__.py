"""``--check``: what a server does ahead of its first client, and what it reads for those whom rules concern."""

from __future__ import annotations

import os

from s6tls.accessrules.errors import RuleSetError
from s6tls.accessrules.text import decoded, printable, shown
from s6tls.audit.core.loaded import opened
from s6tls.audit.lint.findings import Severity
from s6tls.audit.lint.run import examine
from s6tls.cli.frame.service import LongLived
from s6tls.tls.context.oddities import SOON_DAYS
from s6tls.ucspi.log import Log


def check(server: LongLived, env: dict[bytes, bytes]) -> int:
    """Check a server that has this environment; tell on standard output what has been read.

    Returns 0, or raises what the start would: StageExit.  What is wrong with single rules is a warning, for only their
    clients are kept out.
    """
    found = server.check(env)
    for path in found.rules:
        _check_rules(path, found.log)
    _tell(f"the server runs as user {os.geteuid()} and group {os.getegid()}")
    _tell(f"program {shown(found.program)}")
    _tell(f"at most {found.bounds.total} clients, and {found.bounds.per_client} connections of each")
    return 0


def _check_rules(path: bytes, log: Log) -> None:
    """Say what is wrong with rules, and with the files and programs that they name."""
    try:
        with opened(path) as backend:
            loaded, findings = examine(path, backend, least=Severity.ERROR, days=SOON_DAYS)
    except (OSError, RuleSetError) as error:
        log.warning(f"unable to read all rules in {shown(path)}: {error}")
        return
    for finding in findings:
        rule = "" if finding.rule is None else f", rule {decoded(finding.rule)}"
        log.warning(f"{shown(path)}{rule}: {finding.message}: {finding.remedy}")
    _tell(f"rules in {shown(path)}: {len(loaded.rules):,}" + ("" if loaded.rules else ", so that nobody is let in"))


def _tell(line: str) -> None:
    os.write(1, f"{printable(line)}\n".encode())
