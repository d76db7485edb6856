"""docs/logs.md lists every message in the code, and its recipes are good for what is really logged."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/logs.md").read_text()
SPANS = "\n".join(re.findall(r"`([^`\n]+)`", PAGE))
MAKERS = {
    *("log", "warning", "info", "Told", "complaint", "unable_to"),
    *("StageExit", "ClientFailure", "Shortage", "Failure", "UsageError", "TLSFailure"),
    *("BadConfiguration", "Mismatch", "Unusable", "Unjailable", "Unknown", "BadIdentity", "Taken", "NoStatus"),
}
"""What is called with a message, or makes one."""
OTHER_PROGRAMS = ("audit", "accessrules", "s6_accessrules")
ANYTHING = "\0"
"""Stands for what is known only when a message is made."""


def literal(node: ast.expr, named: dict[str, str]) -> str:
    """The text of an expression as far as it stands in the code; `named` are values that a template is given."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
    elif isinstance(node, ast.JoinedStr):
        text = "".join(str(part.value) if isinstance(part, ast.Constant) else ANYTHING for part in node.values)
    elif isinstance(node, ast.BinOp):
        return literal(node.left, named) + literal(node.right, named)
    else:
        return ANYTHING
    return re.sub(r"\{(\w+)[^}]*\}", lambda found: named.get(found[1], ANYTHING), text)


def name_of(call: ast.Call) -> str:
    return str(getattr(call.func, "id", None) or getattr(call.func, "attr", ""))


def messages() -> Iterator[tuple[str, str]]:
    """Each message in the code: where it is, and its text."""
    for path in sorted((ROOT / "s6tls").rglob("*.py")):
        place = str(path.relative_to(ROOT / "s6tls"))
        if place.startswith(OTHER_PROGRAMS) or any(f"/{other}" in place for other in OTHER_PROGRAMS):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and name_of(node) in MAKERS:
                named = {
                    word.arg: word.value.value
                    for word in node.keywords
                    if word.arg and isinstance(word.value, ast.Constant) and isinstance(word.value.value, str)
                }
                for argument in node.args:
                    text = literal(argument, named)
                    if re.search(r"[a-z]{2,} ", text.replace(ANYTHING, "")) and " " in text:
                        yield f"{place}:{node.lineno}", ("unable to " if name_of(node) == "unable_to" else "") + text


def is_on_the_page(text: str) -> bool:
    pattern = ".*?".join(map(re.escape, text.split(ANYTHING)))
    return re.search(pattern, SPANS) is not None


def test_every_message_is_on_the_page() -> None:
    found = list(messages())
    assert len(found) > 100
    assert [(place, text) for place, text in found if not is_on_the_page(text)] == []


def test_a_message_that_is_not_there_would_be_missed() -> None:
    assert not is_on_the_page(f"unable to frobnicate {ANYTHING}")


SESSION = "s6-tcpserverd: info: session 192.0.2.7_1 pid 1 seconds 1.0 in 1 out 1 subject CN="
LINES = {
    "s6-tcpserver-access: info: deny pid 9698 ip 192.0.2.7 rule ip4/192.0.2.0_24": "192.0.2.7",
    " host hello[1]: s6-tcpserver-access: info: deny pid 1 ip 2001:db8::7 rule none": "2001:db8::7",
    "s6-tlsd-io: info: unable to complete the handshake with 192.0.2.7_40840: http request": "192.0.2.7",
    "s6-tlsd-io: info: unable to complete the handshake with 192.0.2.7_40840: the peer closed the connection": "",
    "s6-tcpserverd: info: reject 2001:db8::7_40122 count 2/2": "2001:db8::7",
    "s6-tcpserverd: info: reject 192.0.2.7_51714 rate 20/60,5": "192.0.2.7",
    f"{SESSION}s6-tcpserver-access: info: deny pid 1 ip 192.0.2.9 rule none ended": "",
    f" host hello[1]: {SESSION} host x[1]: s6-tcpserverd: info: reject 192.0.2.9_1 rate 1 ended": "",
}


@pytest.mark.parametrize("line", LINES)
def test_fail2ban_finds_whom_it_should(line: str) -> None:
    """<HOST> stands for what fail2ban takes for an address."""
    listed = re.search(r"^    failregex = (.*\n(?: {16}.*\n)+)", PAGE, re.MULTILINE)
    assert listed is not None
    begin = re.search(r"^    _begin = (.*)$", PAGE, re.MULTILINE)
    assert begin is not None
    host = r"(?P<host>[0-9a-fA-F:.]+)"
    patterns = [
        pattern.strip().replace("%(_begin)s", begin[1]).replace("<HOST>", host) for pattern in listed[1].splitlines()
    ]
    hosts = {found["host"] for pattern in patterns if (found := re.search(pattern, line))}
    assert hosts == ({LINES[line]} if LINES[line] else set())


def test_s6_log_keeps_what_is_to_be_mended_apart(tmp_path: Path) -> None:
    """The recipe runs as it stands, but for its directories."""
    recipe = re.search(r"^    (s6-log .*hello-bad)$", PAGE, re.MULTILINE)
    assert recipe is not None
    command = recipe[1].replace("/var/log/", f"{tmp_path}/")
    lines = ["s6-x: info: accept", "s6-x: warning: limit", "s6-x: fatal: unable"]
    subprocess.run(["sh", "-c", f"exec {command}"], input="\n".join([*lines, ""]), text=True, check=True, timeout=20)
    kept = {
        name: [line.split(maxsplit=2)[2] for line in (tmp_path / name / "current").read_text().splitlines()]
        for name in ("hello", "hello-bad")
    }
    assert kept == {"hello": lines, "hello-bad": lines[1:]}
