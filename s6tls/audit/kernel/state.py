"""What the kernel has of a table, from what nft says about it in JSON (libnftables-json(5))."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s6tls.accessrules.errors import AddressError
from s6tls.audit.core.networks import Family, Network, parse_address_number

if TYPE_CHECKING:
    from s6tls.audit.core.networks import Range
    from s6tls.audit.kernel.denied import Denied

CHAIN = "refuse"
SETS = {Family.IP4: "denied4", Family.IP6: "denied6"}
MARK = "s6-accessrules "
"""What the comment of each rule begins with."""


class NotOurs(ValueError):
    """A table has what this program does not make; the message says what."""


@dataclass(frozen=True)
class State:
    """A table as it is: the comments of its rules in order, and the addresses in its sets."""

    marks: list[str]
    denied: Denied


def parse(text: bytes) -> State:
    """Read what ``nft -j list table`` says.  Raises NotOurs."""
    try:
        return _state(json.loads(text)["nftables"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, NotOurs):
            raise
        raise NotOurs("it has what s6-accessrules does not make") from error


def _state(objects: list[dict[str, Any]]) -> State:
    marks: list[str] = []
    chains: list[str] = []
    sets: dict[str, list[Any]] = {}
    for one in objects:
        ((kind, about),) = one.items()
        if kind == "rule":
            marks.append(about.get("comment", ""))
        elif kind == "chain":
            chains.append(about["name"])
        elif kind == "set":
            sets[about["name"]] = about.get("elem", [])
        elif kind not in ("metainfo", "table"):
            raise NotOurs(f"it has a {kind}")
    if chains != [CHAIN] or sorted(sets) != sorted(SETS.values()):
        raise NotOurs(f"it has other chains or sets than {CHAIN}, {', '.join(SETS.values())}")
    if not marks or not all(mark.startswith(MARK) for mark in marks):
        raise NotOurs("it has no rules, or others than those of s6-accessrules")
    return State(marks, {family: sorted(_range(family, one) for one in sets[SETS[family]]) for family in Family})


def _range(family: Family, element: Any) -> Range:
    if isinstance(element, str):
        first = last = _number(family, element)
    elif "range" in element:
        first, last = (_number(family, text) for text in element["range"])
    else:
        prefix = element["prefix"]
        return Network(family, _number(family, prefix["addr"]), int(prefix["len"])).range
    return first, last + 1


def _number(family: Family, text: str) -> int:
    try:
        found, number = parse_address_number(text)
    except AddressError as error:
        raise NotOurs(str(error)) from error
    if found is not family:
        raise NotOurs(f"it has {text} in the wrong set")
    return number
