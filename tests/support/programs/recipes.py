"""Recipes on a page of the manual, run as they stand there but for addresses and paths."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from tests.support import peers, servers
from tests.support.servers import Server
from tests.support.site import Env, Site

_PATH = f"{servers.PATH}:/usr/sbin:/sbin"
_DOCS = Path(__file__).parents[3] / "docs"


class Kitchen:
    """Serves the recipes of a page with a site's key and certificate; `place` has what they read."""

    def __init__(self, page: str, site: Site) -> None:
        sections = re.split(r"^#+ (.+)$", (_DOCS / page).read_text(), flags=re.MULTILINE)
        self._sections = dict(zip(sections[1::2], sections[2::2], strict=True))
        self._env = site.env
        self.site, self.place, self.ca = site, site.place, site.authority.file
        self.by = peers.context(self.ca)

    def script(self, heading: str, number: int = 0) -> str:
        """Return a script in a section: of the pieces that stand indented there and are no server, this one."""
        pieces = re.findall(r"(?:^    .*\n|^\n(?=    ))+", self._sections[heading], re.MULTILINE)
        scripts = [textwrap.dedent(piece).lstrip("\n") for piece in pieces if not piece.lstrip().startswith("s6-t")]
        return scripts[number]

    def write(self, name: str, text: str) -> Path:
        """Write an executable file, and return its path."""
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def serve(
        self, heading: str, replacing: Mapping[str, object], env: Env | None = None
    ) -> AbstractContextManager[Server]:
        """Serve the first server in a section on a free port; what is to be replaced in its line must be there."""
        found = re.search(r"^    (s6-t(?:[^\n]|(?<=\\)\n)*)", self._sections[heading], re.MULTILINE)
        assert found, f"no recipe for {heading}"
        line = re.sub(r"\b0\.0\.0\.0 [0-9]+", "127.0.0.1 0", found[1].replace("\\\n", " "), count=1)
        for theirs, ours in replacing.items():
            assert theirs in line, f"{theirs} is not in {line}"
            line = line.replace(theirs, str(ours))
        return servers.server(shlex.split(line), {"PATH": _PATH, **self._env, **(env or {})}, cwd=self.place)
