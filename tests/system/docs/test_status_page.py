"""The example of the page about a server's status runs as it stands, and prints what the page says but for numbers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.support import peers
from tests.support.commands import run
from tests.support.servers import server
from tests.support.site import ALLOW, Site

PAGE = (Path(__file__).parents[3] / "docs/s6-tlsserver-status.md").read_text()
_SERVE = re.compile(r"^    \$ ((?:\w+=\S+ )+)(s6-tlsserver .* 127\.0\.0\.1) 8443 (.*) &$", re.MULTILINE)
_ASK = re.compile(r"^    \$ (s6-tlsserver-status) status\n((?:    .*\n|\n)+)", re.MULTILINE)


def without_numbers(text: str) -> list[list[str]]:
    """The words of each line, in which any number stands for every other."""
    return [re.sub(r"\d+", "N", line).replace("N min ", "").split() for line in text.strip().splitlines()]


def test_the_example_prints_what_the_page_says(tmp_path: Path) -> None:
    site = Site(tmp_path, "connection")
    site.compile({"ip4/127.0.0.1_32": ALLOW})
    Path(site.pair.key).rename(tmp_path / "key.pem")
    Path(site.pair.certificate).rename(tmp_path / "cert.pem")
    serve, ask = _SERVE.search(PAGE), _ASK.search(PAGE)
    assert serve is not None and ask is not None
    env = dict(word.split("=") for word in serve[1].split())
    with (
        server([*serve[2].split(), "0", *shlex.split(serve[3])], env, cwd=tmp_path) as started,
        peers.dial(started, peers.context(site.authority.file)),
    ):
        started.wait_log("allow pid")
        done = run([ask[1], str(tmp_path / "status")])
    shown = re.sub("^    ", "", ask[2], flags=re.MULTILINE).partition("\nWith ")[0]
    assert (done.returncode, done.stderr) == (0, "")
    assert without_numbers(done.stdout) == without_numbers(shown)
