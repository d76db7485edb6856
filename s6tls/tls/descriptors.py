"""The ends of a TLS session, as they travel from the chain to the engine."""

from __future__ import annotations

import os
from dataclasses import dataclass

from s6tls.ucspi.spawn import close_all_but


@dataclass(frozen=True)
class Descriptors:
    """A session's ends; whoever holds them closes them.  `net_in` and `net_out` may be the same.

    `from_program` and `to_program` are clear text; `notify` is where the end
    of the handshake is told, or -1.  With delayed encryption it is where the handshake is asked
    for, too (see `s6tls.stages.ucspitlsd`).
    """

    net_in: int
    net_out: int
    from_program: int
    to_program: int
    notify: int = -1

    def close(self) -> None:
        """Close them all."""
        for fd in {self.net_in, self.net_out, self.from_program, self.to_program, self.notify} - {-1}:
            os.close(fd)

    def close_others(self) -> None:
        """Close every descriptor of the process but these and stderr."""
        close_all_but({2, self.net_in, self.net_out, self.from_program, self.to_program, self.notify} - {-1})
