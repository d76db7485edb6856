"""Rule sets as directory trees: one rule or all of them, read and written, and the backend that looks rules up live.

A tree has no moment at which all of it is seen: files may change while others are read.  It is opened once, so at
least it is one and the same tree, whatever takes its place meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from s6tls.accessrules import envdir
from s6tls.accessrules.errors import MalformedRecord, RuleSetError, refuse
from s6tls.accessrules.record import MAX_EXEC
from s6tls.accessrules.rule import ALLOW, DENY, Rule
from s6tls.accessrules.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from s6tls.accessrules.rule import Env, Fault
    from s6tls.accessrules.stamp import Stamp

__all__ = ["read_tree", "write_tree"]

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def read_rule(path: bytes, directory: int) -> Rule | None:
    """Return the rule kept in the directory `path`, relative to `directory`, or None if there is none.

    Raises OSError when that cannot be told.
    """
    if _exists(path + b"/allow", directory):
        env = _read_env(path + b"/env", directory)
        exec_ = _read_exec(path + b"/exec", directory)
        return Rule(True, env, exec_) if env or exec_ else ALLOW
    return DENY if _exists(path + b"/deny", directory) else None


def _exists(path: bytes, directory: int) -> bool:
    try:
        os.stat(path, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True


def _read_env(path: bytes, directory: int) -> Env:
    try:
        descriptor = os.open(path, DIRECTORY, dir_fd=directory)
    except FileNotFoundError:
        return ()
    try:
        return envdir.read(descriptor)
    finally:
        os.close(descriptor)


def _read_exec(path: bytes, directory: int) -> bytes:
    try:
        return envdir.read_file(path, directory, MAX_EXEC)
    except FileNotFoundError:
        return b""


def rules(root: int, fault: Fault) -> Iterator[tuple[bytes, Rule]]:
    """Yield all rules of the tree open as `root` with their keys, in the order of the keys' parts.

    Whatever starts with a dot is passed over.  What cannot be read is told to `fault`, with the key of the rule or the
    name of the family, and passed over.
    """
    for family in _names(root):
        try:
            with _opened(family, root) as names:
                yield from _family(family, names, fault)
        except Unopened as error:
            fault(family, error)


def _family(family: bytes, names: int, fault: Fault) -> Iterator[tuple[bytes, Rule]]:
    for name in _names(names):
        key = family + b"/" + name
        try:
            rule = read_rule(name, names)
        except OSError as error:
            fault(key, RuleSetError(f"unable to read {shown(key)}: {error.strerror}"))
            continue
        if rule is not None:
            yield key, rule


class Unopened(RuleSetError):
    """A directory of the tree cannot be opened."""


@contextlib.contextmanager
def opened(path: bytes, directory: int | None = None) -> Iterator[int]:
    """Hand over a directory, open until the end of the block.  Raises OSError."""
    descriptor = os.open(path, DIRECTORY, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _opened(path: bytes, directory: int | None = None) -> Iterator[int]:
    """Do as `opened` does, but raise Unopened."""
    with contextlib.ExitStack() as stack:
        try:
            descriptor = stack.enter_context(opened(path, directory))
        except OSError as error:
            raise Unopened(f"unable to open directory {shown(path)}: {error.strerror}") from error
        yield descriptor


def _names(directory: int) -> list[bytes]:
    return sorted(os.fsencode(name) for name in os.listdir(directory) if not name.startswith("."))


def read_tree(directory: str | bytes) -> Iterator[tuple[bytes, Rule]]:
    """Yield all rules of a tree with their keys, in the order of the keys' parts.

    Raises RuleSetError for whatever cannot be read.
    """
    with _opened(os.fsencode(directory)) as root:
        yield from rules(root, refuse)


class DirectoryBackend:
    """Looks rules up in a directory tree, reading it afresh each time."""

    stamp: Stamp | None = None

    def __init__(self, descriptor: int) -> None:
        """Look into an open directory, whose descriptor is this object's from now on."""
        self.descriptor = descriptor
        self.mode = stat.S_IMODE(os.fstat(descriptor).st_mode)

    def close(self) -> None:
        """Let go of the tree; closing twice does no harm."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def first(self, keys: Iterable[bytes]) -> tuple[bytes, Rule] | None:
        """Return the first of `keys` that names a rule, and the rule.  Raises RuleSetError."""
        for key in keys:
            try:
                rule = read_rule(key, self.descriptor)
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:  # no rule can have this name
                    continue
                raise RuleSetError(f"unable to read {shown(key)}: {error.strerror}") from error
            if rule is not None:
                return key, rule
        return None

    def rules(self, fault: Fault) -> Iterator[tuple[bytes, Rule]]:
        """Yield all rules, as `rules` does."""
        return rules(self.descriptor, fault)


def write_tree(
    directory: str | bytes,
    rules: Iterable[tuple[bytes, Rule]],
    *,
    checkpoint: Callable[[], None] = lambda: None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Create `directory`, which must not exist, with these rules.

    If anything is raised, the directory goes again.  `checkpoint` is called before each rule, and may raise to stop
    the work; so may `check`, which is called when the tree is complete.
    Raises OSError, or RuleSetError for a rule that no tree can have.
    """
    with new_tree(directory) as root:
        for key, rule in rules:
            checkpoint()
            with unable_to_write(key):
                write_rule(key, rule, root)
        check()


@contextlib.contextmanager
def new_tree(directory: str | bytes) -> Iterator[int]:
    """Create a directory and hand it over, open; if anything is raised, it goes again.  Raises OSError."""
    target = os.fsencode(directory)
    os.mkdir(target)
    try:
        root = os.open(target, DIRECTORY | os.O_NOFOLLOW)
        try:
            yield root
        finally:
            os.close(root)
    except BaseException:
        import shutil

        shutil.rmtree(target)
        raise


@contextlib.contextmanager
def unable_to_write(key: bytes) -> Iterator[None]:
    """Name the rule in what goes wrong with it: raises RuleSetError for MalformedRecord and OSError."""
    try:
        yield
    except (MalformedRecord, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RuleSetError(f"unable to write rule {shown(key)}: {reason}") from error


def write_rule(key: bytes, rule: Rule | None, root: int) -> None:
    """Write a rule into the tree open as `root`; without one, a directory where one would be.

    Raises OSError, or MalformedRecord for a rule that no tree can have.
    """
    family, slash, name = key.partition(b"/")
    if not slash or b"/" in name or _unfit(family) or _unfit(name):
        raise MalformedRecord("not the key of a rule")
    _make_directory(family, root)
    _make_directory(key, root)
    if rule is not None:
        _write_verdict(key, rule, root)


def _write_verdict(key: bytes, rule: Rule, root: int) -> None:
    """Write a rule, over what an earlier record with the same key has left.

    Of several records with one key, a lookup finds the first.  A second one that only repeats or adds to an
    allow does no harm, and the reference accepts it; one that would turn a deny into an allow is refused.
    """
    if not rule.allow:
        _write_file(key + b"/deny", b"", root)
        return
    if _exists(key + b"/deny", root) and not _exists(key + b"/allow", root):
        raise MalformedRecord("one record denies, and another allows")
    _write_file(key + b"/allow", b"", root)
    if rule.env:
        _write_env(key + b"/env", rule.env, root)
    if rule.exec:
        _write_file(key + b"/exec", rule.exec, root)


def _write_env(path: bytes, env: Env, root: int) -> None:
    _make_directory(path, root)
    for name, value in env:
        if _unfit(name) or envdir.ignored(name):
            raise MalformedRecord(f"variable {shown(name)} cannot be a file")
        try:
            contents = envdir.contents_of(value)
        except ValueError as error:
            raise MalformedRecord(f"variable {shown(name)}: {error}") from error
        _write_file(path + b"/" + name, contents, root)


def _unfit(name: bytes) -> bool:
    """Tell whether this cannot be a rule's or a variable's name; those that start with a dot are for other uses."""
    return not name or name.startswith(b".") or b"/" in name or b"\0" in name


def _make_directory(path: bytes, root: int) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, dir_fd=root)


def _write_file(path: bytes, contents: bytes, root: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666, dir_fd=root)
    with open(descriptor, "wb", buffering=0) as file:
        while contents:
            contents = contents[file.write(contents) :]
