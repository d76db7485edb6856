r"""Our own text form: one line a rule, with comments.

::

    # the staff of all offices
    allow ip4 10.0.0.0/8 ROLE=staff -DEBUG exec="echo hello"  # owner=ops ticket=NET-12 expires=2027-01-31 until we move
    deny reversedns example.org

A rule is a verdict, what it is about, and, for ``allow``, changes to the environment and an exec::

    line       = [ rule ] [ "#" provenance ]
    rule       = ( "allow" | "deny" ) about { NAME "=" string | "-" NAME | "exec=" string }
    about      = ( "ip4" | "ip6" ) network | FAMILY string | "key" string
    provenance = { ( "owner" | "ticket" | "expires" ) "=" string } text

Words are separated by blanks.  A string is plain, without blanks, ``"``, ``#`` and ``\``, or quoted; in quotes ``\n``,
``\t``, ``\r``, ``\"``, ``\\`` and ``\xHH`` (one byte) are escapes.  A NAME may be quoted too: a variable
``exec`` is ``"exec"=…``.
``key`` is for keys that are no network and no family with a name, or that can never match, as they are in a cdb.
A comment on a line of its own belongs to the rule that follows.  The text is UTF-8.
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING

from s6tls.accessrules import record
from s6tls.accessrules.errors import UsageProblem
from s6tls.accessrules.rule import ALLOW, DENY, Rule
from s6tls.accessrules.text import shown
from s6tls.audit.core.networks import Family, family_name, key_order, parse_cidr, split_key
from s6tls.audit.formats.entries import Entry, LineError, Parsed, Provenance, clean, faults_of, sound
from s6tls.audit.lint.names import unmatchable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s6tls.accessrules.rule import Env
    from s6tls.audit.core.loaded import LoadedRules

__all__ = ["parse", "write"]

_FAMILIES = {family.value: family for family in Family}
_QUOTED = r'"(?:[^"\\]|\\[ntr"\\]|\\x[0-9a-fA-F]{2})*"'
_PLAIN = r'[^\s"#\\]+'
_STRING = f"(?:{_QUOTED}|{_PLAIN})"
_NAME = r"[A-Za-z_][A-Za-z0-9_.]*"
_ABOUT = re.compile(rf"(allow|deny)[ \t]+({_PLAIN})[ \t]+({_STRING})(?=[ \t]|$)")
_CHANGE = re.compile(rf"[ \t]+(?:-({_NAME}|{_QUOTED})|({_NAME}|{_QUOTED})=({_STRING})?)(?=[ \t]|$)")
_NOTE = re.compile(rf"(owner|ticket|expires)=({_STRING})(?:[ \t]+|$)")
_PLAIN_FAMILY = re.compile(_NAME)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.))")
_ESCAPED = {"n": b"\n", "t": b"\t", "r": b"\r", '"': b'"', "\\": b"\\"}
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def parse(data: bytes) -> Parsed:
    """Read a text.  Raises BadText with all that is wrong."""
    reader = _Reader()
    faults = faults_of(data, reader.take)
    return sound(Parsed(list(reader.entries.values()), tuple(reader.comments)), faults)


class _Reader:
    def __init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.comments: list[str] = []

    def take(self, number: int, line: str) -> None:
        """Take a line.  Raises LineError."""
        line = line.strip(" \t")
        if not line:
            return
        if line.startswith("#"):
            self.comments.append(clean(line[1:]))
            return
        comments, self.comments = tuple(self.comments), []
        key, rule, rest = _rule(line)
        entry = Entry(key, rule, _provenance(rest, comments), number)
        first = self.entries.setdefault(key, entry)
        if first is not entry:
            raise LineError(f"{shown(key)} has a rule already, in line {first.line}")


def _rule(line: str) -> tuple[bytes, Rule, str]:
    """Return the key and the rule of a line, and the comment behind them."""
    about = _ABOUT.match(line)
    if about is None:
        raise LineError("it does not start with allow or deny, a family and a name")
    verdict, family, name = about.groups()
    env: dict[bytes, bytes | None] = {}
    exec_: bytes | None = None
    end = about.end()
    while change := _CHANGE.match(line, end):
        end = change.end()
        unset, setting, value = change.groups()
        if setting == "exec":
            if exec_ is not None:
                raise LineError("two execs")
            exec_ = _value(value or "")
        else:
            variable = _variable(unset or setting)
            if variable in env:
                raise LineError(f"variable {shown(variable)} stands twice")
            env[variable] = None if unset else _without_nul(_value(value or ""))
    rest = line[end:].strip(" \t")
    if rest and (not rest.startswith("#") or line[end] not in " \t"):
        raise LineError(f"not NAME=value, -NAME or a comment: {rest[:40]!r}")
    if verdict == "deny" and (env or exec_ is not None):
        raise LineError("a deny has no environment and no exec")
    return _key(family, name), _checked(tuple(env.items()), exec_ or b"", verdict), rest[1:]


def _checked(env: Env, exec_: bytes, verdict: str) -> Rule:
    if verdict == "deny":
        return DENY
    if len(exec_) > record.MAX_EXEC:
        raise LineError(f"exec takes {len(exec_)} bytes, more than {record.MAX_EXEC}")
    rule = Rule(True, env, exec_) if env or exec_ else ALLOW
    try:
        record.encode(rule)
    except UsageProblem as error:
        raise LineError(str(error)) from error
    return rule


def _key(family: str, name: str) -> bytes:
    if family == "key":
        return _value(name)
    if family in _FAMILIES:
        network = parse_cidr(name)
        if network.family is not _FAMILIES[family]:
            raise LineError(f"not of family {family}: {name}")
        if "/" not in name:
            raise LineError(f"no prefix length: write it as {network}")
        key = network.family.key(network.number, network.length)
        if str(network) != name:
            raise LineError(f"not in its canonical text: write it as {network}")
        return key
    if not _PLAIN_FAMILY.fullmatch(family):
        raise LineError(f"not the name of a family: {family}")
    key = family.encode() + b"/" + _value(name)
    if found := unmatchable(key):
        raise LineError(f"{family} {name} {found.message}: {found.remedy}")
    return key


def _variable(word: str) -> bytes:
    name = _without_nul(_value(word))
    if not name or b"=" in name:
        raise LineError("a variable has no name, or one with =")
    return name


def _without_nul(value: bytes) -> bytes:
    if b"\0" in value:
        raise LineError("a NUL in a variable")
    return value


def _value(word: str) -> bytes:
    """Return what a string means."""
    if not word.startswith('"'):
        return word.encode()
    found = b""
    end = 1
    for escape in _ESCAPE.finditer(word):
        found += word[end : escape.start()].encode()
        found += bytes.fromhex(escape[1]) if escape[1] else _ESCAPED[escape[2]]
        end = escape.end()
    return found + word[end:-1].encode()


def _provenance(rest: str, comments: tuple[str, ...]) -> Provenance:
    rest = clean(rest)
    found: dict[str, str] = {}
    while word := _NOTE.match(rest):
        name, value = word.groups()
        if name in found:
            raise LineError(f"two of {name}")
        try:
            found[name] = clean(_value(value).decode())
        except UnicodeDecodeError:
            raise LineError(f"{name} is not UTF-8") from None
        rest = rest[word.end() :]
    return Provenance(found.get("owner", ""), found.get("ticket", ""), _date(found.get("expires")), rest, comments)


def _date(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or str(found) != text:
        raise LineError(f"not a date like 2027-01-31: {text}")
    return found


def write(entries: Iterable[Entry], trailing: Iterable[str] = ()) -> str:
    """Return the text that says these rules, with what is known about them."""
    lines = []
    for entry in entries:
        lines += [f"# {comment}".rstrip() for comment in entry.provenance.comments]
        lines.append(_line(entry))
    lines += [f"# {comment}".rstrip() for comment in trailing]
    return "".join(f"{line}\n" for line in lines)


def write_loaded(loaded: LoadedRules) -> str:
    """Return the text that says the rules of a rule set."""
    return write(Entry(key, loaded.rules[key]) for key in sorted(loaded.rules, key=key_order))


def _line(entry: Entry) -> str:
    rule = entry.rule
    words = ["allow" if rule.allow else "deny", _about(entry.key)]
    words += [f"-{_name(name)}" if value is None else f"{_name(name)}={_string(value)}" for name, value in rule.env]
    if rule.exec:
        words.append(f"exec={_string(rule.exec)}")
    note = _comment(entry.provenance)
    return " ".join(words) + (f"  # {note}" if note else "")


def _about(key: bytes) -> str:
    family, name = split_key(key)
    other = family_name(key).decode("latin-1")
    if unmatchable(key) or other == "key" or not (name and other.isascii() and _PLAIN_FAMILY.fullmatch(other)):
        return f"key {_string(key) or _quoted(key)}"
    if family is not None:
        return f"{family.value} {family.cidr(*family.parse_name(name))}"
    return f"{other} {_string(name)}"


def _name(name: bytes) -> str:
    text = name.decode("latin-1")
    return text if text != "exec" and re.fullmatch(_NAME, text) else _quoted(name)


def _string(value: bytes) -> str:
    """Return a string as it is written: plain if it can be; an empty one is empty."""
    quoted = _quoted(value)
    plain = quoted[1:-1]
    return plain if not plain or re.fullmatch(_PLAIN, plain) else quoted


def _quoted(value: bytes) -> str:
    return '"' + "".join(map(_escape, value.decode("utf-8", "surrogateescape"))) + '"'


def _escape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def _comment(about: Provenance) -> str:
    words = [("owner", about.owner), ("ticket", about.ticket), ("expires", str(about.expires or ""))]
    found = [f"{name}={_string(value.encode())}" for name, value in words if value]
    if _NOTE.match(about.note):
        found.append("-")  # a comment of another format, which does not mean what it would mean here
    return " ".join([*found, about.note] if about.note else found)
