"""The forms of log lines: text as it always was, and JSON that no client can forge or break."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from s6tls.posix import stderr
from s6tls.ucspi import log
from s6tls.ucspi.image import ClientFailure, Image, StageExit
from s6tls.ucspi.log import JSON, TEXT, Told, complaint, log_exit, log_start
from tests.support.children import in_child


@pytest.fixture
def as_json() -> Iterator[None]:
    log.use(JSON)
    yield
    log.use(TEXT)


def written(capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one object that has been written, but for its time, which is a moment with its offset."""
    (line,) = capfd.readouterr().err.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert datetime.fromisoformat(found.pop("time")).utcoffset() is not None
    return found


TOLD = Told("accept {ip}_{port} pid {pid}", ip="192.0.2.1", port=4711, pid=77)


def test_a_text_has_its_values_in_place() -> None:
    assert TOLD == "accept 192.0.2.1_4711 pid 77"
    both = TOLD.then(Told("end {end}", end="broken"))
    assert both == "accept 192.0.2.1_4711 pid 77 end broken"
    assert both.fields == {"ip": "192.0.2.1", "port": 4711, "pid": 77, "end": "broken"}


@pytest.mark.parametrize(
    ("client", "text", "fields"),
    [
        ("", "unable: why", {}),
        ("192.0.2.1_80", "unable with 192.0.2.1_80: why", {"ip": "192.0.2.1", "port": 80}),
        ("2001:db8::1_80", "unable with 2001:db8::1_80: why", {"ip": "2001:db8::1", "port": 80}),
        ("unix_", "unable with unix_: why", {"client": "unix_"}),
        ("{ip}", "unable with {ip}: why", {"client": "{ip}"}),
        ("a_٣", "unable with a_٣: why", {"client": "a_٣"}),
    ],
)
def test_a_complaint_names_the_client_whatever_it_is_called(client: str, text: str, fields: dict[str, object]) -> None:
    told = complaint("unable", "with", client, "why")
    assert told == text
    assert told.fields == {"event": "failure", **fields, "reason": "why"}


def test_text_is_the_usual_form(capfd: pytest.CaptureFixture[str]) -> None:
    log.log("s6-x", "info", TOLD)
    assert capfd.readouterr().err == "s6-x: info: accept 192.0.2.1_4711 pid 77\n"


def test_json_has_the_values_by_name(as_json: None, capfd: pytest.CaptureFixture[str]) -> None:
    log.log("s6-x", "info", TOLD)
    assert written(capfd) == {
        "program": "s6-x",
        "level": "info",
        "ip": "192.0.2.1",
        "port": 4711,
        "pid": 77,
        "message": "accept 192.0.2.1_4711 pid 77",
    }
    log.log("s6-x", "fatal", "plain")
    assert written(capfd) == {"program": "s6-x", "level": "fatal", "message": "plain"}


@pytest.mark.parametrize("failure", [StageExit, ClientFailure])
def test_a_stages_message_keeps_its_values(
    failure: type[StageExit], as_json: None, capfd: pytest.CaptureFixture[str]
) -> None:
    log_exit(failure("s6-x", 97, TOLD, kind="info"))
    assert written(capfd)["pid"] == 77
    image = Image({}, [])
    image.on_start.append(("s6-y", lambda pid: Told("allow pid {pid}", pid=pid)))
    log_start(image, 5)
    assert written(capfd) == {"program": "s6-y", "level": "info", "pid": 5, "message": "allow pid 5"}


@pytest.mark.parametrize("said", ['CN="x","pid":1', "a\nb", "a b pid 3", "\x1b[2J", "\u2028", "\ud800", "{ip}", "%d"])
def test_what_a_client_says_stays_one_value_on_one_line(
    said: str, as_json: None, capfd: pytest.CaptureFixture[str]
) -> None:
    log.log("s6-x", "info", Told("session pid {pid} subject {subject}", pid=77, subject=said))
    found = written(capfd)
    assert (found["pid"], found["subject"]) == (77, said)
    assert found["message"].isascii() and found["message"].isprintable()


@pytest.mark.parametrize("length", [3900, 4096, 5000, 100_000])
def test_a_long_line_is_cut_short_and_still_an_object(
    length: int, as_json: None, capfd: pytest.CaptureFixture[str]
) -> None:
    subject = "\x00" * length
    log.log("s6-x", "info", Told("pid {pid} subject {subject}", pid=77, subject=subject))
    line = capfd.readouterr().err
    assert 1000 < len(line) <= stderr.LONGEST
    found = json.loads(line)
    assert found["pid"] == 77 and found["subject"].endswith("...")
    log.log("s6-x", "info", "x" * 4000)
    assert json.loads(capfd.readouterr().err)["message"] == "x" * 4000 or length


def test_lines_that_were_lost_are_told_of_in_the_same_form(as_json: None) -> None:
    def lose() -> list[str]:
        reading, writing = os.pipe()
        stderr.redirect(writing)
        os.set_blocking(writing, False)
        for _ in range(2000):
            log.log("s6-x", "info", "x" * 100)
        os.set_blocking(reading, False)
        while len(os.read(reading, 2**20)) == 2**20:
            pass
        log.log("s6-x", "info", "again")
        return [json.loads(line)["message"] for line in os.read(reading, 2**20).splitlines()]

    said = in_child(lose)
    assert "'again', 'unable to log " in said and "lines: nobody read'" in said


def test_the_form_is_that_of_a_process_and_can_be_asked_for(as_json: None) -> None:
    assert log.form() == JSON
    assert json.loads(stderr.line("s6-x", "warning", "system call"))["program"] == "s6-x"
    log.use(TEXT)
    assert log.form() == TEXT
    assert stderr.line("s6-x", "warning", "system call") == b"s6-x: warning: system call\n"
