"""Rules that have expired, and what decides in their place."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from s6tls.accessrules.errors import AddressError
from s6tls.accessrules.keys import BY_NAME, name_keys
from s6tls.audit.core.networks import split_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date

    from s6tls.audit.formats.entries import Entry

__all__ = ["split"]


def split(entries: Iterable[Entry], today: date) -> tuple[list[Entry], list[tuple[Entry, Entry | None]]]:
    """Return the rules that hold, and those that have expired, each with the wider rule that decides in its place.

    The day of expiry still counts.  The wider rule is None if there is none, or if that depends on more than the
    key says, as for a uid, whose gids may have rules.
    """
    kept: list[Entry] = []
    expired: list[Entry] = []
    for entry in entries:
        until = entry.provenance.expires
        (expired if until is not None and until < today else kept).append(entry)
    by_key = {entry.key: entry for entry in kept} if expired else {}
    return kept, [(entry, next((by_key[key] for key in _wider(entry.key) if key in by_key), None)) for entry in expired]


def _wider(key: bytes) -> Iterator[bytes]:
    """Yield the keys that are looked up behind a key for all clients that it matches."""
    family, name = split_key(key)
    if key.startswith(BY_NAME):
        yield from name_keys(name)
    elif family is not None:
        with contextlib.suppress(AddressError):
            number, length = family.parse_name(name)
            for shorter in range(length - 1, -1, -1):
                rest = family.bits - shorter
                yield family.key(number >> rest << rest, shorter)
