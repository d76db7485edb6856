"""Directories of environment variables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.accessrules import envdir


@pytest.mark.parametrize(
    ("contents", "value"),
    [
        (b"", None),
        (b"\n", b""),
        (b"x", b"x"),
        (b"x\ny\n", b"x"),
        (b" x \t\r\n", b" x"),
        (b"x\0y\0\n", b"x\ny\n"),
        (b"\n\nsecond", b""),
        (b"a\r\nb", b"a"),
        (b"v" * 5000, b"v" * 4095),
        (b"v" * 4094 + b" v", b"v" * 4094),
    ],
)
def test_what_files_say(contents: bytes, value: bytes | None) -> None:
    assert envdir.value_of(contents) == value


@given(st.none() | st.binary())
def test_what_can_be_written_can_be_read(value: bytes | None) -> None:
    try:
        contents = envdir.contents_of(value)
    except ValueError:
        assert value is not None
        assert b"\0" in value or value[-1:] in (b" ", b"\t", b"\r")
    else:
        assert envdir.value_of(contents) == value


@pytest.mark.parametrize("value", [b"v" * 4096, b"x ", b"x\0y", b"\t", b"\r"])
def test_values_that_no_file_can_give(value: bytes) -> None:
    with pytest.raises(ValueError, match="value"):
        envdir.contents_of(value)


def test_a_directory(tmp_path: Path) -> None:
    for name, contents in {"B": "2\n", "A": "1", "UNSET": "", ".hidden": "x", "a=b": "x"}.items():
        (tmp_path / name).write_text(contents)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        assert envdir.read(descriptor) == ((b"A", b"1"), (b"B", b"2"), (b"UNSET", None))
        os.mkfifo(tmp_path / "FIFO")
        with pytest.raises(OSError, match="FIFO"):  # and not: wait for a writer
            envdir.read(descriptor)
    finally:
        os.close(descriptor)
