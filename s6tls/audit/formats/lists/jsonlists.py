"""Networks in JSON: a document or one a line, as Spamhaus, AWS, Google, Azure, GitHub and others publish theirs.

A *field* is the names on the way to a text, with dots between them; arrays have none.  Without one named, those of a
known publisher are read, or the one field whose texts are networks, or two, as ``ipv4`` and ``ipv6`` for each family.
Where there are others, none is guessed.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from s6tls.accessrules.errors import AddressError
from s6tls.audit.core.networks import Family, cidrs
from s6tls.audit.formats import cidrlist
from s6tls.audit.formats.entries import (
    BadText,
    Diagnostic,
    Parsed,
    Statements,
    network,
    networks_of,
    plain_rule,
    printable,
    sound,
    whole_text,
    widest_first,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from s6tls.audit.core.loaded import LoadedRules

    Text = tuple[str, str, int]
    """A field, a text in it, and its line."""

__all__ = ["parse", "write"]

LARGEST = 256 << 20
_LONGEST_FIELD = 1000
_PUBLISHERS = (
    {"prefixes.ip_prefix", "ipv6_prefixes.ipv6_prefix"},  # AWS
    {"addresses", "ipv6_addresses"},  # Fastly
)
_GITHUB = "verifiable_password_authentication"
"""A name in what GitHub publishes: there each array of networks at the top counts."""
_TOKEN = re.compile(r'[ \t\r\n]*(?:("(?:[^"\\]|\\.)*")|([][{}:,])|[^][{}:,"\s]+)', re.DOTALL)


def parse(data: bytes, *, fields: Collection[str] = (), allow: bool = True, mask_host_bits: bool = False) -> Parsed:
    """Read the networks in these fields; they are all allowed, or all denied.  Raises BadText."""
    if len(data) > LARGEST:
        raise BadText([Diagnostic(1, f"more than {LARGEST >> 20} MiB")], Parsed([]))
    text, faults = whole_text(data.removeprefix(b"\xef\xbb\xbf"))
    texts = list(_texts(text, faults))
    statements = Statements()
    chosen = _chosen(texts, fields, text, faults)
    for field, value, line in texts:
        if field in chosen:
            try:
                statements.say([network(value, mask_host_bits=mask_host_bits)], plain_rule(allow), line)
            except AddressError as error:
                faults.append(Diagnostic(line, str(error)))
    return sound(widest_first(statements), faults)


def _texts(text: str, faults: list[Diagnostic]) -> Iterator[Text]:
    """Yield all texts of a document, or of one a line."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    try:
        _loaded(text)
    except ValueError as error:
        if not lines or not all(_may_be_record(line) for _, line in (lines[0], lines[-1])):
            faults.append(Diagnostic(getattr(error, "lineno", 1), f"not JSON: {error}"))
            return
    else:
        yield from _walk(text, 1)
        return
    records = []
    for number, line in lines:
        try:
            records.append(_loaded(line))
        except ValueError as error:
            faults.append(Diagnostic(number, f"not JSON: {error}"))
        else:
            yield from _walk(line, number)
    faults += _incomplete(records, lines[-1][0])


def _may_be_record(line: str) -> bool:
    return line.lstrip().startswith("{") and line.rstrip().endswith("}")


def _loaded(text: str) -> Any:
    """Return what a document is.  Raises ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _incomplete(records: list[Any], last: int) -> Iterator[Diagnostic]:
    """Yield why lines are not all that were published: Spamhaus says in the last one how many there are."""
    for record in records:
        if isinstance(record, dict) and record.get("type") == "metadata" and "records" in record:
            count = sum(isinstance(other, dict) and "cidr" in other for other in records)
            announced = record["records"]
            if not isinstance(announced, int) or count < announced:
                yield Diagnostic(last, f"{count} records, where {str(announced)[:20]} are announced")


def _walk(text: str, line: int) -> Iterator[Text]:
    """Yield the texts of a document that is known to be JSON; the names in objects are none."""
    containers: list[tuple[bool, str]] = [(False, "")]
    """Whether it is an object, and its field."""
    field, naming, end = "", False, 0
    while token := _TOKEN.match(text, end):
        line += text.count("\n", end, token.end())
        string, mark = token.groups()
        end = token.end()
        if mark is not None:
            if mark in "{[":
                containers.append((mark == "{", field))
            elif mark in "}]":
                containers.pop()
            is_object, field = containers[-1] if mark != ":" else (False, field)
            naming = is_object and mark in "{,"
        elif string is not None:
            value = json.loads(string).encode("utf-8", "replace").decode()
            if naming:
                field = f"{field}.{value}".removeprefix(".")[:_LONGEST_FIELD]
            else:
                yield field, value, line


def _chosen(texts: list[Text], fields: Collection[str], text: str, faults: list[Diagnostic]) -> Collection[str]:
    """Return the fields to read."""
    if fields:
        there = {field for field, _, _ in texts}
        faults += [Diagnostic(1, f"no text in a field {field}") for field in fields if field not in there and texts]
        return fields
    found = dict.fromkeys(field for field, value, _ in texts if _is_network(value))
    if len({field.replace("v6", "v4") for field in found}) < 2 or any(found.keys() <= known for known in _PUBLISHERS):
        if texts and not found and not faults:
            faults.append(Diagnostic(1, "no field has networks"))
        return found
    if f'"{_GITHUB}"' in text and not any("." in field for field in found):
        return found
    names = ", ".join(printable(field)[:60] or "(no name)" for field in [*found][:8])
    faults.append(Diagnostic(1, f"several fields have networks: name those that count ({names})"))
    return ()


def _is_network(value: str) -> bool:
    try:
        network(value, mask_host_bits=True)
    except AddressError:
        return False
    return True


def write(loaded: LoadedRules, *, allow: bool = True, families: Collection[Family] = tuple(Family)) -> str:
    """Return an array of the networks that `cidrlist.write` has, one a line.  Raises Unsayable."""
    networks_of(loaded)
    found = (line for family in families for line in cidrs(family, cidrlist.clients(loaded, family, allow)))
    return "[\n" + ",\n".join(map(json.dumps, found)) + "\n]\n"
