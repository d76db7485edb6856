"""Networks: a family, the number of the first address, and the length of the prefix.

Numbers are plain integers, below 2**32 or 2**128, so that one arithmetic does for both families.
"""

from __future__ import annotations

import enum
import socket
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from s6tls.accessrules.errors import AddressError
from s6tls.accessrules.keys import address_text, parse_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Range = tuple[int, int]


class InexactName(AddressError):
    """The name of a rule means a network, but is not the text that lookups ask for, which is `exact`.

    `host_bits` tells that bits are set beyond the prefix.
    """

    def __init__(self, exact: str, host_bits: bool) -> None:
        super().__init__(f"write it as {exact}")
        self.exact, self.host_bits = exact, host_bits


class Family(enum.Enum):
    """An address family; its value is the family of its rules in their keys."""

    IP4 = "ip4"
    IP6 = "ip6"

    # Cached, since audits ask for them millions of times.

    @cached_property
    def prefix(self) -> bytes:
        """What the keys of its rules begin with: ``b"ip4/"``."""
        return self.value.encode() + b"/"

    @cached_property
    def label(self) -> str:
        """What people call it: ``IPv4``."""
        return "IPv4" if self is Family.IP4 else "IPv6"

    @classmethod
    def of(cls, packed: bytes) -> Family:
        """Return the family of an address of 4 or 16 bytes."""
        return cls.IP4 if len(packed) == 4 else cls.IP6

    @cached_property
    def octets(self) -> int:
        """How many bytes an address has."""
        return 4 if self is Family.IP4 else 16

    @cached_property
    def bits(self) -> int:
        """How many bits an address has."""
        return 8 * self.octets

    @cached_property
    def size(self) -> int:
        """How many addresses there are."""
        return 1 << self.bits

    @cached_property
    def _socket_family(self) -> int:
        return socket.AF_INET if self is Family.IP4 else socket.AF_INET6

    def text(self, number: int) -> str:
        """Return an address in its canonical text, that of rules."""
        return address_text(number.to_bytes(self.octets, "big")).decode("ascii")

    def key(self, number: int, length: int) -> bytes:
        """Return the key of a rule for a network."""
        return self.prefix + f"{self.text(number)}_{length}".encode("ascii")

    def cidr(self, number: int, length: int) -> str:
        """Return a network as people write it: ``10.0.0.0/8``."""
        return f"{self.text(number)}/{length}"

    def parse_name(self, name: bytes) -> tuple[int, int]:
        """Return the number and prefix length that the name of a rule stands for.

        Raises AddressError, saying why no address of this family can match a rule of this name; InexactName if it
        would do in other words.
        """
        text, _, digits = name.rpartition(b"_")
        bits = self.bits
        if not digits.isdigit() or len(digits) > 3 or int(digits) > bits or (digits[:1] == b"0" and digits != b"0"):
            raise AddressError(f"it does not end with _ and a prefix length from 0 to {bits}")
        try:
            packed = socket.inet_pton(self._socket_family, text.decode("ascii"))
        except (OSError, ValueError):
            raise AddressError("its name does not start with an address") from None
        number, length = int.from_bytes(packed, "big"), int(digits)
        network = number >> (bits - length) << (bits - length)
        # An IPv4 address has one text only, as far as inet_pton goes.
        if network != number or (self is Family.IP6 and address_text(packed) != text):
            raise InexactName(f"{self.text(network)}_{length}", network != number)
        return number, length


_OF_ADDRESSES = {family.value.encode(): family for family in Family}


def split_key(key: bytes) -> tuple[Family | None, bytes]:
    """Return the family of addresses that a rule with this key is for, None for another, and the rule's name in it."""
    family, slash, name = key.partition(b"/")
    return _OF_ADDRESSES.get(family) if slash else None, name


def family_name(key: bytes) -> bytes:
    """Return the name of the family that a rule with this key is in, be it one of addresses or not."""
    return key.partition(b"/")[0]


def key_order(key: bytes) -> tuple[str, int, int, bytes]:
    """Return what keys are sorted by: networks by number, the wider first, all others by their texts behind them."""
    family, name = split_key(key)
    if family is not None:
        try:
            return family.value, *family.parse_name(name), key
        except InexactName as error:
            return family.value, *family.parse_name(error.exact.encode()), key
        except AddressError:
            pass
    return "other", 0, 0, key


class Network(NamedTuple):
    """A network, with the family that its number belongs to."""

    family: Family
    number: int
    length: int

    @property
    def range(self) -> Range:
        """The number of the first address, and that after the last."""
        return self.number, self.number + (1 << self.family.bits - self.length)

    def __str__(self) -> str:
        return self.family.cidr(self.number, self.length)


def parse_address_number(text: str | bytes) -> tuple[Family, int]:
    """Return the family and the number of an address in its strict form.  Raises AddressError."""
    packed = parse_address(text)
    return Family.of(packed), int.from_bytes(packed, "big")


def parse_cidr(text: str, *, mask_host_bits: bool = False) -> Network:
    """Return the network that ``ADDRESS/LENGTH`` or a lone ``ADDRESS`` stands for.

    Raises AddressError, also when bits are set beyond the prefix: who writes that may mean something else.  With
    `mask_host_bits` these are cleared.
    """
    address, slash, digits = text.partition("/")
    family, number = parse_address_number(address)
    if not slash:
        return Network(family, number, family.bits)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 3 and int(digits) <= family.bits):
        raise AddressError(f"not a prefix length from 0 to {family.bits}: {digits!r}")
    length = int(digits)
    rest = family.bits - length
    found = Network(family, number >> rest << rest, length)
    if found.number != number and not mask_host_bits:
        raise AddressError(f"bits are set beyond the prefix: {text} (write it as {found})")
    return found


def prefixes(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut the addresses from `start` up to, not including, `end` into the fewest networks.

    Yields the number of the first address and *how many bits are free* (a single address has none), in order.
    """
    while start < end:
        free = min((start & -start).bit_length() - 1 if start else 129, (end - start).bit_length() - 1)
        yield start, free
        start += 1 << free


def joined(ranges: Iterable[Range]) -> Iterator[Range]:
    """Join ranges, given in order, that touch."""
    begun: Range | None = None
    for start, end in ranges:
        if begun is not None and begun[1] == start:
            begun = (begun[0], end)
        else:
            if begun is not None:
                yield begun
            begun = (start, end)
    if begun is not None:
        yield begun


def cidrs(family: Family, ranges: Iterable[Range]) -> list[str]:
    """Return the fewest networks that cover ranges, given in order, as people write them."""
    bits = family.bits
    return [family.cidr(number, bits - free) for start, end in joined(ranges) for number, free in prefixes(start, end)]
