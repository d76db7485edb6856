"""Questions that are put to rule sets: who gets in and why, what changed, how much is covered."""

from s6tls.audit.questions.coverage import Coverage, coverage
from s6tls.audit.questions.diff import Clients, Difference, OtherDifference, differences, other_differences
from s6tls.audit.questions.explain import Explainer, Explanation

__all__ = [
    "Explainer",
    "Explanation",
    "coverage",
    "Coverage",
    "differences",
    "other_differences",
    "Difference",
    "OtherDifference",
    "Clients",
]
