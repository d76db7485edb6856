"""The stage of s6-tcpserver-access: who passes, and what a rule changes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from s6tls.accessrules import Decision, Rule, RuleSet, Verdict
from s6tls.accessrules.cdb import write_cdb
from s6tls.helper.helper import LookupHelper
from s6tls.stages.access import Access, Lookups
from s6tls.stages.connlimit import ConnLimit
from s6tls.stages.rulesource import CdbSource, Probe
from s6tls.ucspi.image import Image, StageExit

UCSPI = {
    b"PROTO": b"TCP",
    b"TCPLOCALIP": b"127.0.0.1",
    b"TCPLOCALPORT": b"443",
    b"TCPREMOTEIP": b"192.0.2.7",
    b"TCPREMOTEPORT": b"50000",
}


@dataclass
class Fixed:
    """Rules that decide the same about everybody, or cannot be read."""

    decision: Decision | OSError
    path: bytes = b"rules.cdb"
    stamp: None = None
    asked: bytes = b""

    def ask(self, probe: Probe) -> Decision:
        if isinstance(self.decision, OSError):
            raise self.decision
        backend = Noting()
        probe(RuleSet(backend))
        self.asked = backend.asked
        return self.decision

    def open(self) -> None: ...


class Noting:
    """A backend without rules that notes the first key it is asked for."""

    stamp: tuple[int, int, int, int, int] | None = None
    asked = b""

    def first(self, keys: Iterable[bytes]) -> None:
        self.asked = next(iter(keys))

    def close(self) -> None:
        """Nothing is open."""


def allow(*env: tuple[bytes, bytes | None], exec: bytes = b"") -> Fixed:
    return Fixed(Decision(Verdict.ALLOW, b"ip4/0.0.0.0_0", env, exec))


@pytest.fixture
def network() -> Iterator[socket.socket]:
    """The server's end of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            yield accepted


def image(**env: bytes | None) -> Image:
    changed = {**UCSPI, **{name.encode(): value for name, value in env.items()}}
    return Image({name: value for name, value in changed.items() if value is not None}, [b"prog"])


def refusal(stage: Access, of: Image) -> tuple[int, str, str]:
    with pytest.raises(StageExit) as caught:
        stage.apply(of)
    return caught.value.code, caught.value.kind, str(caught.value)


def test_without_a_rule_set_everybody_passes() -> None:
    passed = image()
    Access().apply(passed)
    assert (passed.env, passed.argv) == (UCSPI, [b"prog"])


@pytest.mark.parametrize("verbosity", [0, 1, 2])
def test_a_pass_is_logged_when_the_program_has_a_process_id(verbosity: int) -> None:
    passed = image(TCPREMOTEIP=b"2001:db8::1")
    Access(allow(), verbosity=verbosity).apply(passed)
    expected = [("s6-tcpserver-access", "allow pid 77 ip 2001:db8::1 rule ip4/0.0.0.0_0")] if verbosity else []
    assert [(program, tell(77)) for program, tell in passed.on_start] == expected


def test_the_rules_are_asked_about_the_remote_address() -> None:
    rules = allow()
    Access(rules).apply(image(TCPREMOTEIP=b"2001:db8::1"))
    assert rules.asked == b"ip6/2001:db8::1_128"


@pytest.mark.parametrize(
    ("decision", "rule"),
    [(Decision(Verdict.DENY, b"ip4/192.0.2.0_24"), "ip4/192.0.2.0_24"), (Decision(Verdict.NOTFOUND), "none")],
)
def test_denied_and_not_found_are_1(decision: Decision, rule: str) -> None:
    stage = Fixed(decision)
    assert refusal(Access(stage), image()) == (1, "info", "")
    said = f"deny pid {os.getpid()} ip 192.0.2.7 rule {rule}"
    assert refusal(Access(stage, verbosity=2), image()) == (1, "info", said)


def test_an_error_is_111_and_names_the_rules() -> None:
    broken = Fixed(Decision(Verdict.ERROR, error="lengths in record do not add up"))
    message = "unable to check rules in rules.cdb: lengths in record do not add up"
    assert refusal(Access(broken), image()) == (111, "fatal", message)
    missing = Fixed(FileNotFoundError(2, "No such file or directory"))
    message = "unable to check rules in rules.cdb: No such file or directory"
    assert refusal(Access(missing), image()) == (111, "fatal", message)


def test_the_rule_changes_the_environment_and_the_names_go_after() -> None:
    rules = allow((b"A", b"1"), (b"GONE", None), (b"TCPREMOTEHOST", b"forged"), (b"TCPLOCALHOST", b"forged"))
    passed = image(GONE=b"x", KEPT=b"y", TCPREMOTEINFO=b"stale")
    Access(rules).apply(passed)
    assert passed.env == {**UCSPI, b"A": b"1", b"KEPT": b"y"}


def test_the_local_name_is_given_over_the_rules_own() -> None:
    passed = image()
    Access(allow((b"TCPLOCALHOST", b"forged")), local_name=b"here").apply(passed)
    assert passed.env == {**UCSPI, b"TCPLOCALHOST": b"here"}


def test_variables_are_under_the_name_in_proto() -> None:
    env = {name.replace(b"TCP", b"SSL"): value for name, value in UCSPI.items()} | {b"PROTO": b"SSL"}
    passed = Image({**env, b"SSLREMOTEHOST": b"x", b"TCPREMOTEHOST": b"kept"}, [b"prog"])
    Access(local_name=b"here").apply(passed)
    assert passed.env == {**env, b"SSLLOCALHOST": b"here", b"TCPREMOTEHOST": b"kept"}


def test_exec_replaces_the_whole_rest_of_the_chain() -> None:
    passed = image()
    passed.stages.append(ConnLimit())
    Access(allow((b"PATH", b"/nowhere"), exec=b"echo $A")).apply(passed)
    assert passed.argv == [b"execlineb", b"-c", b"echo $A"]
    assert not passed.stages
    assert passed.env[b"PATH"] == b"/nowhere"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PROTO", None, "PROTO not set"),
        ("TCPLOCALIP", None, "TCPLOCALIP not set"),
        ("TCPLOCALPORT", None, "TCPLOCALPORT not set"),
        ("TCPREMOTEIP", None, "TCPREMOTEIP not set"),
        ("TCPREMOTEPORT", None, "TCPREMOTEPORT not set"),
        ("TCPREMOTEIP", b"", "invalid $TCPREMOTEIP"),
        ("TCPREMOTEIP", b"192.0.2.07", "invalid $TCPREMOTEIP"),
        ("TCPREMOTEIP", b"192.0.2.7 ", "invalid $TCPREMOTEIP"),
        ("TCPREMOTEIP", b"192.0.2.7.1", "invalid $TCPREMOTEIP"),
        ("TCPREMOTEIP", b"fe80::1%lo", "invalid $TCPREMOTEIP"),
        ("TCPREMOTEIP", b"\xff\xfe", "invalid $TCPREMOTEIP"),
        ("TCPLOCALIP", b"localhost", "invalid $TCPLOCALIP"),
        ("TCPLOCALPORT", b"65536", "invalid $TCPLOCALPORT"),
        ("TCPREMOTEPORT", b"", "invalid $TCPREMOTEPORT"),
        ("TCPREMOTEPORT", b"-1", "invalid $TCPREMOTEPORT"),
        ("TCPREMOTEPORT", b"1_0", "invalid $TCPREMOTEPORT"),
        ("TCPREMOTEPORT", "٣".encode(), "invalid $TCPREMOTEPORT"),
        ("TCPREMOTEPORT", b"9" * 5000, "invalid $TCPREMOTEPORT"),
        ("PROTO", b"\xff", r"\xffLOCALIP not set"),
    ],
)
def test_a_wrong_environment_is_100(name: str, value: bytes | None, message: str) -> None:
    rules = allow()
    assert refusal(Access(rules), image(**{name: value})) == (100, "fatal", message)
    assert rules.asked == b""


def test_the_banner_comes_first_even_to_those_who_are_denied() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        denied = image()
        denied.stdin = denied.stdout = ours.fileno()
        refusal(Access(Fixed(Decision(Verdict.DENY)), banner=b"220 hello\r\n"), denied)
        assert theirs.recv(100) == b"220 hello\r\n"
        assert os.get_blocking(ours.fileno())


def test_a_banner_that_cannot_be_written_refuses_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        slow = image()
        slow.stdin = slow.stdout = ours.fileno()
        message = "unable to write banner: longer than the socket's buffer"
        assert refusal(Access(banner=b"x" * 2**22), slow) == (111, "fatal", message)
        theirs.close()
        assert refusal(Access(banner=b"x"), slow) == (111, "fatal", "unable to write banner: Broken pipe")


@pytest.mark.parametrize("nodelay", [True, False])
def test_nagle(network: socket.socket, nodelay: bool) -> None:
    passed = image()
    passed.stdin = passed.stdout = network.fileno()
    Access(nodelay=nodelay).apply(passed)
    assert bool(network.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) is nodelay


def test_no_socket_is_a_warning_when_nagle_is_to_be_disabled(capfd: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    passed = image()
    passed.stdin, passed.stdout = reading, writing
    Access(nodelay=True).apply(passed)
    Access(nodelay=True, verbosity=0).apply(passed)
    passed.close()
    message = "unable to disable Nagle's algorithm: Socket operation on non-socket"
    assert capfd.readouterr().err == f"s6-tcpserver-access: warning: {message}\n"


# Names.  The helper, the name servers and IDENT are tests/system/names/test_names.py's.


@dataclass
class Told(LookupHelper):
    """A helper that has been taken over by strangers, and says what they want; no reply is that it has ended."""

    reply: bytes

    def look_up(self, program: str, lookup: dict[str, Any], timeout_ms: int, servers: list[str]) -> int:
        self.lookup, self.timeout_ms, self.servers = lookup, timeout_ms, servers
        reading, writing = os.pipe()
        os.write(writing, self.reply)
        os.close(writing)
        return reading


BY_ADDRESS = Decision(Verdict.ALLOW, b"ip4/0.0.0.0_0")


def hear(stage: Access, of: Image) -> None:
    waiting = stage.apply(of)
    assert waiting is not None
    try:
        assert waiting.resume()
    finally:
        waiting.close()


def test_what_is_found_goes_into_the_environment_after_the_rule() -> None:
    told = Told(b"REMOTEHOST=a.test\0LOCALHOST=here.test\0REMOTEINFO=alice b\0\0")
    passed = image()
    rules = allow((b"TCPREMOTEHOST", b"forged"), (b"A", b"1"))
    hear(Access(rules, lookups=Lookups(user=True, timeout_ms=500), helper=told), passed)
    names = {b"TCPREMOTEHOST": b"a.test", b"TCPLOCALHOST": b"here.test", b"TCPREMOTEINFO": b"alice b"}
    assert passed.env == {**UCSPI, **names, b"A": b"1"}
    assert told.timeout_ms == 500


@pytest.mark.parametrize(
    "reply",
    [
        b"REMOTEHOST=A.test\0\0",
        b"REMOTEHOST=a.test.\0\0",
        b"REMOTEHOST=a/../b\0\0",
        b"REMOTEHOST=\0\0",
        b"REMOTEHOST=192.0.2.1\0\0",
        b"REMOTEHOST=" + b"a." * 5000 + b"a\0\0",
        b"LOCALHOST=a\nb\0\0",
        b"REMOTEINFO=\x1b[2J\0\0",
        b"REMOTEINFO=" + b"a" * 513 + b"\0\0",
    ],
)
def test_nobody_takes_the_helpers_word_for_what_a_name_is(reply: bytes) -> None:
    with pytest.raises(
        StageExit, match=r"^unable to look up 192\.0\.2\.7: invalid reply from lookup helper$"
    ) as caught:
        hear(Access(Fixed(BY_ADDRESS), lookups=Lookups(), helper=Told(reply)), image())
    assert caught.value.code == 111


@pytest.mark.parametrize("reply", [b"LD_PRELOAD=evil\0\0", b"TCPREMOTEIP=127.0.0.1\0\0", b"\0", b"REMOTEHOST=a\0"])
def test_a_helper_cannot_set_other_variables_or_stop_halfway(reply: bytes) -> None:
    stage = Access(Fixed(BY_ADDRESS), lookups=Lookups(), helper=Told(reply))
    waiting = stage.apply(image())
    assert waiting is not None
    with pytest.raises(StageExit) as caught:
        while not waiting.resume():
            pass
    assert caught.value.code == 111
    waiting.close()


def test_a_helper_that_ends_refuses() -> None:
    with pytest.raises(StageExit, match=r"^unable to look up 192\.0\.2\.7: lookup helper ended$") as caught:
        hear(Access(Fixed(BY_ADDRESS), lookups=Lookups(), helper=Told(b"")), image())
    assert caught.value.code == 111


def test_address_and_name_are_judged_by_one_set(tmp_path: Path) -> None:
    """Both sets deny the client; the silence of one with the names of the other would let it in."""
    path = os.fsencode(tmp_path / "rules.cdb")
    write_cdb(path, [(b"reversedns/@", Rule(False))])
    waiting = Access(
        CdbSource(path, private=True), lookups=Lookups(), helper=Told(b"REMOTEHOST=a.test\0\0"), verbosity=2
    ).apply(image())
    assert waiting is not None
    write_cdb(path, [(b"ip4/0.0.0.0_0", Rule(False)), (b"reversedns/@", Rule(True))])
    with pytest.raises(StageExit, match=r"^deny pid \d+ ip 192\.0\.2\.7 rule ip4/0\.0\.0\.0_0$"):
        waiting.resume()
    waiting.close()


@pytest.mark.parametrize(
    ("reply", "code"),
    [(b"REMOTEHOST=a.test\0\0", 1), (b"\0\0", 1), (b"ERROR=no answer\0\0", 1), (b"!99 took too long\0\0", 99)],
    ids=["name without a rule", "no name", "no answer", "too late"],
)
def test_a_client_that_no_rule_knows_is_refused(reply: bytes, code: int) -> None:
    with pytest.raises(StageExit) as caught:
        hear(Access(Fixed(Decision(Verdict.NOTFOUND)), lookups=Lookups(), helper=Told(reply)), image())
    assert caught.value.code == code


def test_a_failure_refuses_only_if_it_is_to(capfd: pytest.CaptureFixture[str]) -> None:
    told = Told(b"REMOTEHOST=a.test\0ERROR=no\x1banswer\0\0")
    with pytest.raises(StageExit, match=r"^unable to look up 192\.0\.2\.7: no\\x1banswer$") as caught:
        hear(Access(Fixed(BY_ADDRESS), lookups=Lookups(strict=True), helper=told), image())
    assert caught.value.code == 111
    passed = image()
    hear(Access(Fixed(BY_ADDRESS), verbosity=2, lookups=Lookups(), helper=told), passed)
    assert passed.env == {**UCSPI, b"TCPREMOTEHOST": b"a.test"}
    message = r"unable to look up 192.0.2.7: no\x1banswer"
    assert capfd.readouterr().err == f"s6-tcpserver-access: warning: {message}\n"


def test_who_is_denied_by_address_is_not_looked_up() -> None:
    told = Told(b"\0\0")
    assert refusal(Access(Fixed(Decision(Verdict.DENY)), lookups=Lookups(user=True), helper=told), image())[0] == 1
    assert not hasattr(told, "lookup")


def test_what_is_asked() -> None:
    told = Told(b"\0\0")
    lookups = Lookups(hosts=True, paranoid=True)
    hear(Access(lookups=lookups, local_name=b"here", helper=told), image(DNSCACHEIP=b"127.0.0.1,::1 192.0.2.53"))
    assert told.servers == ["127.0.0.1", "::1", "192.0.2.53"]
    assert told.lookup == {
        "remote": "192.0.2.7",
        "local": "127.0.0.1",
        "remote_port": 50000,
        "local_port": 443,
        "remote_name": True,
        "local_name": False,
        "hosts": True,
        "paranoid": True,
        "user": False,
    }
    hear(Access(lookups=Lookups(names=False, user=True), helper=told), image())
    assert (told.lookup["remote_name"], told.lookup["local_name"], told.lookup["user"]) == (False, False, True)
    assert told.servers == []


@pytest.mark.parametrize("value", [b"localhost", b"127.0.0.1:53", b"\xff", b"127.0.0.1,x", b"fe80::1%lo"])
def test_a_wrong_name_server_is_100(value: bytes) -> None:
    stage = Access(lookups=Lookups(), helper=Told(b"\0\0"))
    assert refusal(stage, image(DNSCACHEIP=value)) == (100, "fatal", "invalid $DNSCACHEIP")


def test_too_many_name_servers_are_100() -> None:
    stage = Access(lookups=Lookups(), helper=(told := Told(b"\0\0")))
    longest = b"ffff:eeee:dddd:cccc:bbbb:aaaa:9999:8888"
    hear(stage, image(DNSCACHEIP=b" ".join([longest] * 16)))
    assert told.servers == [longest.decode()] * 16
    for number in (17, 3000):
        value = b",".join([longest] * number)
        assert refusal(stage, image(DNSCACHEIP=value)) == (100, "fatal", "more than 16 name servers in $DNSCACHEIP")
