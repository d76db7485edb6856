"""What rules do to the environment, and what they run, as far as it shows without a look at the file system."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s6tls.accessrules import record
from s6tls.accessrules.errors import UsageProblem
from s6tls.accessrules.identifiers import HIGHEST, IN_ENVIRONMENT, BadId
from s6tls.accessrules.record import MAX_EXEC
from s6tls.accessrules.text import shown
from s6tls.audit.lint.findings import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s6tls.accessrules.rule import Rule
    from s6tls.audit.core.loaded import LoadedRules


def findings(loaded: LoadedRules) -> Iterator[Finding]:
    """Yield environments that no record holds, texts that may be cut, refused ids, and halves of keypairs."""
    seen: dict[Rule, list[Finding]] = {}
    for key, rule in loaded.rules.items():
        if rule.env or rule.exec:
            if rule not in seen:
                seen[rule] = list(_of_rule(rule, loaded.is_tree))
            for found in seen[rule]:
                yield found.at(key)


def _of_rule(rule: Rule, is_tree: bool) -> Iterator[Finding]:
    try:
        record.encode(rule)
    except UsageProblem as error:
        remedy = "set fewer or shorter variables: no cdb can hold it"
        yield Finding("env-too-large", Severity.ERROR, str(error), remedy)
    if len(rule.exec) == MAX_EXEC and not is_tree:  # of a tree, the size of the file tells more
        message = f"exec takes exactly {MAX_EXEC} bytes, where compilers cut longer ones"
        yield Finding("exec-cut", Severity.WARNING, message, "see that its end is there, or put it in a script")
    yield from _ids(rule)
    yield from _half_pairs(rule)


def _ids(rule: Rule) -> Iterator[Finding]:
    for name, value in rule.env:
        if name in IN_ENVIRONMENT and value is not None:
            try:
                found = IN_ENVIRONMENT[name](value)
            except BadId as error:
                # Only a service with -U takes ids from UID, GID and GIDLIST; a program may have its own use for them.
                severity = Severity.ERROR if name.startswith(b"TLS_") else Severity.WARNING
                server = "a server" if severity is Severity.ERROR else "a server with -U"
                message = f"sets {shown(name)} to no id ({error}): {server} refuses the client"
                remedy = f"write numbers from 0 to {HIGHEST}" + (", with commas between" if name == b"GIDLIST" else "")
                yield Finding("bad-id", severity, message, remedy)
            else:
                if found == 0 and name.startswith(b"TLS_"):
                    message = f"sets {shown(name)} to 0: a server without --allow-root-engine refuses the client"
                    yield Finding("root-engine", Severity.WARNING, message, "name an account without rights, or none")


def _half_pairs(rule: Rule) -> Iterator[Finding]:
    """Yield a finding where a rule gives a key for a server, but no certificate for it, or the other way round."""
    env = dict(rule.env)
    for name in env:
        kind, colon, server = name.partition(b":")
        if kind not in _OTHER_HALF or (colon and not server):
            continue
        other = _OTHER_HALF[kind] + colon + server
        if env[name] and not env.get(other):
            yield Finding(
                "half-keypair",
                Severity.WARNING,
                f"sets {shown(name)} but not {shown(other)}: that of the server's environment need not match",
                f"set {shown(other)} in the same rule",
            )


_OTHER_HALF = {b"KEYFILE": b"CERTFILE", b"CERTFILE": b"KEYFILE", b"KEYFILE2": b"CERTFILE2", b"CERTFILE2": b"KEYFILE2"}
