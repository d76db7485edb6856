"""The chain as data: a command line of this project's programs becomes a list of stages and what they run.

``s6-tcpserver-access -x rules.cdb s6-tlsd httpd`` is, to any of our programs, two stages
and ``httpd``: no exec is needed between links that we know.  A word is one of ours
when it names one of our programs and would be found where this program stands; a
program of the same name from elsewhere is run, not imitated.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol

from s6tls.cli.frame.options import Given, Synopsis, UsageError
from s6tls.cli.frame.program import heed_log_format, run
from s6tls.helper.helper import LookupHelper
from s6tls.posix.environment import initial_environment
from s6tls.posix.process import search
from s6tls.ucspi.image import Image, Stage
from s6tls.ucspi.log import log_start
from s6tls.ucspi.spawn import execute

if TYPE_CHECKING:
    from s6tls.stages.tlsd import EngineStarter
    from s6tls.ucspi.rulerates import RuleRates

_LINKS = {
    b"proxy-server": "s6tls.cli.proxy_server",
    b"s6-envdir": "s6tls.cli.s6_envdir",
    b"s6-envuidgid": "s6tls.cli.s6_envuidgid",
    b"s6-ipcserver-access": "s6tls.cli.s6_ipcserver_access",
    b"s6-tcpserver-access": "s6tls.cli.s6_tcpserver_access",
    b"s6-tlsd": "s6tls.cli.s6_tlsd",
    b"s6-ucspitlsd": "s6tls.cli.s6_ucspitlsd",
    b"s6-applyuidgid": "s6tls.cli.s6_applyuidgid",
    b"s6-connlimit": "s6tls.cli.s6_connlimit",
}


class Runtime(Protocol):
    """What a chain runs in, and takes from: a command that becomes the next program, or the long-lived server."""

    @property
    def long_lived(self) -> bool:
        """Whether what is made for the chain will serve many connections."""

    @property
    def patience_ms(self) -> int:
        """How long clients may take for a PROXY header and the handshake if no option says so; 0 is for ever."""

    @property
    def jail(self) -> str:
        """How much there must be of the engines' jail if no option says so: a word of `options.JAIL`."""

    def engine_starter(self) -> EngineStarter:
        """Return what puts TLS engines behind connections."""

    def lookup_helper(self) -> LookupHelper:
        """Return what parses untrusted input ahead of TLS."""

    def rule_rates(self) -> RuleRates | None:
        """Return what knows how often clients have connected, None if nobody does."""


@dataclass(frozen=True)
class OneShot:
    """A command of one connection: it applies its stages, then becomes the next program."""

    long_lived: bool = False
    patience_ms: int = 0
    jail: str = "best"

    def engine_starter(self) -> EngineStarter:
        """An engine is a child of this process."""
        from s6tls.tls.engines.child import ForkedEngine

        return ForkedEngine()

    def lookup_helper(self) -> LookupHelper:
        """A helper that ends when this process becomes the next program."""
        return LookupHelper()

    def rule_rates(self) -> RuleRates | None:
        """One connection is all that there is."""
        return None


MakeStage = Callable[[Given, Runtime], Stage]


class Link(Protocol):
    """What a module of a chain's command provides."""

    SYNOPSIS: Synopsis

    @property
    def stage(self) -> MakeStage:
        """What makes the stage from its part of the command line.  Raises UsageError."""


def parse(argv: Sequence[bytes], runtime: Runtime) -> tuple[list[Stage], list[bytes]]:
    """Take our own links off the front of `argv`; return their stages and what is left, a program and its words.

    Raises UsageError when nothing is left to run, or a link's part is wrong.
    """
    stages: list[Stage] = []
    words = list(argv)
    while words and (module := _our_link(words[0])):
        link: Link = importlib.import_module(module)
        stage, words = take(link.SYNOPSIS, link.stage, words[1:], runtime)
        stages.append(stage)
    if not words or not words[0]:
        raise UsageError("no program to run")
    return stages, words


def take(synopsis: Synopsis, make: MakeStage, argv: Sequence[bytes], runtime: Runtime) -> tuple[Stage, list[bytes]]:
    """Make one link's stage from the words after its name; return it and the words that follow.  Raises UsageError."""
    try:
        given = synopsis.read(argv)
        heed_log_format(given)
        return make(given, runtime), given.rest
    except UsageError as error:
        raise UsageError(str(error), synopsis) from error


def run_link(synopsis: Synopsis, make: MakeStage) -> NoReturn:
    """Entry point of a chain's command: apply its stage and those of our links that follow, then exec the program."""
    run(synopsis, lambda argv: _become(*parse_link(synopsis, make, argv)))


def parse_link(synopsis: Synopsis, make: MakeStage, argv: Sequence[bytes]) -> tuple[list[Stage], list[bytes]]:
    """Read the command line of the chain's command that this process is.  Raises UsageError."""
    runtime = OneShot()
    first, rest = take(synopsis, make, argv, runtime)
    stages, words = parse(rest, runtime)
    return [first, *stages], words


def _become(stages: Sequence[Stage], words: list[bytes]) -> NoReturn:
    image = Image(initial_environment(), words, stages=deque(stages))
    while image.stages:
        waiting = image.apply_next()
        if waiting is not None:
            while not waiting.resume():
                pass
            waiting.close()
    log_start(image, os.getpid())
    execute(image)


def programs_directory() -> bytes:
    """Return the directory in which this program, and so the project's others, stand."""
    return os.path.dirname(os.path.realpath(os.fsencode(sys.argv[0])))


def _our_link(word: bytes) -> str | None:
    module = _LINKS.get(os.path.basename(word))
    if module is None:
        return None
    try:
        found = search(word, os.environb.get(b"PATH"))
    except OSError:
        return module  # a name that is found nowhere can only mean our own
    return module if os.path.dirname(os.path.realpath(found)) == programs_directory() else None
