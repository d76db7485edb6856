"""The programs that rules run: whether execlineb can parse the texts, and whether the programs are there.

Nothing of a text is run.  It is handed to the real execlineb behind the name of a program that prints its words.
execlineb parses all of a script, or fails, before it runs the script's first word; under ``-P`` it replaces
nothing in it.  No text can get in front of the first word or change it, for it follows behind a newline.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

from s6tls.accessrules.text import shown
from s6tls.audit.core.progress import Progress, counted, silent
from s6tls.audit.lint.findings import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s6tls.audit.core.loaded import LoadedRules

_PATIENCE = 10.0  # seconds


class Unparsable(Exception):
    """execlineb does not take a text; the message says why."""


class Execlineb:
    """The execlineb of this process's PATH, made to print words."""

    def __init__(self) -> None:
        """Find the programs.  Raises FileNotFoundError, naming the one that is missing."""
        self._execlineb, self._printf = _find("execlineb"), _find("printf")
        self._env = {"PATH": os.environ.get("PATH", os.defpath)}
        # Debian's execlineb puts the directory of execline's programs in front of PATH, and runs the one in there.
        self.path = os.fsdecode(self._run(_quoted(_find("printenv")) + b" PATH").rstrip(b"\n"))
        self._execlineb = shutil.which("execlineb", path=self.path) or self._execlineb

    def words(self, text: bytes) -> list[bytes]:
        """Return the words of a text as execlineb passes them on.  Raises Unparsable or OSError."""
        if b"\0" in text:
            raise Unparsable("it has a NUL byte, and no argument of a program can have one")
        printed = self._run(b"%b %%s\\\\0\n%b" % (_quoted(self._printf), text))
        words = printed.split(b"\0")[:-1]
        return [] if words == [b""] else words  # printf prints its format once even if there is nothing to print

    def _run(self, script: bytes) -> bytes:
        try:
            done = subprocess.run(
                [self._execlineb, "-Pc", script],
                env=self._env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE,
            )
        except subprocess.TimeoutExpired:
            raise Unparsable(f"execlineb takes more than {_PATIENCE:.0f} seconds") from None
        if done.returncode:
            said = done.stderr.strip().rpartition(b"\n")[2].removeprefix(b"execlineb: fatal: ")
            raise Unparsable(shown(said) or f"execlineb ends with {done.returncode}")
        return done.stdout


def findings(loaded: LoadedRules, progress: Progress = silent) -> Iterator[Finding]:
    """Yield what is wrong with the texts that rules run: each text once, with the first rule that has it."""
    users: dict[bytes, bytes] = {}
    count: Counter[bytes] = Counter()
    for key, rule in loaded.rules.items():
        if rule.exec:
            users.setdefault(rule.exec, key)
            count[rule.exec] += 1
    if not users:
        return
    try:
        execlineb = Execlineb()
    except (OSError, Unparsable) as error:
        message = f"unable to check what rules run: {error}"
        remedy = "install it here and where the server runs, which refuses clients of such rules without execlineb"
        yield Finding("no-execlineb", Severity.ERROR, message, remedy)
        return
    for text, key in counted(users.items(), "texts parsed", progress):
        for found in _of_text(text, execlineb):
            yield found.at(key, count[text])


def _of_text(text: bytes, execlineb: Execlineb) -> Iterator[Finding]:
    try:
        words = execlineb.words(text)
    except Unparsable as error:
        yield Finding("exec-syntax", Severity.ERROR, f"exec does not parse: {error}", "correct it")
        return
    except OSError as error:
        yield Finding("exec-syntax", Severity.ERROR, f"unable to check exec: {error.strerror}", "try again")
        return
    if not words:
        message = "exec has no words: the connection is closed, with nothing run"
        yield Finding("exec-empty", Severity.WARNING, message, "name a program in it, or remove it")
        return
    program = words[0]
    if b"/" in program and not program.startswith(b"/"):
        message = f"exec runs {shown(program)}, which is found from the working directory of the server"
        yield Finding("relative-path", Severity.WARNING, message, "write the whole path")
    elif shutil.which(program, path=execlineb.path) is None:
        message = f"exec runs {shown(program)}, which is not there or not executable"
        yield Finding("exec-missing", Severity.ERROR, message, "install the program, or correct its name")


def _quoted(path: str) -> bytes:
    """Return one word of execlineb that is this path, whatever the directories of PATH are called."""
    return b'"%b"' % os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def _find(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise FileNotFoundError(f"{program} is not on PATH")
    return os.path.abspath(found)
