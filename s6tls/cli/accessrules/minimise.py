"""s6-accessrules minimise: the fewest rules that decide equally."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from s6tls.accessrules.cdb import DEFAULT_MODE
from s6tls.accessrules.deferred_signals import DeferredSignals
from s6tls.accessrules.errors import AddressError
from s6tls.accessrules.text import shown
from s6tls.audit.core import wording
from s6tls.audit.core.networks import parse_cidr
from s6tls.audit.core.save import is_cdb, write
from s6tls.audit.minimise.lossy import Budget
from s6tls.audit.minimise.minimise import Unproven, minimise, proof
from s6tls.cli.accessrules.common import JSON, Table, count, interruptible, load, progress, say, say_json, writing
from s6tls.cli.accessrules.diff import first_prefixes
from s6tls.cli.frame.options import Option, Synopsis, UsageError
from s6tls.cli.frame.program import SYSTEM, Failure

if TYPE_CHECKING:
    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.core.networks import Network
    from s6tls.audit.core.progress import Progress
    from s6tls.audit.minimise.minimise import Minimised
    from s6tls.audit.questions.diff import Difference

SYNOPSIS = Synopsis(
    "s6-accessrules minimise",
    (
        Option("", ("budget",), "N", "let at most N addresses be decided otherwise where that saves rules"),
        Option("", ("protect",), "PREFIX", "a network in which no decision may change; may be repeated"),
        JSON,
    ),
    "RULES OUT",
)


def body(argv: list[bytes]) -> int:
    """Write the smallest rule set that decides as another does."""
    options, words = SYNOPSIS.parse_mixed(argv)
    if len(words) != 2:
        raise UsageError
    rules, out = words
    budget = _budget(options)
    with interruptible() as interruption, progress() as told:

        def tell(what: str, done: int) -> None:
            interruption.checkpoint()
            told(what, done)

        old = load(rules, tell)
        if not is_cdb(out, old) and os.path.lexists(out):
            raise Failure(SYSTEM, f"unable to write {shown(out)}: it exists, and a tree replaces nothing")
        small = minimise(old, budget, progress=tell)
        changed = _write(out, small, old, budget, DEFAULT_MODE if old.is_tree else old.mode, tell, interruption)
    if "json" in dict(options):
        say_json(small.json(changed))
    else:
        _tell(small, changed)
    return 0


def _budget(options: list[tuple[str, bytes]]) -> Budget:
    addresses = 0
    protected: list[Network] = []
    for name, value in options:
        if name == "budget":
            # 2**128 has 39 digits; more than all addresses is no more than all.
            if not value.isdigit() or len(value) > 40:
                raise UsageError(f"invalid value for --budget: {shown(value)} (expected a number of addresses)")
            addresses = int(value)
        elif name == "protect":
            try:
                protected.append(parse_cidr(value.decode("ascii", "backslashreplace")))
            except AddressError as error:
                raise UsageError(f"invalid value for --protect: {error}") from error
    return Budget(addresses, tuple(protected))


def _write(
    out: bytes,
    small: Minimised,
    old: LoadedRules,
    budget: Budget,
    mode: int,
    tell: Progress,
    interruption: DeferredSignals,
) -> list[Difference]:
    """Write the smaller set, and return what the comparison of what was written with the old one shows."""
    changed: list[Difference] = []

    def check(written: LoadedRules) -> None:
        changed.extend(proof(old, written, budget, progress=tell))

    try:
        with writing(out):
            write(out, small.loaded, mode=mode, check=check, progress=tell, checkpoint=interruption.checkpoint)
    except Unproven as error:
        raise Failure(SYSTEM, f"unable to write {shown(out)}: what was written decides otherwise: {error}") from error
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
    return first_prefixes(difference), difference.addresses, before, after
