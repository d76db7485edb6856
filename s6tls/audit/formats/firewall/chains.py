"""Chains of rules: what becomes of a client that goes through them.

A client goes through the rules of a chain until one that matches it accepts or drops it, sends it to another chain, or
back to where it came from; at the end of the first chain its policy decides.  Several first chains stand one behind
the other: who is accepted by one goes on to the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from s6tls.audit.core.networks import Family, Network
from s6tls.audit.formats import addresses
from s6tls.audit.formats.entries import LineError, Parsed, Provenance, Statement, first_match, plain_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    _Onwards = Callable[[Network], Iterator["Statement"]]

MOST_STEPS = 5_000_000


class Outcome(Enum):
    """What a rule does with clients that it matches."""

    ACCEPT = auto()
    DROP = auto()
    RETURN = auto()
    JUMP = auto()
    GOTO = auto()
    NOTHING = auto()


@dataclass
class Step:
    """One rule: the networks that it matches, what it does, and to which chain it sends."""

    line: int
    networks: list[Network]
    outcome: Outcome
    chain: str = ""
    note: str = ""
    comments: tuple[str, ...] = ()


@dataclass
class Chain:
    """Rules in their order; `policy` is what happens at the end of a first chain, said in `policy_line`."""

    steps: list[Step] = field(default_factory=list)
    policy: bool = True
    policy_line: int = 0


def without(networks: Iterable[Network], family: Family) -> list[Network]:
    """Return all of a family but these networks."""
    return [at for at in (~addresses.of(networks)).networks() if at.family is family]


def is_matched_when_new(states: Iterable[str]) -> bool:
    """Tell whether the first packet of a connection is in one of these states of a connection."""
    return "new" in {state.lower() for state in states}


def parsed(chains: dict[str, Chain], first: list[str], families: Iterable[Family], trailing: Iterable[str]) -> Parsed:
    """Return what the chains, of which these are first, come to.  Raises LineError."""
    walk = _Walk(chains, first)
    try:
        statements = [said for family in families for said in walk.begin(0, Network(family, 0, 0))]
    except RecursionError:
        raise LineError("the chains call each other too often") from None
    unreached = (comment for chain in chains.values() for step in chain.steps for comment in step.comments)
    return first_match(statements, (*unreached, *trailing))


class _Walk:
    def __init__(self, chains: dict[str, Chain], first: list[str]) -> None:
        self._chains = chains
        self._first = first
        self._steps = 0

    def begin(self, place: int, within: Network) -> Iterator[Statement]:
        """Yield what becomes of the clients of a network from a first chain on."""
        chain = self._chains[self._first[place]]

        def accept(at: Network, line: int, about: Provenance) -> Iterator[Statement]:
            if place + 1 < len(self._first):
                return self.begin(place + 1, at)
            return iter([Statement(at, plain_rule(True), line, about)])

        def policy(at: Network) -> Iterator[Statement]:
            if chain.policy:
                return accept(at, chain.policy_line, Provenance())
            return iter([Statement(at, plain_rule(False), chain.policy_line)])

        return self._run(chain, 0, within, policy, accept)

    def _run(
        self,
        chain: Chain,
        start: int,
        within: Network,
        end: _Onwards,
        accept: Callable[[Network, int, Provenance], Iterator[Statement]],
    ) -> Iterator[Statement]:
        """Yield what becomes of the clients of a network from a rule on; `end` goes on behind the chain."""
        for place in range(start, len(chain.steps)):
            step = chain.steps[place]

            def onwards(at: Network, following: int = place + 1) -> Iterator[Statement]:
                return self._run(chain, following, at, end, accept)

            for network in step.networks if step.outcome is not Outcome.NOTHING else ():
                self._count()
                at = _common(network, within)
                if at is None:
                    continue
                if step.outcome is Outcome.ACCEPT:
                    yield from accept(at, step.line, _about(step))
                elif step.outcome is Outcome.DROP:
                    yield Statement(at, plain_rule(False), step.line, _about(step))
                elif step.outcome is Outcome.RETURN:
                    yield from end(at)
                else:
                    back = onwards if step.outcome is Outcome.JUMP else end
                    yield from self._run(self._chains[step.chain], 0, at, back, accept)
                if at == within:
                    return
        yield from end(within)

    def _count(self) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise LineError(f"the chains take more than {MOST_STEPS:,} steps")


def _about(step: Step) -> Provenance:
    """Return what is known about a rule; its comments, only once."""
    about = Provenance(note=step.note, comments=step.comments)
    step.comments = ()
    return about


def _common(one: Network, other: Network) -> Network | None:
    """Return the network whose addresses are in both."""
    if one.family is not other.family:
        return None
    narrow, wide = (one, other) if one.length >= other.length else (other, one)
    rest = one.family.bits - wide.length
    return narrow if narrow.number >> rest == wide.number >> rest else None
