"""What the helper's own program consists of."""

from __future__ import annotations

from s6tls.helper.program import _NEEDS
from tests.support.fresh.reporter import report

NEEDED = {
    "accessrules": "errors identifiers keys text",
    "helper": "ident lookup names program proxyheader query reply request resolver serving texts variables",
    "posix": "descriptors exitcodes identity jail reactor stderr",
    "posix.linux": "capabilities landlock libc seccomp syscalls trap",
    "ucspi": "image log spawn",
}
"""All that it has of this project, beside what starts it: no command line, no rules, no server, no TLS."""


def test_it_imports_what_requests_need_and_no_more() -> None:
    modules = report("s6tls.helper.program", *(module for needed in _NEEDS.values() for module in needed))["modules"]
    assert isinstance(modules, list)
    ours = {".".join(words[1:]) for words in (name.split(".") for name in modules) if words[0] == "s6tls"}
    assert ours - {"", *NEEDED} == {f"{room}.{name}" for room, names in NEEDED.items() for name in names.split()}
    assert {"pycares", "google_crc32c"} <= set(modules)
    assert not {"OpenSSL", "argparse", "asyncio", "logging", "ssl", "subprocess", "tempfile"} & set(modules)
