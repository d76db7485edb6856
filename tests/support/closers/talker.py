"""Clients in other languages: a process that holds one session after the other, as it is told on its stdin."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.support.closers.sessions import Results, Run, Session, Way
from tests.support.servers import PATH, PATIENCE

HERE = Path(__file__).parent
COMMANDS = {
    "java": ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "Closer.java"),
    "erlang": ("escript", "closer.erl"),
    "node": ("node", "closer.js"),
}


class Talker:
    """Runs a client's source.  It starts with the first session and stays for all others, since that takes long."""

    def __init__(self, *words: str) -> None:
        self._words = words
        self._process: subprocess.Popen[str] | None = None

    def run(self, port: int, way: Way, held: list[Session]) -> Results:
        """Hold the sessions; a client that hangs, or says anything else, fails the test."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        results: dict[str, int | str] = {}
        hangs = threading.Timer(2 * PATIENCE, process.kill)
        hangs.start()
        try:
            for session in held:
                job = (str(port), session.version, way.name, session.act, str(session.size), session.line)
                print(*job, file=process.stdin, flush=True)
                line, _, result = process.stdout.readline().rstrip("\n").partition(" ")
                assert line == session.line, f"the client says {line} {result} to {job}"
                results[line] = int(result) if result.isdigit() else result
        except BaseException:
            self.end()
            raise
        finally:
            hangs.cancel()
        return results

    def end(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            with self._process as process:
                process.kill()
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._words,
            cwd=HERE,
            env={"PATH": PATH, "HOME": "/nowhere"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


@contextlib.contextmanager
def talkers() -> Iterator[dict[str, Run]]:
    """Yield the run of each language, and end their processes afterwards."""
    started = {name: Talker(*words) for name, words in COMMANDS.items()}
    try:
        yield {name: talker.run for name, talker in started.items()}
    finally:
        for talker in started.values():
            talker.end()
