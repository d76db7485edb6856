"""What only a tree shows: files that do not count, that cannot be read, or that lose text on the way into a rule.

Whoever audits is often root, who may read everything; servers often are not.  So a file that nobody has the
permission to read counts as unreadable whoever looks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from s6tls.accessrules import envdir
from s6tls.accessrules.envdir import MAX_FILE
from s6tls.accessrules.keys import BY_NAME
from s6tls.accessrules.record import MAX_EXEC
from s6tls.accessrules.text import shown
from s6tls.accessrules.tree import opened
from s6tls.audit.core.networks import split_key
from s6tls.audit.core.progress import Progress, counted, silent
from s6tls.audit.lint.findings import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    Entries = dict[bytes, os.stat_result]

_KNOWN = (b"allow", b"deny", b"env", b"exec")
_READ, _SEARCH = 0o444, 0o111
_BLANKS = b" \t\r\n"


def findings(
    path: str | bytes, root: int, faulty: Collection[bytes] = (), progress: Progress = silent
) -> Iterator[Finding]:
    """Yield what is wrong within the directories of the tree open as `root`, which messages call `path`.

    `faulty` are the keys, and families, that reading the rules has complained of: of them it is not said again that
    something cannot be read.  Raises OSError if the tree cannot be read.
    """
    yield from _closed(os.fsencode(path), None, root)
    for family in sorted(_names(root)):
        if family.startswith(b".") or family in faulty:
            continue
        try:
            with opened(family, root) as rules:
                yield from _closed(family, None, rules)
                for name in counted(sorted(_names(rules)), "rules of the tree looked at", progress):
                    key = family + b"/" + name
                    if name.startswith(b"."):
                        yield from _hidden(key)
                    else:
                        yield from _look(key, name, rules, key in faulty)
        except OSError as error:
            yield _unreadable(None, f"unable to read the family {shown(family)}: {error.strerror}")


def _names(directory: int) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(directory)]


def _look(key: bytes, name: bytes, rules: int, reported: bool) -> Iterator[Finding]:
    try:
        with opened(name, rules) as directory:
            yield from _rule(key, directory, reported)
    except OSError as error:
        if not reported:
            yield _unreadable(key, f"unable to look into it: {error.strerror}")


def _rule(key: bytes, directory: int, reported: bool) -> Iterator[Finding]:
    names = [name for name in _names(directory) if not name.startswith(b".")]
    entries: Entries = {}
    for name in sorted(names):
        if name not in _KNOWN:
            yield _unknown(key, name)
            continue
        try:
            entries[name] = os.stat(name, dir_fd=directory)
        except FileNotFoundError:
            yield _dangling(key, name)
        except OSError as error:
            if not reported:
                yield _unreadable(key, f"unable to read {shown(name)}: {error.strerror}")
    yield from _closed(key, key, directory)
    yield from _verdict(key, names, entries)
    for name in (b"allow", b"deny"):
        if name in entries and not _readable(name, directory, entries[name]):
            yield _unreadable(key, _SAID_OF_VERDICTS[name])
    if b"allow" in entries:
        yield from _effects(key, entries, directory, reported)


def _verdict(key: bytes, names: list[bytes], entries: Entries) -> Iterator[Finding]:
    if b"allow" in entries and b"deny" in entries:
        message = "has both allow and deny: it allows"
        yield Finding("allow-and-deny", Severity.ERROR, message, "remove one of them", key)
    if b"allow" not in names:
        for name in (b"env", b"exec"):
            if name in entries:
                message = f"has {name.decode()} without allow: it does not count"
                yield Finding("without-allow", Severity.WARNING, message, f"add allow, or remove {name.decode()}", key)
    if b"allow" not in names and b"deny" not in names:
        message = "has neither allow nor deny: it is no rule, and a broader one decides"
        yield Finding("no-verdict", Severity.WARNING, message, "add one of them, or remove the directory", key)


def _effects(key: bytes, entries: Entries, directory: int, reported: bool) -> Iterator[Finding]:
    found = entries.get(b"exec")
    if found is not None:
        if found.st_size > MAX_EXEC:
            message = f"exec takes {found.st_size:,} bytes, and is cut at {MAX_EXEC:,}"
            yield Finding("exec-cut", Severity.ERROR, message, "put it in a script, and let exec run that", key)
        if not _readable(b"exec", directory, found):
            yield _unreadable(key, "nobody may read exec: a server that is not root refuses the client")
    if b"env" not in entries:
        return
    try:
        with opened(b"env", directory) as env:
            yield from _closed(b"env", key, env)
            for name in sorted(_names(env)):
                yield from _variable(key, name, env)
    except OSError as error:
        if not reported:
            yield _unreadable(key, f"unable to read env: {error.strerror}")


def _variable(key: bytes, name: bytes, env: int) -> Iterator[Finding]:
    file = f"env/{shown(name)}"
    if envdir.ignored(name):
        hidden = name.startswith(b".")
        severity = Severity.NOTE if hidden else Severity.WARNING
        message = f"{file} is ignored: its name {'begins with a dot' if hidden else 'contains ='}"
        yield Finding("ignored-variable", severity, message, "rename or remove the file", key)
        return
    try:
        contents = envdir.read_file(name, env, MAX_FILE + 1)
        readable = _readable(name, env, os.stat(name, dir_fd=env))
    except OSError:
        return  # reading the rule has failed at the same file, and has been reported
    if not readable:
        yield _unreadable(key, f"nobody may read {file}: a server that is not root refuses the client")
    for lost in _lost(contents):
        message = f"{file} {lost}: only the rest of its first line is the value"
        yield Finding("value-loses-text", Severity.WARNING, message, "write the value alone, on one line", key)


def _lost(contents: bytes) -> Iterator[str]:
    line, _, rest = contents.partition(b"\n")
    if rest.strip(_BLANKS):
        yield "has more than one line"
    if line[:MAX_FILE].rstrip(b" \t\r") != line[:MAX_FILE]:
        yield "has blanks or a carriage return at the end of the line"
    if len(line) > MAX_FILE:
        yield f"has more than {MAX_FILE:,} bytes on its first line"


def _closed(what: bytes, key: bytes | None, directory: int) -> Iterator[Finding]:
    mode = os.fstat(directory).st_mode
    if not (mode & _READ and mode & _SEARCH):
        message = f"nobody may read and search {shown(what)}: a server that is not root refuses clients"
        yield _unreadable(key, message)


def _readable(name: bytes, directory: int, found: os.stat_result) -> bool:
    return bool(found.st_mode & _READ) and os.access(name, os.R_OK, dir_fd=directory, effective_ids=True)


_SAID_OF_VERDICTS = {
    b"deny": "deny cannot be read: this project's programs go by its being there, but to those of s6, "
    "if they are not root, it is not there, and a broader rule may let the client in",
    b"allow": "allow cannot be read: this project's programs go by its being there, but to those of s6, "
    "if they are not root, it is not there, and a broader rule decides",
}


def _unreadable(key: bytes | None, message: str) -> Finding:
    return Finding("unreadable", Severity.ERROR, message, "set its owner and permissions, or replace it", key)


def _dangling(key: bytes, name: bytes) -> Finding:
    message = f"{shown(name)} is a link to nothing, and counts as not there"
    return Finding("dangling-link", Severity.ERROR, message, "make a file of it, or remove it", key)


def _unknown(key: bytes, name: bytes) -> Finding:
    message = f"{shown(name)} means nothing here"
    remedy = "rename it to allow, deny, env or exec, remove it, or begin its name with a dot"
    return Finding("unknown-file", Severity.WARNING, message, remedy, key)


def _hidden(key: bytes) -> Iterator[Finding]:
    """Yield a warning for ``reversedns/.example.org``, which other software would take for a domain."""
    if key.startswith(BY_NAME) and b"." in split_key(key)[1].removeprefix(b"."):
        message = "is passed over, for its name begins with a dot"
        remedy = "leave out the dot: a rule for a domain holds for all names in it"
        yield Finding("hidden-rule", Severity.WARNING, message, remedy, key)
