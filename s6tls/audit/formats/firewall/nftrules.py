"""The tables, chains and rules of nft, as a new connection meets them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from s6tls.accessrules.errors import AddressError
from s6tls.audit.core.networks import Family, Network
from s6tls.audit.formats.entries import Diagnostic, LineError, network, printable
from s6tls.audit.formats.firewall.chains import Chain, Outcome, Step, is_matched_when_new, without
from s6tls.audit.formats.lists.ranges import networks_in

if TYPE_CHECKING:
    from s6tls.audit.formats.firewall.nftwords import Sentence
    from s6tls.audit.formats.firewall.sets import AddressSet

EVERY = [Network(family, 0, 0) for family in Family]
_HOOKS = ("ingress", "prerouting", "input")
"""Those that a connection to this machine meets, in this order."""
_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_OUTCOMES = {
    "accept": Outcome.ACCEPT,
    "drop": Outcome.DROP,
    "reject": Outcome.DROP,
    "return": Outcome.RETURN,
    "continue": Outcome.NOTHING,
    "jump": Outcome.JUMP,
    "goto": Outcome.GOTO,
}
_LOGGING = ("prefix", "level", "flags", "group", "snaplen", "queue-threshold")
_OTHER_PROTOCOLS = ("udp", "icmp", "icmpv6", "igmp", "sctp", "dccp", "udplite", "esp", "ah", "arp")
_IP4, _IP6 = Family.IP4, Family.IP6
_PROTOCOLS = {"ip": _IP4, "ipv4": _IP4, "ip6": _IP6, "ipv6": _IP6}


@dataclass
class NftChain:
    """A chain as it stands; `order` tells where in its way a connection meets it, and is None if it does not."""

    order: tuple[int, int] | None = None
    policy: bool = True
    policy_line: int = 0
    rules: list[Sentence] = field(default_factory=list)


@dataclass
class Table:
    """A table: the families that it sees, its sets and its chains."""

    families: tuple[Family, ...]
    sets: dict[str, AddressSet] = field(default_factory=dict)
    chains: dict[str, NftChain] = field(default_factory=dict)

    def first(self) -> dict[str, tuple[int, int]]:
        """Return the chains that a connection meets by themselves, and when."""
        return {name: chain.order for name, chain in self.chains.items() if chain.order is not None}


def add_to_chain(chain: NftChain, sentence: Sentence) -> None:
    """Add what a sentence in a chain says: its type, its policy, or a rule.  Raises LineError."""
    words = sentence.words
    if words[0] == "type":
        chain.order = _order(words)
    elif words[0] == "policy":
        if words[1:] not in (["accept"], ["drop"]):
            raise LineError("the policy is neither accept nor drop")
        chain.policy, chain.policy_line = words[1] == "accept", sentence.line
    elif words[0] != "comment":
        chain.rules.append(sentence)


def _order(words: list[str]) -> tuple[int, int] | None:
    """Return which place a hook and a priority give a chain, or None for chains that do not decide about clients."""
    if len(words) < 6 or words[2] != "hook" or "priority" not in words:
        raise LineError("not type, a word, hook, a word and priority")
    if words[1] != "filter" or words[3] not in _HOOKS:
        return None
    name, *more = words[words.index("priority") + 1 :]
    text = "".join(more)
    try:
        number = _PRIORITIES[name] if name in _PRIORITIES else int(name)
        return _HOOKS.index(words[3]), number + int(text or 0)
    except ValueError:
        raise LineError(f"not a priority: {name[:40]} {text[:40]}") from None


def chains_of(table: Table, mask_host_bits: bool, faults: list[Diagnostic]) -> dict[str, Chain]:
    """Return the chains that a connection can come to; what their rules have that cannot be said becomes a fault."""
    made: dict[str, Chain] = {}
    waiting = [*table.first()]
    while waiting:
        name = waiting.pop()
        if name in made:
            continue
        chain = table.chains[name]
        made[name] = Chain([], chain.policy, chain.policy_line)
        for sentence in chain.rules:
            try:
                step = _Rule(sentence, table, mask_host_bits).step()
            except (LineError, AddressError) as error:
                faults.append(Diagnostic(sentence.line, str(error)))
                continue
            made[name].steps.append(step)
            if step.chain:
                waiting.append(step.chain)
    return made


class _Rule:
    def __init__(self, sentence: Sentence, table: Table, mask_host_bits: bool) -> None:
        self._words = [*sentence.words]
        self._table = table
        self._mask_host_bits = mask_host_bits
        self._matched: list[Network] | None = None
        self._families = set(Family)
        self._step = Step(sentence.line, [], Outcome.NOTHING, comments=tuple(sentence.comments))
        self._can_match = True
        self._expires = False

    def step(self) -> Step:
        """Return what the rule does.  Raises LineError and AddressError."""
        while self._words and self._step.outcome is Outcome.NOTHING:
            self._part(self._next())
            if not self._can_match:
                self._step.outcome = Outcome.NOTHING
                return self._step
        if self._words[:1] == ["comment"]:
            self._part(self._next())
        if self._words:
            raise LineError(f"rules cannot express this: {' '.join(self._words)[:60]}")
        if self._expires and self._step.outcome is Outcome.ACCEPT:
            raise LineError("it accepts elements that time out, which a rule does not")
        matched = EVERY if self._matched is None else self._matched
        self._step.networks = [at for at in matched if at.family in self._families]
        return self._step

    def _next(self) -> str:
        if not self._words:
            raise LineError("the rule ends too early")
        return self._words.pop(0)

    def _part(self, word: str) -> None:
        if word in ("ip", "ip6"):
            self._of_packet(word)
        elif word == "ct":
            self._expect("state")
            is_negated = self._is_negated()
            self._can_match = is_matched_when_new(self._values()) is not is_negated
        elif word in _OTHER_PROTOCOLS:
            self._can_match = False
        elif word == "meta":
            self._meta(self._next())
        elif word == "counter":
            self._counter()
        elif word == "log":
            while self._words[:1] and self._words[0] in _LOGGING:
                del self._words[:2]
        elif word == "comment":
            self._step.note = printable(self._next()[1:])
        elif word in _OUTCOMES:
            self._outcome(word)
        else:
            raise LineError(f"rules cannot express this: {' '.join([word, *self._words])[:60]}")

    def _expect(self, wanted: str) -> None:
        word = self._next()
        if word != wanted:
            raise LineError(f"rules cannot express this: {word[:40]}, where {wanted} could stand")

    def _is_negated(self) -> bool:
        if self._words[:1] in (["!="], ["=="], ["="]):
            return self._next() == "!="
        return False

    def _values(self) -> list[str]:
        """Return the next value, or those of a list."""
        first = self._next()
        values: list[str] = []
        if first == "{":
            while (word := self._next()) != "}":
                values += [word] if word != "," else []
            return values
        values.append(first)
        while self._words[:1] == [","]:
            del self._words[0]
            values.append(self._next())
        return values

    def _of_packet(self, word: str) -> None:
        family = _PROTOCOLS[word]
        what = self._next()
        self._families &= {family}
        if what in ("protocol", "nexthdr"):
            self._protocol()
            return
        if what != "saddr":
            raise LineError(f"rules cannot express this: {word} {what[:40]}")
        if self._matched is not None:
            raise LineError("more than one source")
        is_negated = self._is_negated()
        networks = [at for value in self._values() for at in self._networks(value)]
        if any(at.family is not family for at in networks):
            raise LineError(f"not of the family of {word} saddr")
        self._matched = without(networks, family) if is_negated else networks

    def _networks(self, value: str) -> list[Network]:
        if value.startswith("@"):
            found = self._table.sets.get(value[1:])
            if found is None:
                raise LineError(f"no set {value[1:][:40]}")
            self._expires |= any(element.expires for element in found.elements)
            return found.networks()
        if "-" in value:
            return networks_in(value)
        return [network(value, mask_host_bits=self._mask_host_bits)]

    def _protocol(self) -> None:
        is_negated = self._is_negated()
        values = self._values()
        self._can_match = ("tcp" in values or "6" in values) is not is_negated

    def _meta(self, word: str) -> None:
        if word == "l4proto":
            self._protocol()
        elif word in ("nfproto", "protocol"):
            is_negated = self._is_negated()
            values = self._values()
            if unknown := [value for value in values if value not in _PROTOCOLS]:
                raise LineError(f"not a protocol of addresses: {unknown[0][:40]}")
            named = {_PROTOCOLS[value] for value in values}
            self._families &= set(Family) - named if is_negated else named
        else:
            raise LineError(f"rules cannot express this: meta {word[:40]}")

    def _counter(self) -> None:
        if self._words[:1] == ["packets"]:
            del self._words[:4]
        elif self._words[:1] == ["name"]:
            del self._words[:2]

    def _outcome(self, word: str) -> None:
        self._step.outcome = _OUTCOMES[word]
        if word in ("jump", "goto"):
            self._step.chain = self._next()
            if self._step.chain not in self._table.chains:
                raise LineError(f"no chain {self._step.chain[:40]}")
        elif word == "reject" and self._words[:1] == ["with"]:
            rest = self._words.index("comment") if "comment" in self._words else len(self._words)
            del self._words[:rest]
        elif word == "continue" and self._words:
            raise LineError("words behind continue")
