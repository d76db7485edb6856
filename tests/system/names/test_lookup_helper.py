"""The helper asks name servers that never answer; nobody waits for another's, and nothing of it stays behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import ssl
import threading
from pathlib import Path

import pytest

from tests.support import peers
from tests.support.lookups import FIRST_ID, SILENT, helper, helpers, serving, silent, stay, visit
from tests.support.nameserver import Asked, Puppet
from tests.support.processes import await_that, descriptors, kilobytes, maps, of_session, status
from tests.support.rules import trees
from tests.support.servers import PATIENCE, Server, read_all, server
from tests.support.site import DENY, Site

# Nobody waits for another


def test_fifty_clients_that_nobody_answers_for_delay_no_other(puppet: Puppet) -> None:
    with contextlib.ExitStack() as stuck, serving(puppet.address) as server:
        for number in range(50):
            stuck.enter_context(stay(server, puppet, number))
        for number in range(1, 51):
            assert visit(server, f"127.9.0.{number}") == f"n{number}.test n1.test none"
        assert not re.search(rf"ip {re.escape(SILENT)}", server.log())


def test_served_clients_and_handshakes_go_on_while_others_are_stuck(site: Site, puppet: Puppet) -> None:
    """Also while a helper is fed with many more questions than it takes at once."""
    by = peers.context(site.authority.file)
    with serving_tls(site, puppet.address) as serving, contextlib.ExitStack() as stuck:
        old = stuck.enter_context(dial(serving, by, "127.9.0.1"))
        helper_pid = helper(serving)
        for number in range(25):
            stuck.enter_context(stay(serving, puppet, number))
        shaking = stuck.enter_context(serving.connect(source="127.9.0.2"))
        puppet.await_question("127.9.0.2")
        os.kill(helper_pid, signal.SIGSTOP)
        for number in range(25, 50):
            stuck.enter_context(serving.connect(source=silent(number)))
        old.sendall(b"still here")
        assert old.recv(100) == b"still here"
        os.kill(helper_pid, signal.SIGCONT)
        with by.wrap_socket(shaking, server_hostname="localhost") as client:
            client.sendall(b"me too")
            assert client.recv(100) == b"me too"
        with dial(serving, by, "127.9.0.3") as client:
            client.sendall(b"and me")
            assert client.recv(100) == b"and me"


def serving_tls(site: Site, dns: str) -> contextlib.AbstractContextManager[Server]:
    """Serve cat behind TLS and look clients up, without rules."""
    limits = "-c", "400", "-C", "400"
    words = ["s6-tlsserver", "-v", *limits, "--isolation", site.isolation, "--", "127.0.0.1", "0", "cat"]
    return server(words, {**site.env, "DNSCACHEIP": dns})


def dial(server: Server, by: ssl.SSLContext, source: str) -> ssl.SSLSocket:
    return by.wrap_socket(server.connect(source=source), server_hostname="localhost")


# The helper


def test_the_helper_has_ids_of_its_own_and_holds_nothing(puppet: Puppet) -> None:
    with serving(puppet.address) as server, stay(server, puppet, 1):
        pid = helper(server)
        now = status(pid)
        assert now["Uid"].split() == [str(FIRST_ID + pid)] * 4
        assert now["Gid"].split() == [str(FIRST_ID + pid)] * 4
        assert now["Groups"] == ""
        assert int(now["CapEff"], 16) == int(now["CapPrm"], 16) == 0
        theirs = descriptors(pid)
        assert (theirs[0], theirs[1]) == ("/dev/null", "/dev/null")
        assert not set(tcp(server)) & set(theirs.values())


def test_the_helper_is_a_program_of_its_own(puppet: Puppet) -> None:
    """It shares no addresses with the server, which does not load what it reads answers with."""
    with serving(puppet.address) as server, stay(server, puppet, 1):
        theirs, ours = maps(helper(server)), maps(server.pid)
        assert "_cares" in theirs and "_cares" not in ours
        assert not set(mapped("libc.so", theirs)) & set(mapped("libc.so", ours))


def mapped(file: str, found: str) -> list[str]:
    """Return where a file is in memory."""
    places = [line.split()[0] for line in found.splitlines() if file in line]
    assert places
    return places


def tcp(server: Server) -> list[str]:
    """Return the sockets that the server listens on or talks to clients with."""
    port = f":{server.port:04X} "
    with open("/proc/net/tcp") as file:
        lines = [line.split() for line in file if port in line.split(maxsplit=1)[1][:15]]
    assert len(lines) >= 2
    return [f"socket:[{words[9]}]" for words in lines]


def test_no_helper_without_a_question(real: str, tmp_path: Path) -> None:
    trees.write_tree(os.fsencode(tmp_path / "deny"), {b"ip4/0.0.0.0_0": DENY})
    for options in [("-H",), ("-i", str(tmp_path / "deny"))]:
        with serving(real, *options) as server:
            visit(server, "127.9.0.1")
            assert helpers(server) == []


def test_a_killed_helper_refuses_who_waits_for_it_and_is_back_for_the_next(puppet: Puppet) -> None:
    with serving(puppet.address) as server, stay(server, puppet, 1) as stuck:
        killed = helper(server)
        os.kill(killed, signal.SIGKILL)
        assert read_all(stuck) == b""
        server.wait_log(rf"fatal: unable to look up {re.escape(silent(1))}: lookup helper ended$")
        server.wait_log(r"exitcode 111 count")
        assert visit(server, "127.9.0.7") == "n7.test n1.test none"
        await_that(lambda: helpers(server) not in ([], [killed]))


def test_large_answers_hold_no_memory() -> None:
    """Of clients that come from many addresses, with names from a zone of their own."""

    def script(asked: Asked) -> bytes:
        if not asked.tcp:
            return asked.reply(truncated=True)
        return asked.names("one.test", *(f"{'x' * 60}.{'y' * 60}.{number}.test" for number in range(450)))

    def crowd(server: Server, first: int, number: int) -> int:
        for client in range(first, first + number):
            assert visit(server, f"127.9.2.{client}") == "one.test here none"
        return kilobytes(helper(server), "VmData")

    with Puppet(script) as puppet, serving(puppet.address, "-l", "here") as server:
        before = crowd(server, 1, 10)
        assert crowd(server, 20, 60) - before < 2_000  # 60 answers are 8,000


def test_the_helpers_memory_has_a_limit(puppet: Puppet) -> None:
    with serving(puppet.address) as server, stay(server, puppet, 1):
        pid = helper(server)
        with open(f"/proc/{pid}/limits") as limits:
            (line,) = (line for line in limits if line.startswith("Max data size"))
        soft, hard = map(int, line.split()[3:5])
        assert 2**28 <= soft <= hard <= 2**28 + 2**10 * kilobytes(pid, "VmData") + 2**20


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGQUIT])
def test_the_helper_does_not_outlive_the_server(puppet: Puppet, number: int) -> None:
    with serving(puppet.address, prog=("cat",)) as server, server.connect(source="127.9.0.1") as served:
        served.sendall(b"x")
        assert served.recv(1) == b"x"
        assert len(helpers(server)) == 1
        server.signal(number)
        server.wait()
        await_that(lambda: helpers(server) == [])
        if number != signal.SIGQUIT:
            served.sendall(b"y")
            assert served.recv(1) == b"y"


def test_tls_sessions_do_not_keep_the_helper(site: Site, puppet: Puppet) -> None:
    by = peers.context(site.authority.file)
    with serving_tls(site, puppet.address) as server, dial(server, by, "127.9.0.1") as client:
        assert len(helpers(server)) == 1
        server.signal(signal.SIGTERM)
        server.wait()
        await_that(lambda: helpers(server) == [])
        client.sendall(b"still here")
        assert client.recv(100) == b"still here"


def test_a_client_that_is_being_looked_up_lives_on_when_the_server_exits() -> None:
    answering = threading.Event()

    def script(asked: Asked) -> bytes | None:
        answering.wait(PATIENCE)
        return asked.names("late.test")

    with Puppet(script) as puppet:
        try:
            with serving(puppet.address, "-l", "here") as server, server.connect(source="127.9.0.1") as client:
                puppet.await_question("127.9.0.1")
                server.signal(signal.SIGTERM)
                assert server.wait() == 0
                answering.set()
                assert read_all(client) == b"late.test here none\n"
                await_that(lambda: helpers(server) == [])
        finally:
            answering.set()


def test_sighup_ends_who_is_being_looked_up(puppet: Puppet) -> None:
    with serving(puppet.address) as server, stay(server, puppet, 1) as stuck:
        server.signal(signal.SIGHUP)
        assert read_all(stuck) == b""
        assert visit(server, "127.9.0.1") == "n1.test n1.test none"


def test_no_descriptor_is_left_after_many_clients(puppet: Puppet) -> None:
    with serving(puppet.address, "-t", "100", "-r", prog=("true",)) as server:

        def crowd(number: int) -> None:
            for i in range(number):
                visit(server, silent(i) if i % 10 == 0 else f"127.9.1.{i % 250 + 1}")

        crowd(10)
        before = len(descriptors(server.pid)), len(descriptors(helper(server)))
        crowd(200)
        assert len(descriptors(server.pid)) <= before[0]
        await_that(lambda: len(descriptors(helper(server))) <= before[1] + 2)


def test_a_helper_that_is_stopped_costs_its_clients_their_time_limit_and_is_replaced(puppet: Puppet) -> None:
    with serving(puppet.address, "-t", "500") as server, stay(server, puppet, 1):
        stopped = helper(server)
        os.kill(stopped, signal.SIGSTOP)
        try:
            with server.connect(source=silent(2)) as late:
                assert read_all(late) == b""
            server.wait_log(rf"fatal: unable to look up {re.escape(silent(2))}: took too long$")
            server.wait_log("^s6tls: warning: the lookup helper takes no requests for 5 s: replacing it$")
            assert visit(server, "127.9.0.1") == "n1.test n1.test none"
            await_that(lambda: stopped not in of_session(server.pid))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(stopped, signal.SIGKILL)
