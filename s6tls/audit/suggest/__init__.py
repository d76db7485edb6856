"""From logs to rules: the narrowest that cover the clients seen, and narrower ones than there are."""

from s6tls.audit.suggest.forest import Limit
from s6tls.audit.suggest.known import Known
from s6tls.audit.suggest.suggest import Proposal, Suggestion, prove_suggestion, suggest
from s6tls.audit.suggest.tighten import Tight, Tightened, prove_tightened, tighten

__all__ = [
    "suggest",
    "prove_suggestion",
    "Suggestion",
    "Proposal",
    "Limit",
    "Known",
    "tighten",
    "prove_tightened",
    "Tightened",
    "Tight",
]
