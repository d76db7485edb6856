"""The stage of s6-tlsd: what the next program is given, and when."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from s6tls.helper.reply import Reply
from s6tls.stages.tlsd import Tlsd
from s6tls.tls.credentials import SessionOptions, TlsParameters
from s6tls.tls.ends import Descriptors
from s6tls.ucspi.image import Image, Refused

TLS = {
    b"KEYFILE": b"/key",
    b"CERTFILE": b"/cert",
    b"KEYFILE:a.example": b"/key",
    b"CERTFILE:a.example": b"/cert",
    b"CADIR": b"/cas",
    b"CAFILE": b"/ca",
    b"TLS_UID": b"1",
    b"TLS_GID": b"1",
}
OTHERS = {b"PROTO": b"TCP", b"TCPREMOTEIP": b"192.0.2.1", b"TCPREMOTEPORT": b"4711", b"SSL_PEER_CERT_HASH": b"forged"}
TOLD = b"SSL_PROTOCOL=TLSv1.3\0SSL_CIPHER=x\0\0"


@dataclass
class Holder:
    """Keeps what is submitted, for the test to play the engine; or refuses."""

    refuse: bool = False
    submitted: list[tuple[Descriptors, str]] = field(default_factory=list)

    def prepare(self, parameters: TlsParameters) -> None:
        """Nothing is needed."""

    def submit(self, parameters: TlsParameters, fds: Descriptors, peer: str) -> Callable[[], int]:
        if self.refuse:
            raise Refused("s6-tlsd-io", 96, "no")
        self.submitted.append((fds, peer))
        return lambda: 97

    def notify(self, data: bytes) -> None:
        os.write(self.submitted[0][0].numbers[-1], data)

    def end(self) -> None:
        for fds, _ in self.submitted:
            fds.close()
        self.submitted.clear()


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
    handshake = Tlsd(SessionOptions(), keep, engine).apply(image)
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
    with pytest.raises(Refused) as refused:
        handshake.resume()
    assert (refused.value.code, str(refused.value)) == (97, "")
    handshake.close()


@pytest.mark.parametrize("said", [b"PATH=/tmp\0\0", b"SSL_CIPHER\0\0"])
def test_an_engine_that_says_something_else_is_111(engine: Holder, image: Image, said: bytes) -> None:
    handshake = apply(engine, image)
    engine.notify(said)
    with pytest.raises(Refused, match="unable to understand a process of ours") as refused:
        handshake.resume()
    assert refused.value.code == 111
    handshake.close()


def test_an_engine_that_never_stops_talking_is_111(engine: Holder, image: Image) -> None:
    handshake = apply(engine, image)
    with pytest.raises(Refused) as refused:
        while True:
            engine.notify(b"x" * 4096)
            handshake.resume()
    assert refused.value.code == 111
    handshake.close()


def test_a_refusal_leaves_the_connection_to_the_caller_and_no_pipe_behind(image: Image) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(Refused) as refused:
        Tlsd(SessionOptions(), False, Holder(refuse=True)).apply(image)
    assert refused.value.code == 96
    assert set(os.listdir("/proc/self/fd")) == before
    os.fstat(image.stdin)
