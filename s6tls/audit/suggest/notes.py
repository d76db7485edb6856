"""What is said behind suggested rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_FEW = 3


def clients_seen(clients: int, hits: int) -> str:
    """Return how many clients there are, and how many lines they have: ``2 clients, 1,204 hits``."""
    return f"{clients:,} client{'' if clients == 1 else 's'}, {hits:,} hit{'' if hits == 1 else 's'}"


def joined_notes(note: str, known: Sequence[str]) -> str:
    """Return a note with the first few names of what is known behind it."""
    if not known:
        return note
    more = f" and {len(known) - _FEW:,} more" if len(known) > _FEW else ""
    return f"{note}; known: {', '.join(known[:_FEW])}{more}"
