"""The socket at which a server tells its status: whose it is, and that nobody holds anybody up there."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from s6tls.posix.reactor import Reactor
from s6tls.ucspi.status import door
from s6tls.ucspi.status.door import Door, Taken
from tests.support.servers import PATIENCE

PIECES = [b"a" * 1000, b"b", b"c" * 1000]


class Place:
    """A door at a path, and callers."""

    def __init__(self, path: Path, pieces: list[bytes]) -> None:
        self.reactor, self.path, self.pieces = Reactor(), path, pieces
        self.made = 0
        self.callers: list[socket.socket] = []
        self.door = Door(self.reactor, bytes(path), self._make)
        self.door.open()

    def _make(self) -> Iterator[bytes]:
        self.made += 1
        return iter(self.pieces)

    def call(self) -> socket.socket:
        caller = socket.socket(socket.AF_UNIX)
        self.callers.append(caller)
        caller.connect(bytes(self.path))
        caller.setblocking(False)
        return caller

    def turns(self, seconds: float = 0.01) -> None:
        """Let the reactor turn for so long: what is due at once is done then."""
        over: list[int] = []
        self.reactor.after(seconds, lambda: over.append(1))
        while not over:
            self.reactor.turn()

    def heard(self, caller: socket.socket) -> tuple[bytes, bool]:
        """What has come to a caller, and whether that is all."""
        data = b""
        for _ in range(10):
            self.turns()
            with contextlib.suppress(BlockingIOError):
                while piece := caller.recv(2**20):
                    data += piece
                return data, True
        return data, False

    def close(self) -> None:
        self.door.close()
        self.reactor.close()
        for caller in self.callers:
            caller.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "status", PIECES)
    yield made
    made.close()


def test_a_caller_gets_the_whole_document_and_the_end(place: Place) -> None:
    assert place.heard(place.call()) == (b"".join(PIECES), True)


def test_what_a_caller_says_is_not_heard(place: Place) -> None:
    caller = place.call()
    caller.send(b"GET / HTTP/1.0\r\n\r\n" * 100)
    caller.setblocking(True)
    caller.settimeout(PATIENCE)
    place.turns()
    assert caller.recv(2**20).startswith(b"aaaa")


def test_only_the_servers_user_may_open_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        place = Place(tmp_path / "status", PIECES)
    finally:
        os.umask(before)
    found = (tmp_path / "status").lstat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.geteuid())
    assert os.listdir(tmp_path) == ["status"]
    place.close()
    assert os.listdir(tmp_path) == []
    place.door.close()


def test_one_that_does_not_read_is_dropped_and_few_are_served_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "_PATIENCE_S", 0.2)
    place = Place(tmp_path / "status", [b"x" * 2**20] * 100)
    deaf = [place.call() for _ in range(4)]
    place.turns()
    late = place.call()
    place.turns()
    assert place.made == 4
    place.turns(0.25)
    assert place.made == 5 and len(place.door._callers) == 1
    late.close()
    place.turns()
    assert not place.door._callers
    assert len(deaf[0].recv(2**24)) < 2**22
    place.close()


def test_a_mistake_in_the_document_ends_the_call_and_nothing_else(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    place.door._pieces = lambda: iter(b"%d" % (1 // number) for number in [0])
    assert place.heard(place.call()) == (b"", True)
    assert "unable to tell the status: ZeroDivisionError" in capfd.readouterr().err


def test_what_a_dead_server_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "status"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(bytes(path))
    place = Place(path, PIECES)
    assert place.heard(place.call())[1]
    place.close()


@pytest.mark.parametrize("what", ["live", "busy", "file", "link", "foreign"])
def test_what_is_somebody_elses_is_left_alone(what: str, tmp_path: Path) -> None:
    path = tmp_path / "status"
    with contextlib.ExitStack() as stack:
        if what == "file":
            path.write_text("precious")
        elif what == "link":
            path.symlink_to(tmp_path / "elsewhere")
        else:
            other = stack.enter_context(socket.socket(socket.AF_UNIX))
            other.bind(bytes(path))
            if what == "foreign":
                if os.geteuid() != 0:
                    return
                os.chown(path, 12345, -1)
            else:
                other.listen(0)
            if what == "busy":
                stack.enter_context(socket.socket(socket.AF_UNIX)).connect(bytes(path))
        before = path.lstat()
        with pytest.raises(Taken):
            Door(Reactor(), bytes(path), lambda: iter(PIECES))
        assert os.path.samestat(before, path.lstat())
        assert os.listdir(tmp_path) == ["status"]


def test_a_socket_that_is_another_servers_by_now_is_not_removed(place: Place) -> None:
    place.path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(bytes(place.path))
        place.door.close()
        assert place.path.exists()


@pytest.mark.parametrize("path", ["x" * 200, "nosuch/status"])
def test_a_path_that_cannot_be_is_an_error_that_leaves_nothing(path: str, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        Door(Reactor(), bytes(tmp_path / path), lambda: iter(PIECES))
    assert os.listdir(tmp_path) == []
