"""The rule engine: rule sets as directories and as cdb files, looked up, compiled and decompiled.

It opens no sockets and starts no processes, and imports nothing else of this project.
"""

from s6tls.accessrules.errors import AddressError, MalformedRecord, RuleSetError
from s6tls.accessrules.rule import Decision, Rule, Verdict
from s6tls.accessrules.ruleset import RuleSet

__all__ = ["RuleSet", "Decision", "Verdict", "Rule", "RuleSetError", "MalformedRecord", "AddressError"]
