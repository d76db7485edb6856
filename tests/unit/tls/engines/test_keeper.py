"""What a pool's own program consists of."""

from __future__ import annotations

from tests.support.fresh.reporter import report

NEEDED = {
    "accessrules": "identifiers stamp text",
    "helper": "reply texts",
    "pki": "diagnosis files judgement names ocsp parsing",
    "posix": "backoff descriptors exitcodes fdpass identity jail layout reactor stderr",
    "posix.linux": "capabilities landlock libc seccomp syscalls trap",
    "tls": "credentials delayed ends library owner parameters policy pump session states variables wire",
    "tls.context": "algorithms build clients errors oddities stapling tickets",
    "tls.engines": "account engine keeper taking warmup",
    "ucspi": "hearsay image log minutely spawn",
    "ucspi.status": "files",
}
"""All that an engine has of this project, beside what starts it: no command line, no options, no rules, no server."""


def test_it_imports_what_sessions_need_and_no_more() -> None:
    modules = report("s6tls.tls.engines.keeper")["modules"]
    assert isinstance(modules, list)
    ours = {".".join(words[1:]) for words in (name.split(".") for name in modules) if words[0] == "s6tls"}
    assert ours - set(NEEDED) == {f"{room}.{name}" for room, names in NEEDED.items() for name in names.split()}
    assert not {"argparse", "asyncio", "json", "logging", "ssl", "subprocess", "tempfile"} & set(modules)
