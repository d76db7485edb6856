"""s6-tcpserver-access by itself looks its client up as a server does."""

from __future__ import annotations

import os
import re
import socket
import subprocess

from tests.support.lookups import ACCESS, SHOW, command, silent, strangers, ucspi
from tests.support.nameserver import Puppet
from tests.support.processes import await_that, descriptors
from tests.support.servers import BIN, PATH


def test_the_command(real: str, puppet: Puppet) -> None:
    done = command(real, "127.9.0.1", *SHOW)
    assert (done.returncode, done.stdout) == (0, "one.test here.test none\n")
    assert re.fullmatch(r"s6-tcpserver-access: info: allow pid \d+ ip 127\.9\.0\.1 rule none\n", done.stderr)
    done = command(puppet.address, silent(1), "-t", "100", *SHOW)
    assert (done.returncode, done.stdout) == (99, "")
    assert done.stderr == f"s6-tcpserver-access: fatal: unable to look up {silent(1)}: took too long\n"
    done = command("localhost", "127.9.0.1", *SHOW)
    assert (done.returncode, done.stderr) == (100, "s6-tcpserver-access: fatal: invalid $DNSCACHEIP\n")


def test_the_command_under_another_name_and_by_ipv6(real: str) -> None:
    addresses = {"SSLREMOTEIP": "::1", "SSLREMOTEPORT": "1", "SSLLOCALIP": "127.0.0.1", "SSLLOCALPORT": "2"}
    done = command(real, "x", "-w", "printenv", "SSLLOCALHOST", env={"PROTO": "SSL", **addresses})
    assert (done.returncode, done.stdout) == (111, "")
    nine = {**addresses, "SSLREMOTEIP": "127.9.0.1"}
    done = command(real, "x", "-w", "printenv", "SSLREMOTEHOST", "SSLLOCALHOST", env={"PROTO": "SSL", **nine})
    assert (done.returncode, done.stdout) == (0, "one.test\nhere.test\n")


def test_the_commands_helper_does_not_hold_the_client(puppet: Puppet) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        env = {"PATH": PATH, "DNSCACHEIP": puppet.address, **ucspi(silent(1))}
        words = [os.path.join(BIN, ACCESS), "true"]
        fd = theirs.fileno()
        with subprocess.Popen(words, env=env, stdin=fd, stdout=fd, start_new_session=True) as running:
            puppet.await_question(silent(1))
            (pid,) = strangers(running.pid)
            client = os.readlink(f"/proc/self/fd/{fd}")
            assert client in descriptors(running.pid).values()
            assert client not in descriptors(pid).values()
            running.kill()
            await_that(lambda: strangers(running.pid) == [])
