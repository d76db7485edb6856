"""The rule engine: rule sets as directories and as cdb files, looked up, compiled and decompiled.

It opens no sockets and starts no processes, and imports nothing else of this project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s6tls.accessrules.errors import AddressError, MalformedRecord, RuleSetError
    from s6tls.accessrules.rule import Decision, Rule, Verdict
    from s6tls.accessrules.ruleset import RuleSet

__all__ = ["RuleSet", "Decision", "Verdict", "Rule", "RuleSetError", "MalformedRecord", "AddressError"]
_HOMES = {"RuleSet": "ruleset", "Decision": "rule", "Verdict": "rule", "Rule": "rule"}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: TLS engines need some of the modules here, and never a rule."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
