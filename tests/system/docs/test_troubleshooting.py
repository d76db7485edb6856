"""The page on troubleshooting has each message that an operator may have to act on, and each exit code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from s6tls.posix.exitcodes import ExitCode

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/troubleshooting.md").read_text()
MESSAGE_AT = {"StageExit": 2, "ClientFailure": 2, "failure": 2, "Failure": 1, "warning": 0, "warn": 0, "_warn": 0}
"""Calls that make a message of one of their arguments: which one it is."""


def messages() -> set[str]:
    """The messages in the code of servers and chain commands, with `…` for what changes in them."""
    found: set[str] = set()
    for path in (ROOT / "s6tls").rglob("*.py"):
        room = path.relative_to(ROOT / "s6tls").parts
        if room[0] != "audit" and room[:2] != ("cli", "accessrules"):
            for node in ast.walk(ast.parse(path.read_text())):
                found.update(said_by(node) if isinstance(node, ast.Call) else [])
    return {message for message in found if re.search(r"\w", message)}


def said_by(call: ast.Call) -> Iterator[str]:
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    words = [value.value for value in ast.walk(call) if isinstance(value, ast.Constant)]
    if name == "unable_to":
        yield f"unable to {text(call.args[0])}: …"
    elif name == "log" and len(call.args) > 2 and text(call.args[1]) in ("fatal", "warning"):
        yield text(call.args[2])
    elif len(call.args) > MESSAGE_AT.get(name, 99) and "info" not in words:
        yield text(call.args[MESSAGE_AT[name]])


def text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text(value) for value in node.values)
    if isinstance(node, ast.BinOp):
        return text(node.left) + text(node.right)
    return "…"


def on_the_page() -> set[str]:
    return set(re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE))


def test_each_message_has_its_causes_and_cures() -> None:
    """What is said here goes into docs/troubleshooting.md."""
    assert messages() - on_the_page() == set()


def test_the_page_has_no_message_that_is_gone() -> None:
    reasons = set(re.findall(r"^\| (`[^|]*`) \|", PAGE[PAGE.index("\n## Clients\n") :], re.MULTILINE))
    gone = on_the_page() - messages() - {reason.strip("`") for reason in reasons}
    assert {message for message in gone if not said_somewhere(message)} == set()


def said_somewhere(message: str) -> bool:
    """Whether each part of a message stands in the code, for one that is put together elsewhere."""
    code = "".join(path.read_text() for path in (ROOT / "s6tls").rglob("*.py"))
    return all(part.strip(": ") in code for part in re.split(r"…|-[cC]\b", message))


def test_each_exit_code_has_its_row() -> None:
    rows = re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)
    assert sorted(map(int, rows)) == sorted({int(code) for code in ExitCode})
