"""What name servers and IDENT servers say about a client, and what is left of it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from s6tls.helper import ident
from s6tls.helper.lookup import Lookup, LookupRequest
from s6tls.helper.resolver import Resolver
from s6tls.posix.reactor import Reactor
from tests.support.nameserver import (
    AAAA,
    CNAME,
    NXDOMAIN,
    PTR,
    REFUSED,
    SERVFAIL,
    A,
    Asked,
    Puppet,
    Script,
    bound,
    dnsmasq,
    reverse,
    wire,
)
from tests.support.processes import await_that
from tests.support.servers import PATIENCE

CLIENT, HERE = "127.9.0.1", "127.9.0.2"
Found = dict[bytes, bytes]


def request(remote: str = CLIENT, **more: Any) -> LookupRequest:
    return LookupRequest(socket.inet_aton(remote), socket.inet_aton(HERE), **{"local_name": False, **more})


def ask(server: str, about: LookupRequest, ident_timeout_s: float = ident.TIMEOUT_S) -> Found:
    """Put a question in an event loop of its own; return what is found."""
    answers: list[Found] = []
    reactor = Reactor()

    def done(found: Found) -> None:
        answers.append(found)
        reactor.stop()

    resolver = Resolver(reactor, [server])
    overdue = reactor.after(PATIENCE, reactor.stop)
    Lookup(reactor, resolver, about, done, ident_timeout_s)
    if not answers:
        reactor.run()
    overdue.cancel()
    reactor.close()
    assert len(answers) == 1
    return answers[0]


def told(script: Script, **more: Any) -> Found:
    """Return what is found when the name server follows a script."""
    with Puppet(script) as puppet:
        return ask(puppet.address, request(**more))


def names(*given: str | tuple[bytes, ...], **addresses: str) -> Script:
    """A name server's script: the names of every address, and the address of each host named after its first label."""

    def script(asked: Asked) -> bytes:
        if asked.kind == PTR:
            return asked.names(*given)
        address = addresses.get(asked.name.partition(".")[0])
        return asked.addresses(address) if address else asked.reply(code=NXDOMAIN)

    return script


@pytest.fixture(scope="module")
def real() -> Iterator[str]:
    """A dnsmasq with a zone of its own."""
    records = {
        "127.9.0.1": ["one.test"],
        "127.9.0.2": ["here.test"],
        "127.9.0.3": ["three-a.test", "three-b.test"],
        "127.9.0.4": ["alias.test"],
        "127.9.0.5": ["liar.test"],
        "127.9.0.6": [f"{'long-name-' * 5}{number}.test" for number in range(60)],
    }
    pointers = [f"--ptr-record={reverse(address)},{name}" for address, given in records.items() for name in given]
    hosts = ["--address=/one.test/127.9.0.1", "--address=/liar.test/127.9.0.1", "--address=/three-b.test/127.9.0.3"]
    alias = ["--host-record=real.test,127.9.0.4", "--cname=alias.test,real.test"]
    unreachable = "--server=/7.9.127.in-addr.arpa/127.0.0.1#9"
    with dnsmasq(*pointers, *hosts, *alias, unreachable) as address:
        yield address


@pytest.mark.parametrize("paranoid", [False, True])
@pytest.mark.parametrize(
    ("remote", "plain", "checked"),
    [
        ("127.9.0.1", {b"one.test"}, {b"one.test"}),
        ("127.9.0.3", {b"three-a.test", b"three-b.test"}, {b"three-b.test"}),
        ("127.9.0.4", {b"alias.test", b"real.test"}, {b"alias.test", b"real.test"}),
        ("127.9.0.5", {b"liar.test"}, {None}),
        ("127.9.0.99", {None}, {None}),
    ],
    ids=["one", "several", "alias", "liar", "none"],
)
def test_a_real_name_server(
    real: str, remote: str, plain: set[bytes | None], checked: set[bytes | None], paranoid: bool
) -> None:
    found = ask(real, request(remote, paranoid=paranoid))
    assert found.pop(b"REMOTEHOST", None) in (checked if paranoid else plain)
    assert found == {}


def test_both_ends_are_looked_up(real: str) -> None:
    assert ask(real, request(local_name=True)) == {b"REMOTEHOST": b"one.test", b"LOCALHOST": b"here.test"}
    assert ask(real, request(remote_name=False, local_name=True)) == {b"LOCALHOST": b"here.test"}
    assert ask(real, request(remote_name=False)) == {}


def test_an_answer_too_large_for_a_datagram_is_asked_for_again(real: str) -> None:
    name = ask(real, request("127.9.0.6"))[b"REMOTEHOST"]
    assert name.startswith(b"long-name-long-name-")


def test_a_truncated_answer_is_no_answer_yet() -> None:
    def script(asked: Asked) -> bytes:
        return asked.names("whole.test") if asked.tcp else asked.reply((PTR, wire("half.test")), truncated=True)

    with Puppet(script) as puppet:
        assert ask(puppet.address, request()) == {b"REMOTEHOST": b"whole.test"}
        assert [puppet.asked.get().tcp for _ in range(2)] == [False, True]


def test_a_pointer_that_is_an_alias_is_followed() -> None:
    def script(asked: Asked) -> bytes:
        return asked.reply((CNAME, wire("1.0-24.9.127.in-addr.arpa")), (PTR, wire("one.test")))

    assert told(script) == {b"REMOTEHOST": b"one.test"}


@pytest.mark.parametrize(
    ("code", "reason"),
    [(SERVFAIL, b"DNS server returned general failure"), (REFUSED, b"DNS server refused query")],
    ids=["SERVFAIL", "REFUSED"],
)
def test_failures_are_told_and_nxdomain_is_none(code: int, reason: bytes) -> None:
    assert told(lambda asked: asked.reply(code=code)) == {b"ERROR": reason}
    assert told(lambda asked: asked.reply(code=NXDOMAIN)) == {}
    assert told(lambda asked: asked.reply()) == {}


def test_a_server_that_is_not_there_is_a_failure() -> None:
    with bound(53, socket.SOCK_DGRAM) as taken:
        address = taken.getsockname()[0]
    assert list(ask(address, request())) == [b"ERROR"]


@pytest.mark.parametrize(
    "rubbish",
    [
        lambda asked: asked.names("a.test")[:-3],
        lambda asked: asked.reply((PTR, b"\xc0")),
        lambda asked: asked.reply((PTR, b"\xc0" + bytes([len(asked.data)]))),
        lambda asked: asked.reply((PTR, b"\x3fshort\0")),
        lambda asked: asked.data[:2] + b"\xff" * 40,
        lambda asked: bytes([asked.data[0] ^ 1]) + asked.names("forged.test")[1:],
        lambda asked: asked.names("forged.test").replace(wire(asked.name), wire(asked.name).replace(b"9", b"8")),
    ],
    ids=["cut off", "half a pointer", "pointer beyond", "label beyond", "all ones", "wrong id", "other question"],
)
def test_a_malformed_answer_is_none_and_the_server_is_asked_again(rubbish: Script) -> None:
    tried: list[Asked] = []

    def script(asked: Asked) -> bytes | None:
        tried.append(asked)
        return rubbish(asked) if len(tried) == 1 else asked.names("good.test")

    assert told(script) == {b"REMOTEHOST": b"good.test"}


def test_a_server_that_only_talks_rubbish_is_a_failure() -> None:
    assert list(told(lambda asked: asked.names("a.test")[:-3])) == [b"ERROR"]


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("WWW.Example.TEST", b"www.example.test"),
        ((b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 61), b".".join([b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 61])),
        ((b"a" * 60,) * 5, None),
        ((b"a.b", b"test"), None),
        ((b"a b", b"test"), None),
        ((b"a\0b", b"test"), None),
        ((b"a\nb", b"test"), None),
        ((b"..", b"..", b"ip4"), None),
        ((b"a/b", b"test"), None),
        ((b"a=b", b"test"), None),
        ((b"a\\b", b"test"), None),
        ((b"\xff\xfe", b"test"), None),
        ((b"$(reboot)", b"test"), None),
        ((b"127", b"0", b"0", b"1"), None),
        ((b"@",), None),
        ((), None),
    ],
)
def test_names_are_hostile(name: str | tuple[bytes, ...], left: bytes | None) -> None:
    found = told(names(name))
    found.pop(b"ERROR", None)
    assert found == ({} if left is None else {b"REMOTEHOST": left})


def test_a_hostile_name_does_not_hide_a_good_one() -> None:
    assert told(names((b"a b", b"test"), "good.test")) == {b"REMOTEHOST": b"good.test"}


def test_paranoia_checks_the_names_in_turn_and_not_for_ever() -> None:
    assert told(names("a.test", "b.test", "c.test", b=CLIENT), paranoid=True) == {b"REMOTEHOST": b"b.test"}
    crowd = [f"n{number}.test" for number in range(8)]
    assert told(names(*crowd, n7=CLIENT), paranoid=True) == {b"REMOTEHOST": b"n7.test"}
    assert told(names("first.test", *crowd, n7=CLIENT), paranoid=True) == {}


def test_paranoia_follows_an_alias_and_tells_what_fails() -> None:
    def script(asked: Asked) -> bytes:
        if asked.kind == PTR:
            return asked.names("alias.test")
        return asked.reply((CNAME, wire("real.test")), (A, socket.inet_aton(CLIENT)))

    assert told(script, paranoid=True) == {b"REMOTEHOST": b"alias.test"}

    def failing(asked: Asked) -> bytes:
        return asked.names("a.test") if asked.kind == PTR else asked.reply(code=SERVFAIL)

    assert told(failing, paranoid=True) == {b"ERROR": b"DNS server returned general failure"}


def test_ipv6_clients_have_names_too() -> None:
    client, here = (socket.inet_pton(socket.AF_INET6, text) for text in ("2001:db8::1", "2001:db8::2"))

    def script(asked: Asked) -> bytes:
        if asked.kind == PTR:
            return asked.names("six.test" if asked.name.startswith("1.0.0.") else "here.test")
        return asked.reply((asked.kind, client)) if asked.kind == AAAA else asked.reply(code=NXDOMAIN)

    with Puppet(script) as puppet:
        both = {b"REMOTEHOST": b"six.test", b"LOCALHOST": b"here.test"}
        assert ask(puppet.address, LookupRequest(client, here, paranoid=True)) == both


def test_the_hosts_file_comes_first_if_wanted(real: str) -> None:
    local = "127.0.0.1"
    assert ask(real, request(local, hosts=True, paranoid=True)) == {b"REMOTEHOST": b"localhost"}
    assert ask(real, request(local)) == {}
    assert ask(real, request(CLIENT, hosts=True)) == {b"REMOTEHOST": b"one.test"}


def test_an_abandoned_lookup_does_not_answer() -> None:
    reactor = Reactor()
    answers: list[Found] = []
    with Puppet(names("a.test")) as puppet, identd(None) as client:
        resolver = Resolver(reactor, [puppet.address])
        lookup = Lookup(reactor, resolver, request(client, user=True), answers.append)
        lookup.abandon()
        resolver.names(socket.inet_aton(HERE), lambda _found, _why: reactor.soon(reactor.stop))
        reactor.run()
    reactor.close()
    assert answers == []


def many_names(number: int, *, forward: Script) -> Script:
    """A name server's script: addresses have so many names, over TCP alone."""
    many = [f"n{each}.{'x' * 60}.test" for each in range(number)]

    def script(asked: Asked) -> bytes | None:
        if asked.kind != PTR:
            return forward(asked)
        return asked.names(*many) if asked.tcp else asked.reply(truncated=True)

    return script


def test_of_many_names_the_first_eight_are_checked() -> None:
    with Puppet(many_names(500, forward=lambda asked: asked.reply(code=NXDOMAIN))) as puppet:
        assert ask(puppet.address, request(paranoid=True)) == {}
        kinds = [puppet.asked.get(timeout=PATIENCE).kind for _ in range(10)]
        assert kinds == [PTR, PTR, *[A] * 8] and puppet.asked.empty()


def test_an_answer_with_very_many_names_is_a_failure() -> None:
    """It comes in pieces, and nothing else is asked."""
    with Puppet(many_names(700, forward=lambda _: None)) as puppet:
        failure = {b"ERROR": b"too large an answer from a name server"}
        assert ask(puppet.address, request(paranoid=True)) == failure
        assert puppet.asked.qsize() == 2


def test_a_failure_ends_the_search_for_a_name_that_leads_back() -> None:
    with Puppet(many_names(8, forward=lambda asked: asked.reply(code=REFUSED))) as puppet:
        assert ask(puppet.address, request(paranoid=True)) == {b"ERROR": b"DNS server refused query"}
        kinds = [puppet.asked.get(timeout=PATIENCE).kind for _ in range(5)]
        assert kinds == [PTR, PTR, A, A, A] and puppet.asked.empty()


# IDENT


@contextlib.contextmanager
def identd(answer: Callable[[bytes], bytes] | None) -> Iterator[str]:
    """Answer one question on port 113 of a loopback address, which is the client's; None is silence until the end."""
    with bound(ident.PORT) as listener:
        listener.listen()
        over = threading.Event()

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    asked = connection.recv(1000)
                    if answer is None:
                        over.wait(PATIENCE)
                    else:
                        connection.sendall(answer(asked))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[0]
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def user(answer: Callable[[bytes], bytes] | None, patience: float = ident.TIMEOUT_S) -> Found:
    with identd(answer) as client:
        about = request(client, remote_name=False, user=True, remote_port=6193, local_port=23)
        return ask("127.0.0.1", about, patience)


def test_the_user_is_asked_for() -> None:
    asked: list[bytes] = []

    def answer(line: bytes) -> bytes:
        asked.append(line)
        return b"6193, 23 : USERID : UNIX : alice\r\n"

    assert user(answer) == {b"REMOTEINFO": b"alice"}
    assert asked == [b"6193, 23\r\n"]


def test_a_host_that_does_not_say_is_no_failure() -> None:
    assert user(lambda _: b"6193, 23 : ERROR : HIDDEN-USER\r\n") == {}
    with bound(ident.PORT) as nobody:
        client = nobody.getsockname()[0]
    assert ask("127.0.0.1", request(client, remote_name=False, user=True)) == {}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", b"IDENT: no whole answer"),
        (b"6193, 23 : USERID : UNIX : ali", b"IDENT: no whole answer"),
        (b"x" * 100_000, b"IDENT: no whole answer"),
        (b"6193, 24 : USERID : UNIX : alice\r\n", b"IDENT: answer to another question"),
        (b"6193, 23 : USERID : UNIX : a\0b\r\n", b"IDENT: unusable name in answer"),
        (b"6193, 23 : USERID : UNIX : " + b"a" * 600 + b"\r\n", b"IDENT: unusable name in answer"),
        (b"\xff\xfe\r\n", b"IDENT: answer to another question"),
    ],
    ids=["empty", "cut off", "too long", "another's", "NUL", "long name", "rubbish"],
)
def test_a_bad_answer_is_told(answer: bytes, reason: bytes) -> None:
    assert user(lambda _: answer) == {b"ERROR": reason}


def test_an_ident_server_has_its_time() -> None:
    assert user(None, patience=0.05) == {b"ERROR": b"IDENT: no answer in time"}


def test_nothing_stays_open() -> None:
    with Puppet(names("a.test")) as puppet, identd(lambda _: b"6193, 23 : USERID : UNIX : a\r\n") as client:
        before = len(os.listdir("/proc/self/fd"))
        reactor = Reactor()
        resolver = Resolver(reactor, [puppet.address])
        about = request(client, user=True, remote_port=6193, local_port=23)
        Lookup(reactor, resolver, about, lambda _: reactor.soon(reactor.stop))
        reactor.run()
        reactor.close()
        await_that(lambda: len(os.listdir("/proc/self/fd")) <= before)
