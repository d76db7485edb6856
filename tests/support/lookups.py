"""Servers that look their clients up, clients with names and without, and the helper that asks."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from s6tls.accessrules import Rule
from tests.support.nameserver import Puppet
from tests.support.processes import status
from tests.support.rules import trees
from tests.support.servers import BIN, PATH, PATIENCE, Server, read_all, server

FIRST_ID = 0x70000000
"""Where the ids begin that helpers run under."""
SHOW = ("sh", "-c", 'echo "${TCPREMOTEHOST-none} ${TCPLOCALHOST-none} ${TCPREMOTEINFO-none}"')
SILENT = "127.66."
"""Nobody answers for clients whose addresses begin like this."""
ACCESS = "s6-tcpserver-access"


def silent(number: int) -> str:
    return f"{SILENT}{number // 250}.{number % 250 + 1}"


@contextlib.contextmanager
def serving(dns: str, *options: str, prog: Sequence[str] = SHOW) -> Iterator[Server]:
    """Serve `prog` behind s6-tcpserver-access with these options."""
    words = ["s6-tcpserver", "-v", "-c", "400", "-C", "400", "--", "127.0.0.1", "0", ACCESS, "-v2", *options, *prog]
    with server(words, {"DNSCACHEIP": dns}) as started:
        yield started


def visit(server: Server, source: str) -> str:
    """Come from an address and return what the program says: three names; nothing when refused."""
    with server.connect(source=source) as client:
        return read_all(client).decode().strip()


def stay(server: Server, puppet: Puppet, number: int) -> socket.socket:
    """Come as a client for whom nobody answers; return once the question is on its way."""
    client = server.connect(source=silent(number))
    puppet.await_question(silent(number))
    return client


def helpers(server: Server) -> list[int]:
    return strangers(server.pid)


def strangers(session: int) -> list[int]:
    """Return the processes of a session that live under an id which no account has."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and os.getsid(int(name)) == session and is_stranger(status(int(name))):
                found.append(int(name))
    return found


def is_stranger(now: dict[str, str]) -> bool:
    return int(now["Uid"].split()[0]) >= FIRST_ID and not now["State"].startswith("Z")


def helper(server: Server) -> int:
    (found,) = helpers(server)
    return found


def rules(place: Path, **given: Rule) -> str:
    """Write rules for names down, ``at`` for those without one of their own; return the directory."""
    tree = str(place / "rules")
    named = {
        f"reversedns/{'@' if name == 'at' else name.replace('_', '.')}".encode(): rule for name, rule in given.items()
    }
    trees.write_tree(os.fsencode(tree), named)
    return tree


def ucspi(client: str) -> dict[str, str]:
    return {
        "PROTO": "TCP",
        "TCPREMOTEIP": client,
        "TCPREMOTEPORT": "4000",
        "TCPLOCALIP": "127.0.0.1",
        "TCPLOCALPORT": "80",
    }


def command(
    dns: str, client: str, *words: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run s6-tcpserver-access as another server's child would."""
    return subprocess.run(
        [os.path.join(BIN, ACCESS), *words],
        env={"PATH": PATH, "DNSCACHEIP": dns, **ucspi(client), **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
