"""The helper: asked over a control socket, it answers on pipes, and nothing of it stays behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import select
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import s6tls
from s6tls.helper.helper import LookupHelper
from s6tls.helper.reply import RefusalReply, parse
from s6tls.helper.variables import VARIABLES
from s6tls.posix.reactor import READABLE, Reactor
from s6tls.ucspi.image import StageExit
from tests.support.children import in_child
from tests.support.fresh.altered import alter, out_of_memory
from tests.support.kin import children
from tests.support.nameserver import Asked, Puppet
from tests.support.servers import PATIENCE

CLIENT = "127.9.0.1"
_CLONE_NEWUSER = 0x10000000


def lookup(**more: Any) -> dict[str, Any]:
    return {"remote": CLIENT, "local": "127.9.0.2", "local_name": False, **more}


@pytest.fixture
def helper() -> Iterator[LookupHelper]:
    """One that is waited for, as in a command."""
    asked = LookupHelper()
    yield asked
    asked.close()


@pytest.fixture
def puppet() -> Iterator[Puppet]:
    """A name server for which each address's name has the address's last number, but 127.9.0.13 has no answer."""

    def script(asked: Asked) -> bytes | None:
        last = asked.name.partition(".")[0]
        return None if last == "13" else asked.names(f"n{last}.test")

    with Puppet(script) as started:
        yield started


def read(fd: int) -> bytes:
    """Return what is said on a descriptor until its end, and close it."""
    with os.fdopen(fd, "rb") as pipe:
        os.set_blocking(fd, True)
        return pipe.read()


def found(fd: int) -> dict[bytes, bytes]:
    return parse(read(fd), VARIABLES)


def descriptors() -> set[str]:
    with os.scandir("/proc/self/fd") as entries:
        return {entry.name for entry in entries}


def test_questions_are_answered_side_by_side(helper: LookupHelper, puppet: Puppet) -> None:
    stuck = helper.look_up("test", lookup(remote="127.9.0.13"), 0, [puppet.address])
    puppet.await_question("127.9.0.13")
    for number in range(3):
        fd = helper.look_up("test", lookup(remote=f"127.9.0.{number}"), 0, [puppet.address])
        assert found(fd) == {b"REMOTEHOST": b"n%d.test" % number}
    assert select.select([stuck], [], [], 0)[0] == []
    os.close(stuck)


def test_a_helper_that_is_let_go_finishes_what_it_has_begun(helper: LookupHelper) -> None:
    let_go = threading.Event()

    def script(asked: Asked) -> bytes:
        let_go.wait(PATIENCE)
        return asked.names("late.test")

    with Puppet(script) as puppet:
        fd = helper.look_up("test", lookup(), 0, [puppet.address])
        puppet.await_question(CLIENT)
        helper.close()
        let_go.set()
        assert found(fd) == {b"REMOTEHOST": b"late.test"}


def test_what_takes_too_long_is_refused(helper: LookupHelper, puppet: Puppet) -> None:
    fd = helper.look_up("test", lookup(remote="127.9.0.13"), 50, [puppet.address])
    with pytest.raises(RefusalReply, match=r"^unable to look up 127\.9\.0\.13: took too long$") as caught:
        found(fd)
    assert caught.value.code == 99


def test_each_question_has_its_own_name_servers(helper: LookupHelper, puppet: Puppet) -> None:
    with Puppet(lambda asked: asked.names("other.test")) as other:
        for server, name in [(puppet, b"n1.test"), (other, b"other.test"), (puppet, b"n1.test")]:
            assert found(helper.look_up("test", lookup(), 0, [server.address])) == {b"REMOTEHOST": name}


def test_what_cannot_be_looked_into_is_refused(helper: LookupHelper) -> None:
    with pytest.raises(RefusalReply, match=r"^unable to look into the client: ") as caught:
        found(helper.look_up("test", lookup(remote="nonsense"), 0, []))
    assert caught.value.code == 111


def test_a_crowd_of_questions_waits_its_turn(puppet: Puppet) -> None:
    """From an event loop that never waits."""
    crowd = 500
    reactor = Reactor()
    helper = LookupHelper(reactor)
    answers: dict[int, bytes] = {}

    def await_answer(fd: int, number: int) -> None:
        def hear(_: int) -> None:
            reactor.forget(fd)
            answers[number] = read(fd)
            if len(answers) == crowd:
                reactor.stop()

        reactor.watch(fd, READABLE, hear)

    before, others = descriptors(), children(os.getpid())
    for number in range(crowd):
        fd = helper.look_up("test", lookup(remote=f"127.9.1.{number % 7}"), 0, [puppet.address])
        await_answer(fd, number)
    overdue = reactor.after(PATIENCE, reactor.stop)
    reactor.run()
    overdue.cancel()
    assert len(answers) == crowd
    assert all(parse(said, VARIABLES) == {b"REMOTEHOST": b"n%d.test" % (n % 7)} for n, said in answers.items())
    helper.close()
    for child in set(children(os.getpid())) - set(others):
        os.waitpid(child, 0)
    assert descriptors() == before
    reactor.close()


ENDS = "s6tls: warning: the lookup helper ends and will be replaced: out of memory\n"


def test_without_memory_lookups_fail_and_those_that_follow_do_not(
    puppet: Puppet, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(LookupHelper()) as asked:
        with monkeypatch.context() as patch:
            alter(patch, {"s6tls.helper.serving.MEMORY": 10 * 2**20})
            silent = lookup(remote="127.9.0.13")
            crowd = [asked.look_up("test", silent, 3000, [puppet.address]) for _ in range(500)]
        assert {read(fd)[:1] for fd in crowd} <= {b"", b"!", b"E"}
        assert found(asked.look_up("test", lookup(), 0, [puppet.address])) == {b"REMOTEHOST": b"n1.test"}
    assert re.fullmatch(r"(s6tls: warning: the lookup helper ends and will be replaced: .+\n)?", capfd.readouterr().err)


@pytest.mark.parametrize("place", ["s6tls.helper.serving.parse_address", "s6tls.helper.query.Query._arrived"])
def test_a_helper_out_of_memory_says_so_and_is_replaced(
    puppet: Puppet, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], place: str
) -> None:
    """In our own code, and where the library calls it."""
    with contextlib.closing(LookupHelper()) as helper:
        with monkeypatch.context() as patch:
            alter(patch, {place: out_of_memory})
            assert read(helper.look_up("test", lookup(), 0, [puppet.address])) == b""
        assert capfd.readouterr().err == ENDS
        assert found(helper.look_up("test", lookup(), 0, [puppet.address])) == {b"REMOTEHOST": b"n1.test"}


def test_more_requests_than_it_takes_at_once_wait(puppet: Puppet, monkeypatch: pytest.MonkeyPatch) -> None:
    alter(monkeypatch, {"s6tls.helper.serving.MOST_REQUESTS": 3})
    with contextlib.closing(LookupHelper()) as helper:
        stuck = [helper.look_up("test", lookup(remote="127.9.0.13"), 0, [puppet.address]) for _ in range(3)]
        for _ in stuck:
            puppet.await_question("127.9.0.13")
        waiting = [helper.look_up("test", lookup(), 0, [puppet.address]) for _ in range(2)]
        assert select.select(waiting, [], [], 0.05)[0] == []
        assert puppet.asked.empty()
        os.close(stuck[0])  # as the server does when it no longer waits for the reply
        assert [found(fd) for fd in waiting] == [{b"REMOTEHOST": b"n1.test"}] * 2
        for fd in stuck[1:]:
            os.close(fd)


def test_who_sends_a_proxy_header_byte_by_byte_delays_nobody(helper: LookupHelper) -> None:
    """All of them are there to be read, each in a packet of its own."""
    most = 65535
    header = b"\r\n\r\n\0\r\nQUIT\n\x20\x00" + most.to_bytes(2, "big") + bytes(most)
    slow, slow_client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    quick, quick_client = socket.socketpair()
    with slow, slow_client, quick, quick_client:
        slow_reply = helper.read_proxy_header("test", slow.fileno(), (1, 2), 0)
        os.set_blocking(slow_client.fileno(), False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += slow_client.send(header[sent : sent + 1])
        quick_client.sendall(b"PROXY UNKNOWN\r\n")
        assert read(helper.read_proxy_header("test", quick.fileno(), (1, 2), 0)) == b"\0\0"
        assert select.select([slow_reply], [], [], 0)[0] == []
        os.close(slow_reply)


def test_a_proxy_header_is_read_and_not_a_byte_more(helper: LookupHelper) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nGET /")
        fd = helper.read_proxy_header("test", ours.fileno(), (1, 2), 0)
        assert b"TCPREMOTEIP=192.0.2.1\0" in read(fd)
        assert ours.recv(100) == b"GET /"
        helper.close()
        theirs.close()
        assert ours.recv(100) == b""


def test_a_helper_that_ends_is_replaced(puppet: Puppet, helper: LookupHelper) -> None:
    before = descriptors()
    for _ in range(3):
        assert found(helper.look_up("test", lookup(), 0, [puppet.address])) == {b"REMOTEHOST": b"n1.test"}
        with contextlib.suppress(OSError):
            helper._helper._sender.control.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]
    helper.close()
    assert descriptors() == before


def test_without_descriptors_a_client_is_refused_and_the_others_are_not(puppet: Puppet, helper: LookupHelper) -> None:
    stuck = helper.look_up("test", lookup(remote="127.9.0.13"), 0, [puppet.address])
    puppet.await_question("127.9.0.13")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = descriptors()
    lowest = os.dup(2)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, hard))
    try:
        with pytest.raises(StageExit, match=r"^unable to ask the lookup helper: Too many open files$"):
            helper.look_up("test", lookup(), 0, [puppet.address])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert descriptors() == before
    assert select.select([stuck], [], [], 0)[0] == []
    assert found(helper.look_up("test", lookup(), 0, [puppet.address])) == {b"REMOTEHOST": b"n1.test"}
    os.close(stuck)


def test_nobody_need_be_able_to_read_our_files(tmp_path: Path, puppet: Puppet) -> None:
    """All of Python, as root alone may read it: what the helper needs, it has imported before it is nobody."""
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700 and os.geteuid() == 0
    site = Path(s6tls.__file__).parents[1], *(Path(place) for place in sys.path if place.endswith("-packages"))
    for place in site:
        for entry in place.iterdir():
            if not (tmp_path / entry.name).exists():
                (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "home/lib").mkdir(parents=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (tmp_path / "home/lib" / version).symlink_to(os.path.dirname(os.__file__))
    program = "from s6tls.cli.s6_tcpserver_access import main; main()"
    env = {
        "PROTO": "TCP",
        "TCPREMOTEIP": CLIENT,
        "TCPREMOTEPORT": "1",
        "TCPLOCALIP": CLIENT,
        "TCPLOCALPORT": "1",
        "DNSCACHEIP": puppet.address,
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(tmp_path),
        "PYTHONHOME": str(tmp_path / "home"),
    }
    words = [os.path.realpath(sys.executable), "-S", "-c", program, "-h", "-p", "-r", "-v2", "printenv", "TCPLOCALHOST"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.stdout, done.returncode) == ("n1.test\n", 0), done.stderr


def test_where_there_are_few_ids_it_is_nobody(puppet: Puppet, capfd: pytest.CaptureFixture[str]) -> None:
    def ask() -> dict[bytes, bytes]:
        take_a_namespace_of_65536_ids()
        helper = LookupHelper()
        return found(helper.look_up("test", lookup(), 0, [puppet.address]))

    assert in_child(ask) == repr({b"REMOTEHOST": b"n1.test"})
    assert re.search(
        r"^s6tls: warning: unable to give the lookup helper the id \d+: Invalid argument; it runs as nobody$",
        capfd.readouterr().err,
        re.MULTILINE,
    )


def take_a_namespace_of_65536_ids() -> None:
    """Have what containers of some kinds have."""
    ready, go = os.pipe()
    here = os.getpid()
    mapper = os.fork()
    if mapper == 0:
        os.close(go)
        os.read(ready, 1)
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{here}/{kind}").write_text("0 0 65536")
        os._exit(0)
    assert ctypes.CDLL(None).unshare(_CLONE_NEWUSER) == 0
    os.close(go)
    assert os.waitpid(mapper, 0)[1] == 0
    os.close(ready)


def test_an_unprivileged_server_has_an_unprivileged_helper(puppet: Puppet) -> None:
    def ask() -> dict[bytes, bytes]:
        os.setgroups([])
        os.setgid(64001)
        os.setuid(64001)
        helper = LookupHelper()
        return found(helper.look_up("test", lookup(), 0, [puppet.address]))

    assert in_child(ask) == repr({b"REMOTEHOST": b"n1.test"})
