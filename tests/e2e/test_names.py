"""Clients have names, users, and name servers that never answer; nobody waits for another's.

A client's address is what it binds to, so that one machine is many clients.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from s6tls.accessrules import Rule
from tests.accessrules import trees
from tests.e2e import peers
from tests.e2e.nameserver import PTR, SERVFAIL, Asked, Puppet, address_of, bound, dnsmasq, reverse
from tests.e2e.processes import await_that, descriptors, status
from tests.e2e.site import ALLOW, DENY, Site, allow
from tests.servers import BIN, PATH, PATIENCE, Server, read_all, server

NO_RULE = "65534"
SHOW = ("sh", "-c", 'echo "${TCPREMOTEHOST-none} ${TCPLOCALHOST-none} ${TCPREMOTEINFO-none}"')
SILENT = "127.66."
"""Nobody answers for clients whose addresses begin like this."""
ACCESS = "s6-tcpserver-access"


def silent(number: int) -> str:
    return f"{SILENT}{number // 250}.{number % 250 + 1}"


@pytest.fixture(scope="module")
def real() -> Iterator[str]:
    """A dnsmasq with names for a few clients."""
    names = {
        "127.0.0.1": "here.test",
        "127.9.0.1": "one.test",
        "127.9.0.2": "two.office.test",
        "127.9.0.3": "thief.office.test",
        "127.9.0.5": "liar.test",
    }
    pointers = [f"--ptr-record={reverse(address)},{name}" for address, name in names.items()]
    with dnsmasq(*pointers, "--address=/one.test/127.9.0.1", "--address=/liar.test/127.9.0.1") as address:
        yield address


@pytest.fixture
def puppet() -> Iterator[Puppet]:
    """A name server that calls each client after its last number, and never answers for some."""

    def script(asked: Asked) -> bytes | None:
        address = address_of(asked.name)
        return None if address.startswith(SILENT) else asked.names(f"n{address.rpartition('.')[2]}.test")

    with Puppet(script) as started:
        yield started


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
    return nobodies(server.pid)


def nobodies(session: int) -> list[int]:
    """Return the processes that live as nobody in a session."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and os.getsid(int(name)) == session and is_nobody(status(int(name))):
                found.append(int(name))
    return found


def is_nobody(now: dict[str, str]) -> bool:
    return now["Uid"].startswith(NO_RULE) and not now["State"].startswith("Z")


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


# What is found out


def test_both_ends_have_names(real: str) -> None:
    with serving(real) as server:
        assert visit(server, "127.9.0.1") == "one.test here.test none"
        assert visit(server, "127.9.0.99") == "none here.test none"
        server.wait_log(r"^s6-tcpserver-access: info: allow pid \d+ ip 127\.9\.0\.99$")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("-H",), "none none none"),
        (("-H", "-h"), "none none none"),
        (("-l", "me"), "one.test me none"),
        (("-l", ""), "one.test  none"),
        (("-p",), "one.test here.test none"),
        (("-h",), "one.test localhost none"),
        (("-h", "--no-hosts"), "one.test here.test none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options(real: str, options: tuple[str, ...], names: str) -> None:
    with serving(real, *options) as server:
        assert visit(server, "127.9.0.1") == names


def test_a_name_that_does_not_lead_back_is_dropped_by_p(real: str) -> None:
    with serving(real, "-p", "-w") as server:
        assert visit(server, "127.9.0.5") == "none here.test none"
    with serving(real, "-P") as server:
        assert visit(server, "127.9.0.5") == "liar.test here.test none"


@pytest.mark.parametrize("fused", [True, False], ids=["server", "command"])
def test_names_decide_when_no_address_does(real: str, tmp_path: Path, fused: bool) -> None:
    tree = rules(tmp_path, office_test=allow(WHERE="office"), thief_office_test=DENY, Upper_test=ALLOW, at=DENY)
    prog = ("printenv", "WHERE", "TCPREMOTEHOST")
    expected = {"127.9.0.1": "", "127.9.0.2": "office\ntwo.office.test", "127.9.0.3": "", "127.9.0.99": ""}
    if fused:
        with serving(real, "-i", tree, prog=prog) as server:
            assert {address: visit(server, address) for address in expected} == expected
            server.wait_log(rf"^s6-tcpserver-access: info: deny pid {server.pid} ip 127\.9\.0\.3$")
    else:
        done = {address: command(real, address, "-v2", "-i", tree, *prog) for address in expected}
        assert {address: run.stdout.strip() for address, run in done.items()} == expected
        assert {address: run.returncode for address, run in done.items()} == {
            address: int(not said) for address, said in expected.items()
        }


def test_a_default_for_names_is_none_for_the_nameless(real: str, tmp_path: Path) -> None:
    with serving(real, "-i", rules(tmp_path, at=ALLOW)) as server:
        assert visit(server, "127.9.0.1") == "one.test here.test none"
        assert visit(server, "127.9.0.99") == ""
        server.wait_log(r"exitcode 1 count")


def test_a_liar_has_no_name_for_the_rules_either(real: str, tmp_path: Path) -> None:
    tree = rules(tmp_path, liar_test=ALLOW, one_test=ALLOW)
    with serving(real, "-p", "-i", tree) as server:
        assert visit(server, "127.9.0.5") == ""
        assert visit(server, "127.9.0.1") == "one.test here.test none"


@pytest.mark.parametrize(
    "labels",
    [(b"..",), (b"..", b".."), (b"../ip4", b"test"), (b"/", b"x\0", b"test"), (b"a" * 63,) * 4, (b"*", b"test")],
)
def test_a_name_cannot_lead_out_of_the_rules(tmp_path: Path, labels: tuple[bytes, ...]) -> None:
    (tmp_path / "allow").touch()
    tree = rules(tmp_path, x_test=ALLOW, test=ALLOW)
    with Puppet(lambda asked: asked.names(labels)) as puppet, serving(puppet.address, "-i", tree) as server:
        assert visit(server, "127.9.0.1") == ""
        server.wait_log(r"exitcode 1 count")


def test_the_machines_name_servers_are_asked_if_no_others_are_named(puppet: Puppet, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text(f"nameserver {puppet.address}\nsearch example.org\n")
    (tmp_path / "resolv.conf").chmod(0o644)
    elsewhere = [
        "unshare",
        "-m",
        "sh",
        "-ec",
        'mount --bind "$0" /etc/resolv.conf; exec "$@"',
        str(tmp_path / "resolv.conf"),
    ]
    with server([*elsewhere, "s6-tcpserver", "127.0.0.1", "0", ACCESS, *SHOW]) as started:
        assert visit(started, "127.9.0.1") == "n1.test n1.test none"


# Failures


def test_failures_refuse_only_with_w() -> None:
    with Puppet(lambda asked: asked.reply(code=SERVFAIL)) as puppet:
        with serving(puppet.address, "-W") as server:
            assert visit(server, "127.9.0.1") == "none none none"
            server.wait_log("warning: unable to look up 127.9.0.1: DNS server returned general failure$")
        with serving(puppet.address, "-w") as server:
            assert visit(server, "127.9.0.1") == ""
            server.wait_log("fatal: unable to look up 127.9.0.1: DNS server returned general failure$")
            server.wait_log("exitcode 111 count")


@pytest.mark.parametrize("strictness", ["-W", "-w"])
def test_time_is_up(puppet: Puppet, strictness: str) -> None:
    with serving(puppet.address, "-t", "100", strictness) as server:
        assert visit(server, silent(1)) == ""
        server.wait_log(rf"^s6-tcpserver-access: fatal: unable to look up {re.escape(silent(1))}: took too long$")
        server.wait_log(r"exitcode 99 count")


def test_t_bounds_ident_and_forward_names_too(tmp_path: Path) -> None:
    def script(asked: Asked) -> bytes | None:
        return asked.names("a.test") if asked.kind == PTR else None

    with Puppet(script) as puppet, serving(puppet.address, "-t", "100", "-p") as server:
        assert visit(server, "127.9.0.1") == ""
        server.wait_log(r"exitcode 99 count")
    with identd(lambda _: None) as client, Puppet(script) as puppet, serving(puppet.address, "-t100", "-rH") as server:
        assert visit(server, client) == ""
        server.wait_log(r"exitcode 99 count")


# IDENT


@contextlib.contextmanager
def identd(answer: Callable[[bytes], bytes | None]) -> Iterator[str]:
    """An IDENT server that gives `answer` to each question, None is silence; yield its address, the client's to be."""
    with bound(113) as listener:
        listener.listen()
        silenced: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    said = answer(connection.recv(1000))
                    if said is None:
                        silenced.append(connection)
                        continue
                    with connection:
                        connection.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[0]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in silenced:
                connection.close()


def test_ident_names_the_user(real: str) -> None:
    asked: list[bytes] = []

    def answer(question: bytes) -> bytes:
        asked.append(question)
        return question.strip() + b" : USERID : UNIX : alice\r\n"

    with identd(answer) as source, serving(real, "-r", "-l", "here") as server:
        with server.connect(source=source) as client:
            port = client.getsockname()[1]
            assert read_all(client) == b"none here alice\n"
        assert asked == [b"%d, %d\r\n" % (port, server.port)]


@pytest.mark.parametrize(
    "answer",
    [b"", b"rubbish\r\n", b"1, 2 : USERID : UNIX : root\r\n", b"x" * 5000],
    ids=["none", "rubbish", "another's", "long"],
)
def test_bad_ident_answers_refuse_only_with_w(real: str, answer: bytes) -> None:
    with identd(lambda _: answer) as client:
        with serving(real, "-r", "-H") as server:
            assert visit(server, client) == "none none none"
            server.wait_log(rf"warning: unable to look up {client}: IDENT: ")
        with serving(real, "-r", "-H", "-w") as server:
            assert visit(server, client) == ""
            server.wait_log("exitcode 111 count")


def test_no_ident_server_is_no_failure(real: str) -> None:
    with serving(real, "-r", "-w") as server:
        assert visit(server, "127.9.0.1") == "one.test here.test none"


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


def test_the_helper_is_nobody_and_holds_nothing(puppet: Puppet) -> None:
    with serving(puppet.address) as server, stay(server, puppet, 1):
        pid = helper(server)
        now = status(pid)
        assert now["Uid"].split() == [NO_RULE] * 4
        assert now["Gid"].split() == [NO_RULE] * 4
        assert now["Groups"] == ""
        assert int(now["CapEff"], 16) == int(now["CapPrm"], 16) == 0
        theirs = descriptors(pid)
        assert (theirs[0], theirs[1]) == ("/dev/null", "/dev/null")
        assert not set(tcp(server)) & set(theirs.values())


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


# The command by itself


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


def test_the_command(real: str, puppet: Puppet) -> None:
    done = command(real, "127.9.0.1", *SHOW)
    assert (done.returncode, done.stdout) == (0, "one.test here.test none\n")
    assert re.fullmatch(r"s6-tcpserver-access: info: allow pid \d+ ip 127\.9\.0\.1\n", done.stderr)
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
            (pid,) = nobodies(running.pid)
            client = os.readlink(f"/proc/self/fd/{fd}")
            assert client in descriptors(running.pid).values()
            assert client not in descriptors(pid).values()
            running.kill()
            await_that(lambda: nobodies(running.pid) == [])


def test_a_helper_that_is_stopped_costs_its_clients_their_time_limit_and_is_replaced(puppet: Puppet) -> None:
    with serving(puppet.address, "-t", "500") as server, stay(server, puppet, 1):
        stopped = helper(server)
        os.kill(stopped, signal.SIGSTOP)
        try:
            with server.connect(source=silent(2)) as late:
                assert read_all(late) == b""
            server.wait_log(rf"fatal: unable to look up {re.escape(silent(2))}: took too long$")
            server.wait_log("^s6tls: warning: the lookup helper takes no requests for 5 s: replacing it$")
            visit(server, "127.9.0.1")
        finally:
            os.kill(stopped, signal.SIGKILL)
