"""The examples of the pages about s6-accessrules run as they stand, and print what the pages say."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from s6tls.accessrules import Rule
from tests.support.kernel.namespace import Namespace, namespace
from tests.support.rules import trees

ROOT = Path(__file__).parents[3]
PAGES = ["explain", "lint", "diff", "coverage", "minimise", "replay", "suggest", "tighten", "expect", "sync", "map"]
PAGES += ["report", "import", "export"]
PROXY_LOG = (
    "Feb  6 12:14:14 lb haproxy[9]: 192.0.2.1:3317 [06/Feb/2026:12:14:14.655] www app/a 10/0/30/69/109 200 2750\n"
)
IIS_LOG = "2026-12-22 01:22:09 192.0.2.30 POST /x - 80 - 203.0.113.9 agent - 404 0 2 12\n"
LOG = "203.0.113.9\n198.51.100.1\n203.0.113.9\n-\n192.0.2.1\n"
STAFF_LOG = "10.2.3.1\n10.2.3.2\n10.2.3.3\n10.2.3.1\n10.2.3.7\n10.2.3.7\n192.0.2.77\n"
PROVIDERS = "10.2.0.0/16  # campus\n10.2.3.0/24  # lab\n192.0.2.0/24  # office\n"
OFFICES: trees.Rules = {
    b"ip4/10.0.0.0_8": Rule(False),
    b"ip4/10.2.0.0_16": Rule(True),
    b"ip4/10.3.0.0_16": Rule(True),
    b"ip4/10.2.3.0_24": Rule(True),
    b"ip4/10.9.8.0_23": Rule(True),
    b"ip4/10.9.9.9_32": Rule(False),
    b"ip4/10.9.9.1_24": Rule(True),
    b"ip4/10.77.0.0_16": Rule(False),
    b"ip6/2001:db8::_32": Rule(True),
    b"ip6/::_0": Rule(False),
    b"reversedns/example.org": Rule(True),
}

LISTS = {
    "tcp": '# mail\n192.0.2.66:deny\n192.0.2.:allow,RELAYCLIENT=""\n:allow\n',
    "blocked": "geo $blocked {\n    198.51.100.0/24  1;  # spam\n    198.51.100.7     0;\n}\n",
    "staff": "192.0.2.0/24\n",
    "spam": "192.0.2.128/25\n",
}

_EXAMPLE = re.compile(r"^    \$ (.*)\n((?:    (?!\$ ).*\n|\n(?=    (?!\$ )))*)", re.MULTILINE)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with what the pages speak of."""
    shutil.copytree(ROOT / "rules", tmp_path / "rules")
    shutil.copytree(ROOT / "rules/named/tree", tmp_path / "new")
    shutil.rmtree(tmp_path / "new/ip4/203.0.113.0_24")
    trees.write_tree(bytes(tmp_path / "offices"), OFFICES)
    (tmp_path / "providers.txt").write_text(PROVIDERS)
    logs = {"access.log": LOG, "staff.log": STAFF_LOG, "proxy.log": PROXY_LOG, "iis.log": IIS_LOG}
    for name, lines in {**logs, **LISTS}.items():
        (tmp_path / name).write_text(lines)
    for number, client in enumerate(LOG.split()):
        (tmp_path / f"requests-{number}.csv").write_text(f"time,client_ip\n{number},{client}\n")
    return tmp_path


@pytest.fixture(scope="module")
def space() -> Iterator[Namespace]:
    """Where the examples run: one page changes the kernel's tables."""
    with namespace() as made:
        yield made


@pytest.mark.parametrize("name", PAGES)
def test_the_examples_print_what_the_page_says(
    name: str, place: Path, space: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    examples = _EXAMPLE.findall((ROOT / f"docs/s6-accessrules-{name}.md").read_text())
    assert any(f"s6-accessrules {name} " in command for command, _ in examples)
    for command, shown in examples:
        done = space.run(["sh", "-c", command])
        output = re.sub("^    ", "", shown, flags=re.MULTILINE)
        said = (done.stdout + done.stderr, done.stderr + done.stdout)
        assert output in said or ("…" in output and _abridges(output, done.stdout)), command


def _abridges(shown: str, said: str) -> bool:
    """Tell whether an example shows the beginning and the end of what is said, in other lines."""
    first, last = (" ".join(part.split()) for part in shown.split("…", 1))
    text = " ".join(said.split())
    return text.startswith(first) and text.endswith(last.removeprefix("," if first.endswith(",") else ""))
