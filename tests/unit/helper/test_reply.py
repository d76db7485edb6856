"""Replies: what an unprivileged process may tell, and what is no reply."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.helper.reply import LARGEST, Answers, RefusalReply, Reply, encode, parse, refusal
from s6tls.ucspi.image import StageExit

NAMES = (b"A", b"B")
VALUES = st.binary(max_size=50).map(lambda value: value.replace(b"\0", b""))


class Spoken:
    """A reply on its way, and what becomes of it."""

    def __init__(self) -> None:
        reading, self.writing = os.pipe()
        os.set_blocking(reading, False)
        self.taken: list[dict[bytes, bytes]] = []
        self.reply = Reply(reading, "program", NAMES, Answers(self.taken.append, lambda: 97))

    def __enter__(self) -> Spoken:
        return self

    def __exit__(self, *error: object) -> None:
        self.reply.close()
        if self.writing >= 0:
            os.close(self.writing)

    def say(self, data: bytes) -> bool:
        os.write(self.writing, data)
        return self.reply.resume()

    def end(self) -> None:
        os.close(self.writing)
        self.writing = -1

    def refused(self) -> tuple[str, int, str]:
        with pytest.raises(StageExit) as caught:
            self.reply.resume()
        return caught.value.program, caught.value.code, str(caught.value)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_what_is_told_arrives(values: dict[bytes, bytes]) -> None:
    assert parse(encode(values), NAMES) == values


@given(st.binary())
def test_anything_else_is_no_reply(data: bytes) -> None:
    try:
        found = parse(data, NAMES)
    except (ValueError, RefusalReply):
        return
    assert set(found) <= set(NAMES)
    assert not any(b"\0" in value for value in found.values())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"A=1\0",
        b"A=1",
        b"A\0\0",
        b"C=1\0\0",
        b"A=1\0C=1\0\0",
        b"=1\0\0",
        b"A=1\0\0B=2\0\0",
        b"!0 fine\0\0",
        b"!256 much\0\0",
        b"!0001 zeros in front\0\0",
        b"!" + b"0" * 5000 + b"1 more digits than int() takes\0\0",
        b"!x\0\0",
        b"!\0\0",
        b"!-1 minus\0\0",
        b"A=" + b"x" * LARGEST + b"\0\0",
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(ValueError, match="malformed reply"):
        parse(data, NAMES)


def test_a_refusal_has_a_code_and_text_that_is_harmless_in_a_log() -> None:
    with pytest.raises(RefusalReply, match=r"^caf\\xe9\\u20ac$") as caught:
        parse(refusal(99, "caf\xe9\u20ac"), NAMES)
    assert caught.value.code == 99
    assert len(refusal(1, "long" * 10_000)) < 1100


def test_a_reply_comes_in_pieces() -> None:
    with Spoken() as spoken:
        assert not spoken.reply.resume()
        assert not spoken.say(b"A=1\0B")
        assert not spoken.say(b"=2\0")
        assert spoken.say(b"\0")
        assert spoken.taken == [{b"A": b"1", b"B": b"2"}]


def test_silence_is_the_end_of_the_process() -> None:
    with Spoken() as spoken:
        assert not spoken.say(b"A=1\0")
        spoken.end()
        assert spoken.refused() == ("program", 97, "")
        assert spoken.taken == []


def test_refusals_and_nonsense_refuse() -> None:
    with Spoken() as spoken:
        os.write(spoken.writing, refusal(99, "took too long"))
        assert spoken.refused() == ("program", 99, "took too long")
    with Spoken() as spoken:
        os.write(spoken.writing, b"SHELL=/bin/evil\0\0")
        assert spoken.refused() == ("program", 111, "unable to understand a helper process: malformed reply")


def test_a_process_that_never_comes_to_an_end_is_cut_short() -> None:
    with Spoken() as spoken:
        piece = b"A=" + b"x" * 30_000
        assert not spoken.say(piece)
        assert not spoken.say(piece)
        os.write(spoken.writing, piece)
        assert spoken.refused()[1] == 111
