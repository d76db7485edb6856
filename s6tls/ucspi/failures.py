"""What clients do wrong, as lines for somebody who cannot mend it: one for each, or one for all of a minute."""

from __future__ import annotations

from s6tls.ucspi.image import SERVER, ClientFailure
from s6tls.ucspi.log import Told, log
from s6tls.ucspi.minutely import After

_INTERVAL_S = 60.0


class ClientFailures:
    """Logs failures of clients: from verbosity 2 on each, at 1 how many there were within a minute, at 0 none."""

    def __init__(self, after: After, verbosity: int) -> None:
        self._after, self._verbosity = after, verbosity
        self._count = 0
        self._last = ""

    def log(self, failure: ClientFailure) -> None:
        """Log a failure, or count it."""
        if self._verbosity >= 2:
            log(failure.program, "info", failure.message)
        elif self._verbosity == 1:
            if not self._count:
                self._after(_INTERVAL_S, self.log_rest)
            self._count += 1
            self._last = f"{failure.program}: {failure}"

    def log_rest(self) -> None:
        """Log those that have only been counted."""
        if self._count:
            who = "{failed} clients" if self._count > 1 else "{failed} client"
            told = Told(who + " failed within a minute, the last: {last}", failed=self._count, last=self._last)
            log(SERVER, "info", told)
        self._count = 0
