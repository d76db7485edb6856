"""The stage of s6-ucspitlsd: what the program is given."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from s6tls.stages.ucspitlsd import Ucspitlsd
from s6tls.tls.credentials import SessionOptions
from s6tls.ucspi.image import Image, StageExit
from tests.support.tls.stages import OTHERS, TLS, Holder

WAYS = (b"SSLCTLFD", b"SSLREADFD", b"SSLWRITEFD")


@pytest.fixture
def holder() -> Iterator[Holder]:
    holder = Holder()
    yield holder
    holder.end()


@pytest.fixture
def image() -> Iterator[Image]:
    ours, theirs = socket.socketpair()
    net = ours.detach()
    image = Image(TLS | OTHERS, [b"prog"], net, net)
    with theirs:
        yield image
        image.close()


@pytest.mark.parametrize("keep", [False, True])
def test_the_program_learns_its_ways_and_nothing_about_keys_or_other_sessions(
    holder: Holder, image: Image, keep: bool
) -> None:
    Ucspitlsd(SessionOptions(), keep, holder).apply(image)
    rest = {b"UCSPITLS": b""} | {name: value for name, value in OTHERS.items() if not name.startswith(b"SSL_")}
    numbers = {int(image.env[name]) for name in WAYS}
    assert image.extra.keys() == numbers and len(numbers) == 3
    assert {name: value for name, value in image.env.items() if name not in WAYS} == rest | (TLS if keep else {})


def test_what_is_said_of_delayed_encryption_already_stays(holder: Holder, image: Image) -> None:
    image.env[b"UCSPITLS"] = b"!"
    Ucspitlsd(SessionOptions(), False, holder).apply(image)
    assert image.env[b"UCSPITLS"] == b"!"


def test_the_ways_lead_to_an_engine_that_waits(holder: Holder, image: Image) -> None:
    Ucspitlsd(SessionOptions(), False, holder).apply(image)
    (fds, peer), control = holder.submitted[0], image.extra[int(image.env[b"SSLCTLFD"])]
    assert peer == "192.0.2.1_4711"
    os.write(fds.to_program, b"request")
    os.write(image.extra[int(image.env[b"SSLWRITEFD"])], b"answer")
    assert os.read(image.extra[int(image.env[b"SSLREADFD"])], 100) == b"request"
    assert os.read(fds.from_program, 100) == b"answer"
    os.write(control, b"Y")
    assert os.read(fds.numbers[-1], 100) == b"Y"
    os.write(fds.numbers[-1], b"\0\0")
    assert os.read(control, 100) == b"\0\0"


def test_program_and_engine_have_the_network_each_for_itself(holder: Holder, image: Image) -> None:
    net = image.stdin
    Ucspitlsd(SessionOptions(), False, holder).apply(image)
    fds = holder.submitted[0][0]
    assert (image.stdin, image.stdout) == (net, net) and fds.net_in != net
    assert os.path.sameopenfile(fds.net_in, net) and os.path.sameopenfile(fds.net_out, net)


def test_what_a_later_stage_refuses_closes_the_control_socket(holder: Holder, image: Image) -> None:
    Ucspitlsd(SessionOptions(), False, holder).apply(image)
    image.close()
    assert os.read(holder.submitted[0][0].numbers[-1], 1) == b""


def test_a_refusal_leaves_the_connection_and_no_descriptor_behind(image: Image) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(StageExit) as refused:
        Ucspitlsd(SessionOptions(), False, Holder(refuse=True)).apply(image)
    assert refused.value.code == 96
    assert set(os.listdir("/proc/self/fd")) == before and not image.extra
    os.fstat(image.stdin)
