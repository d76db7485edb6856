"""--log-format=json: each line of servers, what they start, and commands is an object that says what text does."""

from __future__ import annotations

import json
import os
import re
import signal
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support import peers, servers
from tests.support.commands import UCSPI, run, said
from tests.support.site import ALLOW, DENY, Site, allow

FATAL = '"level":"fatal"'


def objects(log: str) -> list[dict[str, Any]]:
    """The objects of a log: all have a time, a program, a level and a message."""
    found = [json.loads(line) for line in log.splitlines()]
    for one in found:
        assert datetime.fromisoformat(one["time"]).utcoffset() is not None
        assert one["level"] in ("fatal", "warning", "info") and one["program"] and one["message"]
    return found


def of(found: list[dict[str, Any]], **fields: object) -> dict[str, Any]:
    """The one object that has these fields."""
    (one,) = [one for one in found if fields.items() <= one.items()]
    return one


def test_a_server_its_pools_and_engines_write_objects(tmp_path: Path) -> None:
    site = Site(tmp_path, "connection")
    (tmp_path / "broken.pem").write_text("nonsense")
    rules = {
        "ip4/127.0.0.1_32": ALLOW,
        "ip4/127.0.0.2_32": DENY,
        "ip4/127.0.0.3_32": allow(KEYFILE=str(tmp_path / "broken.pem")),
    }
    by = peers.context(site.authority.file)
    with site.serve("cat", options=("--log-format=json", "-x", site.compile(rules))) as server:
        assert peers.answer(server, by, b"hello") == b"hello"
        assert peers.refused(server, by, source="127.0.0.2")
        with peers.connect(server) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            servers.read_all(plain)
        server.wait_log("http request")
        server.signal(signal.SIGUSR1)
        server.wait_log("the key of ")
        assert peers.refused(server, by, source="127.0.0.3")
        server.wait_log(FATAL)
        server.wait_log(r'"event":"session"')
        for child in server.children():
            with open(f"/proc/{child}/cmdline") as file:
                if "keeper" in file.read():
                    os.kill(child, signal.SIGKILL)
        server.wait_log("was ended by SIGKILL")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        found = objects(server.log())
    client = {"ip": "127.0.0.1"}
    accepted = next(one for one in found if one.get("event") == "accept")
    assert of(found, event="starting")["port"] == server.port
    session = of(found, event="session", **client)
    assert (session["in"], session["out"], session["protocol"], session["end"]) == (5, 5, "TLSv1.3", "ended")
    assert (session["pid"], session["port"], session["name"]) == (accepted["pid"], accepted["port"], "localhost")
    assert of(found, event="end", pid=accepted["pid"])["exitcode"] == 0
    assert of(found, event="deny")["rule"] == "ip4/127.0.0.2_32"
    assert of(found, event="failure", reason="http request")["ip"] == "127.0.0.1"
    assert of(found, level="fatal")["program"] == "s6-tlsd-io"


def test_the_messages_are_those_of_the_text(tmp_path: Path) -> None:
    logs = []
    for options in ((), ("--log-format=json",)):
        with servers.tcpserver("-v", "-c", "1", *options, "--", "true") as server:
            assert server.exchange() == b""
            server.wait_log(r"end pid \d+ exitcode 0(.|\n)*status: 0/1")
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            server.wait_log("exiting")
            logs.append(server.log())
    text, log = logs
    lines = [f"{one['program']}: {one['level']}: {one['message']}" for one in objects(log)]
    assert without_numbers(lines) == without_numbers(text.splitlines())


def without_numbers(lines: list[str]) -> list[str]:
    return [re.sub(r"\d+", "N", line) for line in lines]


@pytest.mark.parametrize(
    ("words", "code", "program", "message"),
    [
        (["s6-tcpserver-access"], 100, "s6-tcpserver-access", "PROTO not set"),
        (["s6-connlimit"], 100, "s6-connlimit", "PROTO not set"),
        (["s6-envdir", "--", "/nosuch"], 111, "s6-envdir", "unable to envdir /nosuch: No such file or directory"),
        (["s6-envuidgid", "--", "nosuch"], 1, "s6-envuidgid", "unknown user: nosuch"),
        (["s6-tlsd"], 96, "s6-tlsd-io", "KEYFILE not set"),
        (["s6-ucspitlsd"], 96, "s6-tlsd-io", "KEYFILE not set"),
        (["s6-applyuidgid", "-U"], 100, "s6-applyuidgid", "UID not set"),
    ],
)
def test_commands_of_the_chain_write_objects(words: list[str], code: int, program: str, message: str) -> None:
    program_words = [words[0], "--log-format=json", *words[1:], "true"]
    found_code, log = said(program_words)
    (one,) = objects(log)
    assert (found_code, one["program"], one["message"]) == (code, program, message)


def test_the_helper_and_the_engine_of_a_command_write_objects(tmp_path: Path) -> None:
    site = Site(tmp_path, "connection")
    done = run(["s6-tlsd", "--log-format=json", "cat"], {**site.env, **UCSPI}, given="GET / HTTP/1.0\r\n\r\n")
    (one,) = objects(done.stderr)
    assert (one["event"], one["level"], one["ip"]) == ("failure", "fatal", UCSPI["TCPREMOTEIP"])
    assert "reason" in one
