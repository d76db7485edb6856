"""What iptables-save and ip6tables-save write: the chain INPUT of the table filter, as a new connection meets it."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from typing import TYPE_CHECKING

from s6tls.audit.core.networks import Family, Network
from s6tls.audit.formats.entries import Diagnostic, LineError, Parsed, faults_of, network, printable, sound
from s6tls.audit.formats.firewall import chains
from s6tls.audit.formats.firewall.chains import Chain, Outcome, Step, is_matched_when_new, without
from s6tls.audit.formats.lists.ranges import networks_in

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["parse"]

_LINE = re.compile(r"(?:\[\d+:\d+\] )?-A (\S+)(.*)")
_DECLARATION = re.compile(r":(\S+) (ACCEPT|DROP|-)(?: \[\d+:\d+\])?")
_OUTCOMES = {
    "ACCEPT": Outcome.ACCEPT,
    "DROP": Outcome.DROP,
    "REJECT": Outcome.DROP,
    "RETURN": Outcome.RETURN,
    "LOG": Outcome.NOTHING,
    "NFLOG": Outcome.NOTHING,
}
_MODULES = ("comment", "conntrack", "state", "iprange", "tcp")
_PROTOCOL, _STATE = ("-p", "--protocol"), ("--ctstate", "--state")
_TCP = ("tcp", "6", "all", "0")
_OTHER_TABLES = ("nat", "mangle", "raw", "security")


def parse(data: bytes, *, mask_host_bits: bool = False) -> Parsed:
    """Read what was saved.  Raises BadText."""
    reader = _Reader(mask_host_bits, b"ip6tables" in data[:200])
    faults = faults_of(data, reader.take)
    faults += reader.incomplete()
    try:
        return sound(reader.parsed(), faults)
    except LineError as error:
        return sound(Parsed([]), [*faults, Diagnostic(1, str(error))])


def _can_match(words: list[str]) -> bool:
    """Tell whether a rule is for TCP, as far as it says, and for the first packet of a connection."""
    for place, (option, value) in enumerate(pairwise(words)):
        if option in _PROTOCOL:
            is_met = value.lower() in _TCP
        elif option in _STATE:
            is_met = is_matched_when_new(value.split(","))
        else:
            continue
        if is_met is (words[place - 1 : place] == ["!"]):
            return False
    return True


class _Reader:
    def __init__(self, mask_host_bits: bool, is_ip6: bool) -> None:
        self._mask_host_bits = mask_host_bits
        self._family: Family | None = Family.IP6 if is_ip6 else None
        self._chains: dict[str, Chain] = {}
        self._table = ""
        self._comments: list[str] = []

    def take(self, number: int, line: str) -> None:
        """Take a line.  Raises LineError and AddressError."""
        if line.startswith("#"):
            self._comments.append(printable(line[1:]))
        elif line.startswith("*"):
            self._table = line[1:].strip()
            if self._table not in ("filter", *_OTHER_TABLES):
                raise LineError(f"an unknown table: {self._table[:40]}")
        elif line.strip() in ("", "COMMIT"):
            return
        elif self._table != "filter":
            if " -j DROP" in line or not self._table:
                raise LineError("rules that drop in another table than filter")
        elif declared := _DECLARATION.fullmatch(line.strip()):
            self._chains[declared[1]] = Chain([], declared[2] != "DROP", number)
        else:
            self._rule(number, line)

    def _rule(self, number: int, line: str) -> None:
        found = _LINE.fullmatch(line)
        if found is None:
            raise LineError("not of iptables-save: *TABLE, :CHAIN, -A or COMMIT")
        if found[1] in ("FORWARD", "OUTPUT"):
            return
        if found[1] not in self._chains:
            raise LineError(f"the chain is not declared: {found[1]}")
        try:
            words = shlex.split(found[2])
        except ValueError as error:
            raise LineError(f"{error}") from None
        step = Step(number, [], Outcome.NOTHING)
        if _can_match(words):
            step.networks = self._conditions(iter(words), step)
        step.comments, self._comments = tuple(self._comments), []
        self._chains[found[1]].steps.append(step)

    def _conditions(self, words: Iterator[str], step: Step) -> list[Network]:
        """Read the words of a rule; return the networks that it matches, and put the rest into `step`."""
        matched: list[Network] | None = None
        for word in words:
            is_negated = word == "!"
            option = next(words, "") if is_negated else word
            if option in ("-j", "--jump", "-g", "--goto"):
                self._target(option, words, step)
                break
            value = next(words, None)
            if value is None:
                raise LineError(f"nothing behind {option[:40]}")
            if option in ("-s", "--source", "--src-range"):
                if matched is not None:
                    raise LineError("more than one source")
                matched = self._sources(value, is_negated)
            elif option == "--comment":
                step.note = printable(value)
            elif option in (*_PROTOCOL, *_STATE):
                continue
            elif option != "-m" or value not in _MODULES or is_negated:
                raise LineError(f"rules cannot express this condition: {option[:40]} {value[:40]}")
        return [Network(family, 0, 0) for family in Family] if matched is None else matched

    def _sources(self, text: str, is_negated: bool) -> list[Network]:
        networks = [at for part in text.split(",") for at in self._networks(part)]
        for at in networks:
            if (self._family or at.family) is not at.family:
                raise LineError("addresses of both families")
            self._family = at.family
        return without(networks, networks[0].family) if is_negated else networks

    def _networks(self, text: str) -> list[Network]:
        if "-" in text:
            return networks_in(text)
        return [network(text, mask_host_bits=self._mask_host_bits)]

    def _target(self, option: str, words: Iterator[str], step: Step) -> None:
        target, *_ = [*words, ""]
        step.chain = target
        if option in ("-g", "--goto"):
            step.outcome = Outcome.GOTO
        elif target in _OUTCOMES:
            step.outcome = _OUTCOMES[target]
        elif target in self._chains:
            step.outcome = Outcome.JUMP
        else:
            raise LineError(f"rules cannot express this target: {target[:40]}")

    def incomplete(self) -> list[Diagnostic]:
        """Return why lines that are right by themselves do not do."""
        if "INPUT" not in self._chains:
            return [Diagnostic(1, "no chain INPUT in a table filter")]
        targets = [step for chain in self._chains.values() for step in chain.steps]
        return [
            Diagnostic(step.line, f"the chain is not declared: {step.chain}")
            for step in targets
            if step.outcome is Outcome.GOTO and step.chain not in self._chains
        ]

    def parsed(self) -> Parsed:
        """Return what the chains come to.  Raises LineError."""
        if self.incomplete():
            return Parsed([])
        return chains.parsed(self._chains, ["INPUT"], [self._family or Family.IP4], self._comments)
