"""What code can do that gets into an engine, a worker, their pool or the lookup helper: next to nothing.

gdb puts it there (`tests.support.jail.attacks`).  All of it is tried under a server of root's and under one of
nobody's, and with both ways of isolation.
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import kin, peers, processes
from tests.support.jail import attacks
from tests.support.jail.attacks import inside, outcomes
from tests.support.servers import Server
from tests.support.site import Site

USER = 64011
"""Who runs a server that is not root's."""
AS_USER = (
    *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)
"""With a right of root's that is not to reach further, and lets the interpreter be read wherever it is."""
SAID = r"system call \d+ \(\w+\) refused: the jail has no room for it$"


@dataclass(frozen=True)
class Victim:
    """A server with a client: its program is cat, its chain asks IDENT."""

    server: Server
    client: ssl.SSLSocket
    user: int

    @property
    def engine(self) -> int:
        return processes.engine(self.server, self.client)

    @property
    def pool(self) -> int:
        return int(processes.status(self.engine)["PPid"])

    @property
    def neighbour(self) -> int:
        """Another child of the pool."""
        return next(pid for pid in kin.family(self.pool) if pid not in (self.pool, self.engine))

    @property
    def helper(self) -> int:
        return self._child(lambda pid: pid not in (self.pool, self.program))

    @property
    def program(self) -> int:
        return self._child(lambda pid: processes.status(pid)["Name"] == "cat")

    def _child(self, is_it: Callable[[int], bool]) -> int:
        (found,) = filter(is_it, self.server.children())
        return found

    def echoes(self) -> bool:
        self.client.sendall(b"!")
        return self.client.recv(1) == b"!"


@pytest.fixture(params=[0, USER], ids=["root", "nobody"])
def victim(request: pytest.FixtureRequest, isolation: str) -> Iterator[Victim]:
    user: int = request.param
    with tempfile.TemporaryDirectory() as place:
        site = Site(Path(place), isolation)
        for path in (Path(place), *Path(place).rglob("*")):
            os.chown(path, user, user)
        with contextlib.ExitStack() as running:
            server = running.enter_context(site.serve("cat", options=("-r",), under=AS_USER if user else ()))
            client = running.enter_context(peers.dial(server, peers.context(site.authority.file)))
            found = Victim(server, client, user)
            assert found.echoes()
            yield found


@pytest.fixture(params=["connection", "worker"])
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_process_with_sessions_can_do_nothing_else(victim: Victim) -> None:
    engine = victim.engine
    tried = attacks.attempts(victim.server.pid, victim.neighbour)
    assert len(tried) >= 14
    assert outcomes(engine, tried) == dict.fromkeys(tried, "EPERM")
    assert victim.echoes()
    victim.server.wait_log(f"^s6-tlsd-io: warning: a TLS engine says: {SAID}")


def test_a_pool_can_fork_and_nothing_else(victim: Victim) -> None:
    tried = attacks.attempts(victim.server.pid, victim.engine)
    expected = {**dict.fromkeys(tried, "EPERM"), "fork": "done", "fork otherwise": "ENOSYS"}
    assert outcomes(victim.pool, tried) == expected
    victim.server.wait_log(f"^s6-tlsd-io: warning: {SAID}")
    assert victim.echoes()


def test_the_helper_can_ask_questions_and_nothing_else(victim: Victim) -> None:
    """It reads resolv.conf and hosts, and speaks IP; where to is seen when it connects."""
    helper = victim.helper
    tried = attacks.attempts(victim.server.pid, victim.engine)
    elsewhere = ("read a file", "read the server's memory", "read the server's environment")
    expected = {
        **dict.fromkeys(tried, "EPERM"),
        **dict.fromkeys(elsewhere, "EACCES"),
        "fork otherwise": "ENOSYS",
        "open a TCP socket": "done",
        **dict.fromkeys(("connect", "bind"), "ENOTSOCK"),
    }
    assert inside(helper, "verdict = str('localhost' in open('/etc/hosts').read())") == "True"
    assert outcomes(helper, tried) == expected
    assert inside(helper, CONNECT) == "EACCES EACCES ECONNREFUSED"
    victim.server.wait_log(r"^s6tls: warning: the lookup helper says: system call \d+ \(openat\) refused")


CONNECT = """
import errno, socket
said = []
def attempt(do):
    try:
        do()
    except OSError as error:
        said.append(errno.errorcode[error.errno])
with socket.socket() as end:
    attempt(lambda: end.bind(("127.0.0.1", 8080)))
    attempt(lambda: end.connect(("127.0.0.1", 80)))
with socket.socket() as end:
    attempt(lambda: end.connect(("127.11.0.99", 113)))
verdict = " ".join(said)
"""
FLOOD = """
import os
for number in range(2000):
    try:
        os.write(2, b"s6-tcpserver-access: info: allow pid 1 ip 192.0.2.1\\n")
    except BlockingIOError:
        pass
verdict = "done"
"""


def test_who_is_taken_over_has_one_line_of_the_log_and_it_is_marked(victim: Victim) -> None:
    inside(victim.engine, FLOOD)
    said = "^s6-tlsd-io: warning: a TLS engine says: allow pid 1 ip 192.0.2.1$"
    victim.server.wait_log(said)
    peers.send_eof(victim.client)
    victim.server.wait_log(r"^s6-tcpserverd: info: end pid")
    assert len(re.findall("192.0.2.1", victim.server.log())) == 1


def test_what_the_kernel_says_of_them(victim: Victim, isolation: str) -> None:
    of_connection = isolation == "connection"
    for pid, forks, files in ((victim.engine, False, 16), (victim.pool, True, 32), (victim.helper, True, 0)):
        status = processes.status(pid)
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        sets = ["CapEff", "CapPrm", "CapInh", "CapAmb", *(["CapBnd"] if not victim.user else [])]
        assert [int(status[name], 16) for name in sets] == [0] * len(sets)
        limits = processes.limits(pid)
        assert limits["Max core file size"] == limits["Max file size"] == "0"
        assert (limits["Max processes"] == "0") is not forks
        assert not (of_connection and files) or limits["Max open files"] == str(files)
        assert is_hidden(pid)


@pytest.mark.parametrize("victim", [USER], indirect=True)
def test_a_server_is_hidden_from_others_of_its_user_and_its_program_is_not(victim: Victim) -> None:
    assert is_hidden(victim.server.pid)
    assert not is_hidden(victim.program)


def is_hidden(pid: int) -> bool:
    """Tell whether a process's memory is root's business alone, to whom the kernel then gives its files in /proc."""
    user = int(processes.status(pid)["Uid"].split()[0])
    assert user != 0
    return os.stat(f"/proc/{pid}/environ").st_uid != user
