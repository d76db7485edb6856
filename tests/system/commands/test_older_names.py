"""Names and options from before s6-networking 2.6: s6-tcpserver4, s6-tcpserver6d, -4, -6, -e."""

from __future__ import annotations

from types import ModuleType

import pytest

from s6tls.cli import s6_tcpserver4, s6_tcpserver4d, s6_tcpserver6, s6_tcpserver6d
from tests.support.certified import Certified
from tests.support.commands import run, said, synopsis
from tests.support.servers import server

ADDRESS = {"4": "127.0.0.1", "6": "::1"}
OTHER = {"4": "6", "6": "4"}
each_family = pytest.mark.parametrize("family", ["4", "6"])


@each_family
def test_the_old_server_serves_its_family(family: str) -> None:
    words = [f"s6-tcpserver{family}", "-v", ADDRESS[family], "0", "sh", "-c", "echo $PROTO $TCPREMOTEIP; cat"]
    with server(words) as s:
        assert s.exchange(b"data", ADDRESS[family]) == f"TCP {ADDRESS[family]}\ndata".encode()
        s.wait_log(r"^s6-tcpserverd: info: end pid \d+ exitcode 0 count 0/40$")


@each_family
def test_the_old_daemon_serves_a_socket_of_its_family(family: str) -> None:
    binder = ["s6-tcpserver-socketbinder", ADDRESS[family], "0", f"s6-tcpserver{family}d", "-v2", "-c", "7", "-C", "3"]
    with server([*binder, "cat"]) as s:
        s.wait_log(r"^s6-tcpserverd: info: status: 0/7$")
        assert s.exchange(b"data", ADDRESS[family]) == b"data"


@each_family
@pytest.mark.parametrize("words", [["s6-tcpserver{}"], ["s6-tcpserver", "-{}"], ["s6-tlsserver", "-{}"]], ids=" ".join)
def test_an_address_of_the_other_family_is_wrong_usage(words: list[str], family: str) -> None:
    ip = ADDRESS[OTHER[family]]
    code, stderr = said([*(word.format(family) for word in words), ip, "0", "true"])
    assert (code, f"the address is not of the family asked for: {ip}; " in stderr) == (100, True)


@each_family
def test_a_socket_of_the_other_family_is_100(family: str) -> None:
    words = ["s6-tcpserver-socketbinder", ADDRESS[OTHER[family]], "0", f"s6-tcpserver{family}d", "true"]
    message = f"s6-tcpserver{family}d: fatal: stdin is a socket of another address family\n"
    assert said(words) == (100, message)
    assert said([f"s6-tcpserver{family}d", "true"])[0] == 100


@each_family
def test_the_family_as_an_option(family: str) -> None:
    with server(["s6-tcpserver", f"-{family}", ADDRESS[family], "0", "cat"]) as s:
        assert s.exchange(b"data", ADDRESS[family]) == b"data"


@each_family
@pytest.mark.parametrize("program", ["s6-tcpserver", "s6-tlsserver"])
def test_the_last_of_two_families_counts(program: str, family: str, certified: Certified) -> None:
    words = [program, f"-{OTHER[family]}", f"-{family}"]
    with server([*words, ADDRESS[family], "0", "true"], certified.env) as s:
        assert s.exchange(host=ADDRESS[family]) == b""
    ip = ADDRESS[OTHER[family]]
    code, stderr = said([*words, ip, "0", "true"], certified.env)
    assert (code, f"the address is not of the family asked for: {ip}; " in stderr) == (100, True)


def test_e_runs_the_access_stage_in_any_case(certified: Certified) -> None:
    """Without it -H leaves nothing to do there, and nothing is logged."""
    for options, lines in ((["-H"], 0), (["-H", "-e"], 1)):
        with server(["s6-tlsserver", "-v", *options, "-4", "127.0.0.1", "0", "cat"], certified.env) as s:
            with s.connect() as plain, certified.client.wrap_socket(plain, server_hostname="localhost") as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
            s.wait_log(r"^s6-tcpserverd: info: end pid \d+ ")
            assert s.log().count("s6-tcpserver-access: info: allow pid ") == lines


@pytest.mark.parametrize("command", [s6_tcpserver4, s6_tcpserver6, s6_tcpserver4d, s6_tcpserver6d])
def test_help_is_theirs(command: ModuleType) -> None:
    done = run([synopsis(command).program, "--help"])
    assert (done.returncode, done.stdout) == (0, synopsis(command).help())
