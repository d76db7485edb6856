"""Has a list lost so much that it may not be the list any more?  A download that broke off looks like a shorter one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.audit.core.networks import Family
from s6tls.audit.core.partition import NO_RULE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s6tls.audit.core.loaded import LoadedRules


def losses(old: LoadedRules, new: LoadedRules, percent: int) -> Iterator[str]:
    """Say of which addresses more than so many in a hundred, or all, have gone, by family and verdict.

    Rules for all addresses of a family do not count: they are no part of a list.
    """
    for family in Family:
        for allow, verdict in ((True, "allowed"), (False, "denied")):
            before, after = (_addresses(loaded, family, allow) for loaded in (old, new))
            if after * 100 < before * (100 - percent) or (before and not after):
                yield f"{after:,} of {before:,} {family.label} addresses that were {verdict} are left"


def _addresses(loaded: LoadedRules, family: Family, allow: bool) -> int:
    partition = loaded.partition(family)
    return sum(
        end - start
        for start, end, index in partition.intervals()
        if index != NO_RULE and partition.lengths[index] and partition.rules[index].allow is allow
    )
