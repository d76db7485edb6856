"""What lint has to say about a rule set."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from s6tls.accessrules.text import decoded

if TYPE_CHECKING:
    from s6tls.audit.core.wording import Json


class Severity(enum.IntEnum):
    """How bad a finding is; the worse, the greater.

    An error: the rule set does not do what it says, or a server would refuse clients for it.  A warning: it hardly
    does what was meant.  A note: it could be simpler, or is worth knowing.
    """

    NOTE = 1
    WARNING = 2
    ERROR = 3

    @property
    def word(self) -> str:
        """What people and machines call it: ``error``."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or odd.

    `code` names the kind (``host-bits``) and does not change between versions.  `rule` is the key of the rule, None
    where more than one is concerned.  `message` says what is so, `remedy` what to do about it; neither has a final dot.
    """

    code: str
    severity: Severity
    message: str
    remedy: str
    rule: bytes | None = None

    def at(self, rule: bytes, rules: int = 1) -> Finding:
        """Return this finding as one about a rule, the first of so many that have it."""
        others = f" (and in {rules - 1:,} more rule{'s' if rules > 2 else ''})" if rules > 1 else ""
        return replace(self, message=self.message + others, rule=rule)

    def json(self) -> Json:
        """Return the finding as JSON has it."""
        return {
            "code": self.code,
            "severity": self.severity.word,
            "rule": None if self.rule is None else decoded(self.rule),
            "message": self.message,
            "remedy": self.remedy,
        }
