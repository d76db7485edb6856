"""Whose a session is: what it calls, and how patient it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from s6tls.tls.pump import Pump, TLSFailure


class Owner(NamedTuple):
    """What a session calls; `report` makes the notification, `failed` is called at most once, before `ended`."""

    report: Callable[[Pump], bytes]
    failed: Callable[[TLSFailure], object]
    ended: Callable[[], object]


class Patience(NamedTuple):
    """Seconds, 0 for ever: until the handshake is done; and in which something must move towards a client.

    The latter counts where the client is all there is to wait for.
    """

    handshake: float = 0
    stall: float = 0


NO_BOUNDS = Patience()
