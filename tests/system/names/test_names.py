"""Clients have names: what is found out about them, what rules make of it, and what happens when nothing is.

A client's address is what it binds to, so that one machine is many clients.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.lookups import ACCESS, SHOW, command, rules, serving, silent, visit
from tests.support.nameserver import SERVFAIL, Puppet
from tests.support.servers import server
from tests.support.site import ALLOW, DENY, allow

# What is found out


def test_both_ends_have_names(real: str) -> None:
    with serving(real) as server:
        assert visit(server, "127.9.0.1") == "one.test here.test none"
        assert visit(server, "127.9.0.99") == "none here.test none"
        server.wait_log(r"^s6-tcpserver-access: info: allow pid \d+ ip 127\.9\.0\.99 rule none$")


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
            rule = r"reversedns/thief\.office\.test"
            server.wait_log(rf"^s6-tcpserver-access: info: deny pid {server.pid} ip 127\.9\.0\.3 rule {rule}$")
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
