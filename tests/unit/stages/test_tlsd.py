"""The stage of s6-tlsd: what the next program is given, and when."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from s6tls.helper.reply import Reply
from s6tls.stages.tlsd import Tlsd, Welcome
from s6tls.tls.credentials import SessionOptions
from s6tls.ucspi.image import Image, StageExit
from tests.support.tls.stages import OTHERS, TLS, Holder

TOLD = b"SSL_PROTOCOL=TLSv1.3\0SSL_CIPHER=x\0\0"


@pytest.fixture
def engine() -> Iterator[Holder]:
    engine = Holder()
    yield engine
    engine.end()


@pytest.fixture
def image() -> Iterator[Image]:
    net = os.open("/dev/null", os.O_RDWR)
    image = Image(TLS | OTHERS, [b"prog"], net, net)
    yield image
    image.close()


def apply(engine: Holder, image: Image, keep: bool = False) -> Reply:
    handshake = Tlsd(SessionOptions(), Welcome(keep), engine).apply(image)
    os.set_blocking(handshake.fd, False)
    return handshake


def test_the_program_waits_for_the_handshake(engine: Holder, image: Image) -> None:
    handshake = apply(engine, image)
    assert engine.submitted[0][1] == "192.0.2.1_4711"
    assert not handshake.resume()
    engine.notify(TOLD[:10])
    assert not handshake.resume()
    engine.notify(TOLD[10:])
    assert handshake.resume()
    handshake.close()


@pytest.mark.parametrize("keep", [False, True])
def test_variables_of_the_session_replace_what_was_there(engine: Holder, image: Image, keep: bool) -> None:
    handshake = apply(engine, image, keep)
    engine.notify(TOLD)
    assert handshake.resume()
    handshake.close()
    about_session = {b"SSL_PROTOCOL": b"TLSv1.3", b"SSL_CIPHER": b"x"}
    rest = {name: value for name, value in OTHERS.items() if not name.startswith(b"SSL_")}
    assert image.env == about_session | rest | (TLS if keep else {})


def test_the_program_talks_to_the_engine(engine: Holder, image: Image) -> None:
    apply(engine, image).close()
    fds = engine.submitted[0][0]
    os.write(fds.to_program, b"request")
    os.write(image.stdout, b"answer")
    assert (os.read(image.stdin, 100), os.read(fds.from_program, 100)) == (b"request", b"answer")


def test_an_engine_that_ends_without_a_handshake_is_97_and_has_said_why(engine: Holder, image: Image) -> None:
    handshake = apply(engine, image)
    engine.end()
    with pytest.raises(StageExit) as refused:
        handshake.resume()
    assert (refused.value.code, str(refused.value)) == (97, "")
    handshake.close()


@pytest.mark.parametrize("said", [b"PATH=/tmp\0\0", b"SSL_CIPHER\0\0"])
def test_an_engine_that_says_something_else_is_111(engine: Holder, image: Image, said: bytes) -> None:
    handshake = apply(engine, image)
    engine.notify(said)
    with pytest.raises(StageExit, match="unable to understand a helper process") as refused:
        handshake.resume()
    assert refused.value.code == 111
    handshake.close()


def test_an_engine_that_never_stops_talking_is_111(engine: Holder, image: Image) -> None:
    handshake = apply(engine, image)
    with pytest.raises(StageExit) as refused:
        while True:
            engine.notify(b"x" * 4096)
            handshake.resume()
    assert refused.value.code == 111
    handshake.close()


def test_a_refusal_leaves_the_connection_to_the_caller_and_no_pipe_behind(image: Image) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(StageExit) as refused:
        Tlsd(SessionOptions(), Welcome(), Holder(refuse=True)).apply(image)
    assert refused.value.code == 96
    assert set(os.listdir("/proc/self/fd")) == before
    os.fstat(image.stdin)


@pytest.fixture
def crowd(engine: Holder) -> Iterator[list[tuple[Image, Reply]]]:
    """Clients in their handshakes, the first of which have been waiting for longer than the others."""
    engine.gives_accounts = True
    stage = Tlsd(SessionOptions(handshake_timeout_ms=1000), Welcome(), engine)
    clients = []
    for _ in range(10):
        net = os.open("/dev/null", os.O_RDWR)
        image = Image(TLS | OTHERS, [b"prog"], net, net)
        clients.append((image, stage.apply(image)))
    yield clients
    for image, reply in clients:
        if image.session is not None:
            image.session.close()
        reply.close()
        image.close()


def test_most_clients_in_their_handshake_have_two_descriptors_open(crowd: list[tuple[Image, Reply]]) -> None:
    opened = [len({image.stdin, image.stdout, image.network, reply.fd} - {None}) for image, reply in crowd]
    assert opened == [2] * 6 + [4] * 4


@pytest.mark.parametrize("number", [0, 9])
def test_what_was_put_away_is_the_programs_in_the_end(
    engine: Holder, crowd: list[tuple[Image, Reply]], number: int
) -> None:
    image, reply = crowd[number]
    fds, _ = engine.submitted[number]
    os.write(fds.numbers[-1], TOLD)
    assert reply.resume()
    os.write(fds.to_program, b"request")
    os.write(image.stdout, b"answer")
    assert (os.read(image.stdin, 100), os.read(fds.from_program, 100)) == (b"request", b"answer")
    assert image.network is None


@pytest.mark.parametrize("number", [0, 9])
def test_the_server_can_end_the_connection_of_a_client_that_is_late(
    crowd: list[tuple[Image, Reply]], number: int
) -> None:
    image, reply = crowd[number]
    assert reply.deadline is not None
    assert reply.deadline.give_up is not None
    reply.deadline.give_up()
    assert image.network is not None
    assert os.path.samestat(os.fstat(image.network), os.stat("/dev/null"))
    assert (
        str(reply.deadline.refusal())
        == "unable to complete the handshake with 192.0.2.1_4711: the handshake took too long"
    )
