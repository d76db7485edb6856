"""s6-accessrules minimise: the fewest rules that decide equally."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s6tls.accessrules.cdb import DEFAULT_MODE
from s6tls.accessrules.errors import AddressError
from s6tls.accessrules.text import shown
from s6tls.audit.core import wording
from s6tls.audit.core.networks import parse_cidr
from s6tls.audit.core.save import is_cdb, write
from s6tls.audit.minimise.lossy import Budget
from s6tls.audit.minimise.minimise import Unproven, minimise, proof
from s6tls.cli.accessrules.common import JSON, Table, count, interruptible, load, progress, say, say_json, writing
from s6tls.cli.frame.options import Given, Option, Synopsis, UsageError
from s6tls.cli.frame.program import Failure
from s6tls.posix.exitcodes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.progress import Progress
    from s6tls.audit.minimise.minimise import Minimised
    from s6tls.audit.questions.diff import Difference

SYNOPSIS = Synopsis(
    "s6-accessrules minimise",
    (
        Option(
            "", ("budget",), "N", "let at most N addresses be decided otherwise where that saves rules. Default: none"
        ),
        Option(
            "", ("protect",), "PREFIX", "a network, or an address, in which no decision may change; may be repeated"
        ),
        JSON,
    ),
    "RULES OUT",
)


def body(argv: list[bytes]) -> int:
    """Write the smallest rule set that decides as another does."""
    given = SYNOPSIS.read_mixed(argv)
    rules, out = given.words
    budget = _budget(given)
    with interruptible() as interruption, progress() as told:

        def tell(what: str, done: int) -> None:
            interruption.checkpoint()
            told(what, done)

        old = load(rules, tell)
        if not is_cdb(out, old) and os.path.lexists(out):
            raise Failure(ExitCode.SYSTEM, f"unable to write {shown(out)}: it exists, and a tree replaces nothing")
        small = minimise(old, budget, progress=tell)
        changed = _Writer(old, budget, tell, interruption.checkpoint).write(out, small)
    if given.flag("json"):
        say_json(small.json(changed))
    else:
        _tell(small, changed)
    return 0


def _budget(given: Given) -> Budget:
    addresses = given.value("budget", b"0")
    # 2**128 has 39 digits; more than all addresses is no more than all.
    if not addresses.isdigit() or len(addresses) > 40:
        raise UsageError(f"invalid value for --budget: {shown(addresses)} (expected a number of addresses)")
    try:
        protected = [parse_cidr(network.decode("ascii", "backslashreplace")) for network in given.values("protect")]
    except AddressError as error:
        raise UsageError(f"invalid value for --protect: {error}") from error
    return Budget(int(addresses), tuple(protected))


@dataclass(frozen=True)
class _Writer:
    """Writes a smaller set than `old`, and proves that it decides otherwise only where `budget` lets it."""

    old: LoadedRules
    budget: Budget
    progress: Progress
    checkpoint: Callable[[], None]

    def write(self, out: bytes, small: Minimised) -> list[Difference]:
        """Return what a comparison of what was written with the old set shows.  Raises Failure."""
        changed: list[Difference] = []

        def check(written: LoadedRules) -> None:
            changed.extend(proof(self.old, written, self.budget, progress=self.progress))

        mode = DEFAULT_MODE if self.old.is_tree else self.old.mode
        try:
            with writing(out):
                write(out, small.loaded, mode=mode, check=check, progress=self.progress, checkpoint=self.checkpoint)
        except Unproven as error:
            message = f"unable to write {shown(out)}: what was written decides otherwise: {error}"
            raise Failure(ExitCode.SYSTEM, message) from error
        return changed


def _tell(small: Minimised, changed: list[Difference]) -> None:
    for family, (before, after) in small.rules.items():
        say(f"{family.value}: {count(before, 'rule')} before, {after:,} after")
    if small.others:
        say(f"other families: {count(small.others, 'rule')}, kept")
    if small.dead:
        say(f"no lookup asks for: {count(small.dead, 'rule')}, left out")
    if not changed:
        say("proof: what was written decides equally for every address")
        return
    addresses = count(sum(difference.addresses for difference in changed), "address")
    say(f"proof: what was written decides otherwise for {addresses}, and equally for all others")
    say("")
    table = Table("prefixes", "addresses", "before", "after", right=[1])
    table.add(changed, _row)
    table.show()


def _row(difference: Difference) -> tuple[object, ...]:
    before, after = (wording.summary(decided.rule) for decided in (difference.before, difference.after))
    return difference.first_prefixes(), difference.addresses, before, after
