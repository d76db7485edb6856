"""How much and how often a client may connect, with real servers: limits, rates, and what is said of them."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.servers import BIN, greeted, read_all, tcpserver


def test_a_flood_of_clients_over_the_limit_of_an_address_is_few_lines() -> None:
    with tcpserver("-C", "1", "--", "sh", "-c", "echo hello; exec cat") as s, s.connect() as first:
        assert greeted(first) == b"hello\n"
        assert [s.exchange() for _ in range(10)] == [b""] * 10
        s.signal(signal.SIGTERM)
        assert s.wait() == 0
        most = "most of 127.0.0.1, which has 1 connections, 0 of them in a handshake"
        s.wait_log(f"^s6-tcpserverd: info: rejected 9 clients over -C, {most}$")
        assert s.log().count("\n") == 2


def test_a_client_over_its_rate_is_disconnected_ahead_of_everything() -> None:
    with tcpserver("--rate=2/3600,3", "--", "s6-tcpserver-access", "-v0", "-B", "banner", "echo") as s:
        assert [s.exchange() for _ in range(5)] == [b"banner\n"] * 3 + [b""] * 2
        with s.connect(source="127.0.0.2") as other:
            assert read_all(other) == b"banner\n"
        s.wait_log(r"^s6-tcpserverd: info: reject 127.0.0.1_\d+ rate 2/3600,3$")
        s.signal(signal.SIGTERM)
        assert s.wait() == 0


@pytest.mark.parametrize("verbosity", ["-Q", "-v"])
def test_a_rule_says_how_often_its_clients_may_connect(tmp_path: Path, verbosity: str) -> None:
    env = tmp_path / "ip4/127.0.0.0_29/env"
    env.mkdir(parents=True)
    (env / "TCPCONNRATE").write_text("2/3600\n")
    for network in ("127.0.0.0_29", "127.0.0.8_29"):
        (tmp_path / "ip4" / network).mkdir(exist_ok=True)
        (tmp_path / "ip4" / network / "allow").touch()
    access = ["s6-tcpserver-access", "-H", "-v0", "-i", str(tmp_path), "s6-connlimit", "s6-connlimit"]
    with tcpserver(verbosity, "--", *access, "echo", "hi") as s:
        assert [s.exchange() for _ in range(6)] == [b"hi\n"] * 2 + [b""] * 4
        for other in ("127.0.0.2", "127.0.0.9"):
            with s.connect(source=other) as client:
                assert read_all(client) == b"hi\n"
        s.wait_log(r"^s6-tcpserverd: info: reject 127\.0\.0\.1_\d+ rate 2/3600,2 rule ip4/127\.0\.0\.0_29$")
        (env / "TCPCONNRATE").write_text("2 an hour\n")
        assert s.exchange() == b""
        s.wait_log(r"^s6-connlimit: fatal: invalid TCPCONNRATE: expected number/seconds\[,burst\], none of them 0$")
        s.signal(signal.SIGTERM)
        assert s.wait() == 0
        s.wait_log("^s6-tcpserverd: info: rejected 3 clients over the rate of their rule, most of 127.0.0.1$")


@pytest.mark.parametrize("rate", ["", "1", "1/0", "0/1", "1/1,0", "1/1,", "1/1,1,1", "-1/1", "1 /1", "1/9999999999"])
def test_a_rate_is_two_or_three_numbers(rate: str) -> None:
    done = subprocess.run([f"{BIN}/s6-tcpserver", f"--rate={rate}", "127.0.0.1", "0", "true"], capture_output=True)
    assert done.returncode == 100
    expected = f"invalid value for --rate: {rate} (expected number/seconds[,burst], none of them 0)"
    assert done.stderr.decode().startswith(f"s6-tcpserver: usage: {expected}; ")


@pytest.mark.parametrize("length", ["0", "129", "/64"])
def test_a_prefix_is_that_of_an_ipv6_address(length: str) -> None:
    words = [f"{BIN}/s6-tcpserver", f"--client-prefix={length}", "127.0.0.1", "0", "true"]
    done = subprocess.run(words, capture_output=True)
    assert done.returncode == 100
    assert f"invalid value for --client-prefix: {length} (expected 1 to 128)" in done.stderr.decode()


def test_at_verbosity_2_the_limit_and_its_end_are_told() -> None:
    with tcpserver("-v", "-c", "1", "--", "cat") as s:
        for _ in range(2):
            assert s.exchange(b"x") == b"x"
        s.wait_log("^s6-tcpserverd: warning: limit -c reached: 1 connections, 0 of them in a handshake$", 2)
        s.wait_log("^s6-tcpserverd: info: limit -c no longer reached$", 2)
