"""From a cdb file, or from rules at hand, to a directory tree.

The file is untrusted.  Nothing in it can name a place outside the new directory, and what a
tree cannot say is an error, so that compiling the tree gives the records again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from s6tls.accessrules import envdir, record
from s6tls.accessrules.cdbfile import open_file, records
from s6tls.accessrules.errors import MalformedRecord, RuleSetError
from s6tls.accessrules.fs import DIRECTORY
from s6tls.accessrules.rule import ALLOW
from s6tls.accessrules.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from s6tls.accessrules.rule import Env, Rule

__all__ = ["decompile", "write_tree"]


def decompile(
    directory: str | bytes,
    cdbfile: str | bytes,
    *,
    warn: Callable[[str], None] = lambda message: None,
    checkpoint: Callable[[], None] = lambda: None,
) -> None:
    """Create `directory`, which must not exist, with the rules of `cdbfile`.

    If anything is raised, the directory goes again.  `warn` is told of oddities that the tree does not keep.
    `checkpoint` is called before each rule, and may raise to stop the work.

    Raises OSError, or RuleSetError if the file is no cdb or has a record that no tree can have.
    """
    with _new_tree(directory) as root, open(open_file(cdbfile), "rb") as file:
        for key, value in records(file.fileno()):
            checkpoint()
            with _named(key):
                rule = _decode(key, value, warn)
                _make_rule(key, rule, root)


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
    with _new_tree(directory) as root:
        for key, rule in rules:
            checkpoint()
            with _named(key):
                _make_rule(key, rule, root)
        check()


@contextlib.contextmanager
def _new_tree(directory: str | bytes) -> Iterator[int]:
    target = os.fsencode(directory)
    os.mkdir(target)
    try:
        root = os.open(target, DIRECTORY | os.O_NOFOLLOW)
        try:
            yield root
        finally:
            os.close(root)
    except BaseException:
        shutil.rmtree(target)
        raise


@contextlib.contextmanager
def _named(key: bytes) -> Iterator[None]:
    """Name the rule in what goes wrong with it."""
    try:
        yield
    except (MalformedRecord, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RuleSetError(f"unable to write rule {shown(key)}: {reason}") from error


def _make_rule(key: bytes, rule: Rule | None, root: int) -> None:
    family, slash, name = key.partition(b"/")
    if not slash or b"/" in name or _unfit(family) or _unfit(name):
        raise MalformedRecord("not the key of a rule")
    _make_directory(family, root)
    _make_directory(key, root)
    if rule is not None:
        _write_rule(key, rule, root)


def _decode(key: bytes, value: bytes, warn: Callable[[str], None]) -> Rule | None:
    """Read a record as the reference's decompiler does.

    It wants lengths that fit in any value that has room for one, be it an allow or not.  And it takes a bare ``A``
    for an allow, though at a lookup that is an error; recorded cases ask for this, and we say so.
    """
    if len(value) > 2:
        record.split(value)
    elif value[:1] == b"A":
        warn(f"incomplete record taken for a plain allow: {shown(key)}")
        return ALLOW
    return record.decode(value)


def _write_rule(key: bytes, rule: Rule, root: int) -> None:
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


def _exists(path: bytes, root: int) -> bool:
    try:
        os.stat(path, dir_fd=root)
    except FileNotFoundError:
        return False
    return True


def _write_file(path: bytes, contents: bytes, root: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666, dir_fd=root)
    with open(descriptor, "wb", buffering=0) as file:
        while contents:
            contents = contents[file.write(contents) :]
