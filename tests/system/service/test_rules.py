"""A client's address decides about everything: whether it is served, by what, under which key, as whom."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from s6tls.accessrules import Rule
from s6tls.posix.identity import own_account
from tests.support import peers, processes
from tests.support.servers import Server, read_all
from tests.support.site import ALLOW, DENY, ENDED, Authority, Rules, Site, allow, of

Form = Callable[[Site, Rules], tuple[str, str]]


def as_file(site: Site, rules: Rules) -> tuple[str, str]:
    return "-x", site.compile(rules)


def as_directory(site: Site, rules: Rules) -> tuple[str, str]:
    return "-i", site.write(rules)


both_forms = pytest.mark.parametrize("form", [as_file, as_directory], ids=["cdb", "directory"])


def net(number: int, length: int = 32) -> str:
    return f"ip4/127.0.0.{number}_{length}"


def host(number: int) -> str:
    return f"127.0.0.{number}"


@both_forms
def test_each_address_meets_its_rule(site: Site, form: Form) -> None:
    rules = {
        net(1): allow(WHO="one"),
        net(2): allow(WHO="two"),
        net(3): DENY,
        net(8, 29): allow(WHO="eight and on"),
        net(10): DENY,
        net(11): allow(exec="echo instead"),
        net(12): Rule(True, ((b"WHO", b"\xff\xfe = x"),)),
        "ip4/0.0.0.0_1": DENY,
    }
    by = peers.context(site.authority.file)
    env = {**site.env, "WHO": "nobody"}
    with site.serve("sh", "-c", 'exec echo "$WHO"', options=form(site, rules), env=env) as server:
        expected = {
            1: (b"one", net(1)),
            2: (b"two", net(2)),
            8: (b"eight and on", net(8, 29)),
            9: (b"eight and on", net(8, 29)),
            12: (b"\xff\xfe = x", net(12)),
        }
        for number, (who, rule) in expected.items():
            assert peers.answer(server, by, source=host(number)) == who + b"\n"
            server.wait_log(rf"^s6-tcpserver-access: info: allow pid \d+ ip {host(number)} rule {rule}$")
        for number, rule in ((3, net(3)), (4, "ip4/0.0.0.0_1"), (10, net(10))):
            with peers.connect(server, source=host(number)) as client:
                assert read_all(client) == b""
            server.wait_log(rf"^s6-tcpserver-access: info: deny pid {server.pid} ip {host(number)} rule {rule}$")
            server.wait_log(f"{ENDED} 1 count 0/40$")
        with peers.connect(server, source=host(11)) as client:
            assert read_all(client) == b"instead\n"


@both_forms
def test_unknown_addresses_are_denied(site: Site, form: Form) -> None:
    by = peers.context(site.authority.file)
    with site.serve("echo", "hello", options=form(site, {net(1): ALLOW})) as server:
        assert peers.answer(server, by) == b"hello\n"
        assert peers.refused(server, by, source=host(2))
        server.wait_log(r"deny pid \d+ ip 127\.0\.0\.2 rule none$")


def test_without_a_rule_set_everybody_is_served(site: Site) -> None:
    with site.serve("echo", "hello") as server:
        assert peers.answer(server, peers.context(site.authority.file), source=host(200)) == b"hello\n"


def test_without_v_nothing_is_said_of_the_denied(site: Site) -> None:
    rules = {net(1): ALLOW, net(2): DENY}
    by = peers.context(site.authority.file)
    with site.serve("echo", "hello", options=("-q", "-x", site.compile(rules))) as server:
        assert peers.refused(server, by, source=host(2))
        assert peers.answer(server, by) == b"hello\n"
        assert server.log() == ""


@both_forms
def test_a_rule_brings_its_own_key(site: Site, form: Form) -> None:
    other = site.authority.issue("other.example")
    by = peers.context(site.authority.file)
    by.check_hostname = False
    with site.serve("env", "-0", options=form(site, {net(1): ALLOW, net(2): allow(**of(other))})) as server:
        for number, name in [(1, "localhost"), (2, "other.example"), (1, "localhost")]:
            with peers.dial(server, by, source=host(number)) as client:
                assert peers.serial(client) == name
                assert not {b"KEYFILE", b"CERTFILE"} & set(peers.environment(peers.read_all(client)))


def test_only_rules_name_keys(site: Site) -> None:
    """No default pair at all: whoever's rule names one is served, the rest are refused."""
    by = peers.context(site.authority.file)
    rules = {net(1): allow(**of(site.pair)), net(2): ALLOW}
    with site.serve("echo", "hello", options=("-x", site.compile(rules)), env={}) as server:
        server.wait_log("^s6-tlsd-io: warning: KEYFILE not set: only clients whose rule sets it are served$")
        assert peers.answer(server, by) == b"hello\n"
        assert peers.refused(server, by, source=host(2))
        server.wait_log("^s6-tlsd-io: fatal: KEYFILE not set$")
        server.wait_log(f"{ENDED} 96 count 0/40$")


def authority(site: Site, name: str) -> Authority:
    place = site.place / name
    place.mkdir()
    return Authority(place)


@pytest.mark.parametrize("version", peers.VERSIONS)
def test_a_rule_brings_its_own_authority_for_clients(site: Site, version: ssl.TLSVersion) -> None:
    """Each network has an authority of its own; a certificate for one opens nothing in the other's."""
    authorities = {1: authority(site, "first"), 2: authority(site, "second")}
    rules = {net(number): allow(CAFILE=authorities[number].file) for number in authorities}
    by = {
        number: peers.context(site.authority.file, version, authorities[number].issue("client.example"))
        for number in authorities
    }
    program = ("sh", "-c", "exec echo $SSL_PEER_CERT_SUBJECT")
    with site.serve(*program, options=("-y", "-x", site.compile({**rules, net(3): ALLOW}))) as server:
        for number in authorities:
            assert b"CN=client.example" in peers.answer(server, by[number], source=host(number))
            assert peers.refused(server, by[3 - number], source=host(number))
            assert peers.refused(server, peers.context(site.authority.file, version), source=host(number))
        server.wait_log("unable to complete the handshake with .*certificate", 4)
        assert peers.refused(server, by[1], source=host(3))
        server.wait_log("^s6-tlsd-io: fatal: client certificates asked for, but no CADIR or CAFILE set$")
        server.wait_log(f"{ENDED} 96 count 0/40$")


def test_a_directory_of_authorities(site: Site) -> None:
    first, second = authority(site, "first"), authority(site, "second")
    directory = site.place / "trusted"
    directory.mkdir()
    for number, trusted in enumerate((first, second)):
        (directory / f"{number}.pem").write_bytes(Path(trusted.file).read_bytes())
    stranger = authority(site, "stranger").issue("client.example")
    with site.serve("echo", "in", options=("-y",), env={**site.env, "CADIR": str(directory)}) as server:
        for known in (first, second):
            by = peers.context(site.authority.file, pair=known.issue("client.example"))
            assert peers.answer(server, by) == b"in\n"
        assert peers.refused(server, peers.context(site.authority.file, pair=stranger))


def engine_ids(server: Server, by: ssl.SSLContext, number: int) -> tuple[list[str], list[str], str]:
    with peers.dial(server, by, source=host(number)) as client:
        client.sendall(b"!")
        assert client.recv(1) == b"!"
        status = processes.status(processes.engine(server, client))
        return status["Uid"].split(), status["Gid"].split(), status["Groups"]


@both_forms
def test_a_rule_brings_the_ids_of_its_engine(site: Site, form: Form) -> None:
    rules = {
        net(1): ALLOW,
        net(2): allow(TLS_UID="64050", TLS_GID="64051"),
        net(3): allow(TLS_UID="64060", TLS_GID=None),
        net(4): allow(TLS_UID="none"),
        net(5): allow(TLS_GID="4294967295"),
        net(6): allow(TLS_UID="0"),
        net(7): allow(TLS_UID=None, TLS_GID=None),
    }
    own = own_account("s6tls-engine")
    by = peers.context(site.authority.file)
    with site.serve("cat", options=form(site, rules)) as server:
        assert engine_ids(server, by, 1) == (["64001"] * 4, ["64002"] * 4, "")
        assert engine_ids(server, by, 2) == (["64050"] * 4, ["64051"] * 4, "")
        assert engine_ids(server, by, 3) == (["64060"] * 4, ["64060"] * 4, "")
        assert engine_ids(server, by, 7) == ([str(own.uid)] * 4, [str(own.gid)] * 4, "")
        for number in (4, 5, 6):
            assert peers.refused(server, by, source=host(number))
            server.wait_log(f"{ENDED} 96 count 0/40$", number - 3)
        server.wait_log("^s6-tlsd-io: fatal: TLS_[UG]ID: invalid id: .", 2)
        server.wait_log("^s6-tlsd-io: fatal: engines run as user 0 and group 64002 only with --allow-root-engine$")


def test_without_execlineb_a_rule_with_exec_refuses(site: Site) -> None:
    """The rule asked for something else to run: the ordinary program is not run instead."""
    rules = {net(1): allow(exec="echo instead", PATH="/usr/bin"), net(2): ALLOW}
    by = peers.context(site.authority.file)
    env = {**site.env, "PATH": "/nowhere"}
    with site.serve("/bin/echo", "ordinary", options=("-x", site.compile(rules)), env=env) as server:
        with peers.connect(server) as client:
            assert read_all(client) == b""
        server.wait_log("fatal: unable to exec execlineb: ")
        server.wait_log(f"{ENDED} 127 count 0/40$")
        assert peers.answer(server, by, source=host(2)) == b"ordinary\n"
