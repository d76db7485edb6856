"""What ``--status`` of the servers takes: who may ask how a server is, and what it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from s6tls.accessrules.text import shown
from s6tls.cli.frame.options import Given, Option, Synopsis
from s6tls.posix.exitcodes import ExitCode
from s6tls.ucspi.image import SERVER, StageExit
from s6tls.ucspi.status.document import About, Document
from s6tls.ucspi.status.door import Door, Taken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s6tls.posix.reactor import Reactor
    from s6tls.ucspi.image import Stage
    from s6tls.ucspi.ledger import Ledger
    from s6tls.ucspi.status.counts import Counts
    from s6tls.ucspi.status.files import File, Pool
    from s6tls.ucspi.superserver import SuperServer

STATUS = Option(
    "",
    ("status",),
    "path",
    "make a Unix-domain socket at this path, which tells who connects how the server is; only its user may. "
    "See [s6-tlsserver-status](s6-tlsserver-status.md)",
)


@dataclass(frozen=True)
class Asked:
    """That --status was given: its path, and what the command line says."""

    path: bytes
    program: str
    options: Mapping[str, str | bool]

    @classmethod
    def of(cls, given: Given, synopsis: Synopsis) -> Asked | None:
        """Read --status."""
        path = given.value("status")
        if path is None:
            return None
        flags = {option.name: option for option in synopsis.options}
        options = {
            flags[name].flag: shown(value) if flags[name].value is not None else True for name, value in given.pairs
        }
        return cls(path, synopsis.program, options)


@runtime_checkable
class Reading(Protocol):
    """A stage that reads files."""

    def files(self) -> list[File]:
        """Return the files, as they were when they were read."""


def door(
    asked: Asked,
    reactor: Reactor,
    server: SuperServer,
    ledger: Ledger,
    counts: Counts,
    pools: Callable[[], Sequence[Pool]],
    stages: Iterable[Stage],
    command: Iterable[bytes],
) -> Door:
    """Make the socket at which a server tells its status.  Raises StageExit (100, 111)."""
    reading = [stage for stage in stages if isinstance(stage, Reading)]
    about = About(asked.program, asked.options, [shown(word) for word in command], server.bound_to)

    def files() -> list[File]:
        return [file for stage in reading for file in stage.files()]

    document = Document(about, ledger, counts, server.connections, pools, files)
    what = f"unable to make the status socket {shown(asked.path)}"
    try:
        return Door(reactor, asked.path, document.pieces)
    except Taken as error:
        raise StageExit(SERVER, ExitCode.USAGE, f"{what}: {error}") from error
    except OSError as error:
        raise StageExit(SERVER, ExitCode.SYSTEM, f"{what}: {error.strerror or error}") from error
