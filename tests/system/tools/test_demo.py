"""tools/demo as the README shows it: served, asked with curl, and ended with nothing left behind."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import PATIENCE, Log

ROOT = Path(__file__).parents[3]


class Demo:
    """A running demo; `state` is where its temporary files are."""

    def __init__(self, state: Path, port: int = 0) -> None:
        self.state = state
        self.process = subprocess.Popen(
            [str(ROOT / "tools" / "demo"), "--port", str(port)],
            env={**os.environ, "TMPDIR": str(state)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self._said = Log(self.process.stdout)

    def wait_for(self, pattern: str) -> re.Match[str]:
        return self._said.wait_for(pattern)[0]

    def curl(self, described: str) -> subprocess.CompletedProcess[str]:
        """Run the command that stands below the line of advice that begins with `described`."""
        words = self.wait_for(rf"^  {re.escape(described)}.*\n    (curl .*)$")[1].split()
        return subprocess.run([words[0], "-sS", *words[1:]], capture_output=True, text=True, timeout=PATIENCE)

    def members(self) -> set[int]:
        """Return the living processes of the demo's session."""
        found = set()
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                state, _, _, session = Path("/proc", name, "stat").read_text().rpartition(") ")[2].split()[:4]
                if int(session) == self.process.pid and state not in "ZX":
                    found.add(int(name))
        return found

    def close(self) -> None:
        for pid in self.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        self._said.close()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    running = Demo(tmp_path)
    try:
        running.wait_for(r"^Ctrl-C ends the server")
        yield running
    finally:
        running.close()


def test_the_rules_do_what_the_advice_says(demo: Demo) -> None:
    owner = demo.curl("127.0.0.1 is let in").stdout.splitlines()
    assert owner[:3] == ["hello, owner", "VISITOR=owner", "TCPREMOTEIP=127.0.0.1"]
    assert "SSL_PROTOCOL=TLSv1.3" in owner
    assert "KEYFILE=(unset)" in owner
    if os.geteuid() == 0:
        assert owner[-1].startswith("uid=33")
    guest = demo.curl("127.0.0.2 is let in").stdout.splitlines()
    assert guest[:3] == ["welcome, guest", "VISITOR=guest", "TCPREMOTEIP=127.0.0.2"]
    denied = demo.curl("127.0.0.3 is denied")
    assert (denied.returncode, denied.stdout) == (35, ""), denied.stderr
    demo.wait_for(r"^s6-tcpserver-access: info: deny pid \d+ ip 127\.0\.0\.3 rule ip4/127\.0\.0\.3_32$")
    assert demo.curl("127.0.0.4 has an exec").stdout == "closed for repairs\n"
    stranger = demo.curl("the rest of 127.0.0.0/8").stdout.splitlines()
    assert stranger[:3] == ["(no GREETING)", "VISITOR=stranger", "TCPREMOTEIP=127.0.0.5"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_of_it(demo: Demo, number: signal.Signals) -> None:
    port = int(demo.wait_for(r"https://127\.0\.0\.1:(\d+)/")[1])
    with socket.create_connection(("127.0.0.1", port), PATIENCE, ("127.0.0.4", 0)):
        demo.wait_for(r"^s6-tcpserver-access: info: allow pid \d+ ip 127\.0\.0\.4 rule ip4/127\.0\.0\.4_32$")
        members = [os.pidfd_open(pid) for pid in demo.members()]
        assert len(members) >= 4
        demo.process.send_signal(number)
        assert demo.process.wait(PATIENCE) == 0
        for member in members:
            assert select.select([member], [], [], PATIENCE)[0]
            os.close(member)
    assert not demo.members()
    assert not list(demo.state.iterdir())


def test_a_port_that_is_taken_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        running = Demo(tmp_path, port)
        try:
            running.wait_for(rf"^demo: port {port} is taken: name another one with --port, or have any with --port 0$")
            assert running.process.wait(PATIENCE) == 111
        finally:
            running.close()
    assert not list(tmp_path.iterdir())
