"""What a program finds when it starts: exactly what the chain made for it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from s6tls.posix.identity import Identity
from s6tls.posix.process import fork, keep_from_programs, occupy_standard_descriptors
from s6tls.ucspi.image import Image, StageExit
from s6tls.ucspi.spawn import execute, exits, spawn
from tests.support.children import in_child, outcome_of
from tests.support.servers import BIN

NOBODY = Identity(65534, 65534)
ENV = {b"PATH": b"/usr/bin:/bin", b"EMPTY": b"", b"BYTES": b"\xff\xfe =x", b"LINE": b"a\nb"}
both_ways = pytest.mark.parametrize("identity", [None, NOBODY], ids=["posix_spawn", "fork"])


def started(
    *argv: str,
    env: dict[bytes, bytes] = ENV,
    identity: Identity | None = None,
    extra: dict[int, int] | None = None,
) -> tuple[int, bytes]:
    """Start a program as the server does, /dev/null on its stdin; return its exit code and output."""
    reading, writing = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY)
    image = Image(env, [os.fsencode(word) for word in argv], null, writing, identity, link="s6-tlsd", extra=extra or {})
    with os.fdopen(reading, "rb") as pipe:
        try:
            pid = spawn(image)
        finally:
            image.close()
        output = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output


def status(text: bytes) -> dict[str, str]:
    """Read /proc/PID/status."""
    return dict(line.split(":\t") for line in text.decode().splitlines())


def unusual_signals(text: bytes) -> list[str]:
    """Return what is blocked, ignored, caught or pending; 32 and 33 are glibc's own and not a program's business."""
    found = status(text)
    return [
        f"{name} {number}"
        for name in ("SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd")
        for number in range(1, 65)
        if number not in (32, 33) and int(found[name], 16) >> (number - 1) & 1
    ]


@both_ways
def test_the_environment_is_exactly_the_images(identity: Identity | None) -> None:
    code, block = started("cat", "/proc/self/environ", identity=identity)
    assert code == 0
    assert sorted(block.split(b"\0")) == sorted([b"", *(name + b"=" + value for name, value in ENV.items())])


@both_ways
def test_arguments_are_bytes(identity: Identity | None) -> None:
    words = [b"", b"-n", b"\xff\xfe", b"a b\nc"]
    _, output = started("printf", "%s|", *map(os.fsdecode, words), identity=identity)
    assert output == b"".join(word + b"|" for word in words)


@both_ways
def test_descriptors_are_0_1_and_2(identity: Identity | None) -> None:
    # `ls` reads the directory by a descriptor of its own; the shell that waits for it has none.
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    keep_from_programs()
    _, output = started("sh", "-c", "ls /proc/$$/fd; exit", identity=identity)
    os.close(leak)
    assert output.split() == [b"0", b"1", b"2"]


@contextlib.contextmanager
def disturbed() -> Iterator[None]:
    """Ignore some signals, handle others and block yet others, as no program should find them."""
    ignored, handled = (signal.SIGUSR1, signal.SIGHUP, signal.SIGRTMIN), (signal.SIGUSR2, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in (*ignored, *handled)}
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    for number in handled:
        signal.signal(number, lambda *_: None)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGRTMAX})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)


@both_ways
def test_descriptors_that_a_stage_hands_over_have_their_numbers_there(identity: Identity | None) -> None:
    """Even when ours are the numbers of others in the program."""
    pipes = [os.pipe() for _ in range(3)]
    for number, (_, writing) in enumerate(pipes):
        os.write(writing, b"%d" % number)
        os.close(writing)
    first, second, third = (reading for reading, _ in pipes)
    extra = {second: first, third: second, first: third}
    script = "".join(f"cat <&{fd};" for fd in (second, third, first))
    code, said = started("bash", "-c", script + "echo; ls /proc/$$/fd; exit", identity=identity, extra=extra)
    assert code == 0
    assert said.split() == [b"012", *sorted(b"%d" % fd for fd in (0, 1, 2, first, second, third))]


def test_a_stage_gets_the_lowest_numbers_that_our_starter_has_left() -> None:
    def numbers() -> list[int]:
        image = Image({}, [])
        return [image.hand(fd) for fd in range(1000, 3000)]  # beyond what other tests may have open

    fd = os.open("/dev/null", os.O_RDONLY)
    assert fd in numbers() and numbers()[0] == 3
    os.set_inheritable(fd, True)
    assert fd not in numbers()
    os.close(fd)


@both_ways
def test_signals_are_at_their_defaults_and_none_is_blocked(identity: Identity | None) -> None:
    with disturbed():
        _, output = started("cat", "/proc/self/status", identity=identity)
    assert unusual_signals(output) == []


@both_ways
def test_working_directory_and_umask_are_ours(identity: Identity | None) -> None:
    _, output = started("readlink", "/proc/self/cwd", identity=identity)
    assert output == os.fsencode(os.getcwd()) + b"\n"
    before = os.umask(0o027)
    try:
        _, output = started("cat", "/proc/self/status", identity=identity)
    finally:
        os.umask(before)
    assert status(output)["Umask"] == "0027"


def test_the_identity_is_taken_before_the_program_starts() -> None:
    found = status(started("cat", "/proc/self/status", identity=Identity(1001, 1002, (7, 8)))[1])
    assert found["Uid"].split() == ["1001"] * 4
    assert found["Gid"].split() == ["1002"] * 4
    assert found["Groups"].split() == ["7", "8"]
    assert int(found["CapEff"], 16) == int(found["CapPrm"], 16) == 0


def script(path: Path, text: str, mode: int = 0o755) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def test_the_path_of_the_image_decides(tmp_path: Path) -> None:
    script(tmp_path / "a/prog", "#!/bin/sh\n", 0o644)
    (tmp_path / "b/prog").mkdir(parents=True)
    script(tmp_path / "c/prog", "#!/bin/sh\necho c\n")
    script(tmp_path / "d/prog", "#!/bin/sh\necho d\n")
    path = ":".join(str(tmp_path / name) for name in "abcd")
    assert started("prog", env={b"PATH": path.encode()}) == (0, b"c\n")


def test_an_empty_part_of_the_path_is_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "prog", "#!/bin/sh\necho here\n")
    monkeypatch.chdir(tmp_path)
    assert started("prog", env={b"PATH": b"/nowhere:"}) == (0, b"here\n")


def test_without_a_path_there_is_a_usual_one() -> None:
    assert started("echo", "x", env={}) == (0, b"x\n")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere-to-be-found"], 127, "unable to exec nowhere-to-be-found: No such file or directory"),
        (["./nowhere"], 127, "unable to exec ./nowhere: No such file or directory"),
        (["/etc/passwd/x"], 127, "unable to exec /etc/passwd/x: Not a directory"),
        (["/etc/passwd"], 126, "unable to exec /etc/passwd: Permission denied"),
        (["/etc"], 126, "unable to exec /etc: Permission denied"),
        (["x\ny\xe9"], 127, r"unable to exec x\x0ay\xc3\xa9: No such file or directory"),
        ([""], 127, "unable to exec : No such file or directory"),
        (["a\0b"], 127, r"unable to exec a\x00b: No such file or directory"),
        (["echo", "a\0b"], 111, "unable to exec echo: embedded null byte"),
    ],
)
def test_a_program_that_cannot_be_started(words: list[str], code: int, message: str) -> None:
    with pytest.raises(StageExit) as caught:
        started(*words)
    assert (caught.value.program, caught.value.code, str(caught.value)) == ("s6-tlsd", code, message)


def test_a_file_in_no_known_format_is_126(tmp_path: Path) -> None:
    script(tmp_path / "prog", "neither ELF nor script")
    with pytest.raises(StageExit) as caught:
        started(str(tmp_path / "prog"))
    assert (caught.value.code, str(caught.value)) == (126, f"unable to exec {tmp_path}/prog: Exec format error")


def test_only_found_out_after_the_fork_it_is_the_childs_exit_code(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script(tmp_path / "prog", "neither ELF nor script")
    assert started(str(tmp_path / "prog"), identity=Identity(None, None))[0] == 126
    assert capfd.readouterr().err == f"s6-tlsd: fatal: unable to exec {tmp_path}/prog: Exec format error\n"


def test_the_server_itself_warns_and_goes_on() -> None:
    with pytest.raises(StageExit) as caught:
        spawn(Image(ENV, [b"nowhere"]))
    assert (caught.value.kind, caught.value.code) == ("warning", 127)
    assert str(caught.value) == "unable to spawn nowhere: No such file or directory"


def test_execute_becomes_the_program_under_its_process_id() -> None:
    pids: list[int] = []

    def body() -> NoReturn:
        pids.append(os.getpid())
        os.write(1, b"%d\n" % os.getpid())
        execute(Image(ENV, [b"sh", b"-c", b"echo $$; exit 7"]))

    code, output = outcome_of(body)
    said = output.split()
    assert (code, said[0]) == (7, said[1])


def test_execute_gives_the_environment_and_default_signals() -> None:
    def body() -> NoReturn:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        execute(Image(ENV, [b"cat", b"/proc/self/environ", b"/proc/self/status"]))

    code, output = outcome_of(body)
    block, _, rest = output.rpartition("\0")
    assert code == 0
    assert {entry.partition("=")[0] for entry in block.split("\0")} == {name.decode() for name in ENV}
    assert unusual_signals(rest.encode()) == []


@pytest.mark.parametrize("swapped", [False, True])
def test_execute_puts_the_descriptors_in_place(swapped: bool) -> None:
    def body() -> NoReturn:
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        into, out_of = os.pipe()
        os.write(out_of, b"in\n")
        os.close(out_of)
        image = Image(ENV, [b"cat"], stdin=into)
        if swapped:  # what is to be stdout stands on 0
            os.dup2(1, 0)
            os.close(1)
            os.dup2(into, 1)
            image = Image(ENV, [b"cat"], stdin=into, stdout=0)
        execute(image)

    assert outcome_of(body) == (0, "in\n")


def test_a_forked_child_hears_no_signals_of_its_parents_loop() -> None:
    def body() -> str:
        reading, writing = os.pipe2(os.O_NONBLOCK)
        signal.set_wakeup_fd(writing)
        signal.signal(signal.SIGTERM, lambda *_: None)
        pid = fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        signal.set_wakeup_fd(-1)
        with contextlib.suppress(BlockingIOError):
            return f"heard {os.read(reading, 10)!r}"
        return signal.Signals(os.WTERMSIG(status)).name

    assert in_child(body) == "'SIGTERM'"


@pytest.mark.parametrize(
    "locale",
    [
        {},
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX"},
        {"LANG": "C"},
        {"LC_CTYPE": "C"},
        {"LC_CTYPE": "POSIX"},
        {"LC_CTYPE": ""},
        {"LC_CTYPE": "C.UTF-8"},
        {"LC_CTYPE": "xx_YY"},
        {"LANG": "C.UTF-8", "PYTHONCOERCECLOCALE": "warn"},
        {"A": "1\nLC_CTYPE=x"},
    ],
    ids=str,
)
def test_what_the_interpreter_adds_for_itself_goes_again(locale: dict[str, str]) -> None:
    env = {"PATH": "/usr/bin:/bin", **locale}
    words = [f"{BIN}/s6-applyuidgid", "cat", "/proc/self/environ"]
    done = subprocess.run(words, env=env, stdout=subprocess.PIPE, check=True)
    assert sorted(done.stdout.split(b"\0")) == sorted([b"", *(f"{k}={v}".encode() for k, v in env.items())])


@pytest.mark.parametrize("closed", [(), (0,), (1, 2), (0, 2), (0, 1, 2)])
def test_closed_standard_descriptors_are_occupied_and_the_others_left_alone(closed: tuple[int, ...]) -> None:
    def occupied() -> object:
        for fd in closed:
            os.close(fd)
        before = {fd: os.fstat(fd) for fd in {0, 1, 2}.difference(closed)}
        count = len(os.listdir("/proc/self/fd"))
        occupy_standard_descriptors()
        assert all(os.path.samestat(os.fstat(fd), was) for fd, was in before.items())
        assert all(os.get_inheritable(fd) for fd in closed)
        return [os.readlink(f"/proc/self/fd/{fd}") for fd in closed], len(os.listdir("/proc/self/fd")) - count

    assert in_child(occupied) == repr((["/dev/null"] * len(closed), len(closed)))


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise MemoryError


@pytest.mark.parametrize(
    ("error", "code"),
    [(SystemExit(3), 3), (StageExit("test", 99), 99), (OSError(), 111), (Unspeakable(), 111)],
    ids=repr,
)
def test_a_forked_child_never_comes_back(error: BaseException, code: int) -> None:
    """Not even when there is no memory for saying why: the code that follows is its parent's."""

    def fails() -> NoReturn:
        with exits():
            raise error

    assert outcome_of(fails) == (code, "")
