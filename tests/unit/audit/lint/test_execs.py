"""Texts that rules run, as lint finds them beside the real execlineb."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.lint import execs
from s6tls.audit.lint.execs import Execlineb, Unparsable
from s6tls.audit.lint.findings import Finding


def loaded(*rules: Rule) -> LoadedRules:
    return LoadedRules.of((b"ip4/10.0.0.%d_32" % number, rule) for number, rule in enumerate(rules))


def codes(findings: list[Finding]) -> list[str]:
    return [f"{finding.severity.word} {finding.code}" for finding in findings]


def exec_findings(*texts: bytes) -> list[Finding]:
    return list(execs.findings(loaded(*(Rule(True, (), text) for text in texts))))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"echo hello", [b"echo", b"hello"]),
        (b"# nothing\necho # more\n", [b"echo"]),
        (b"foreground { echo a } echo $@ ${x}", [b"foreground", b" echo", b" a", b"", b"echo", b"$@", b"${x}"]),
        (b'"a b" "\\n\\0x41"', [b"a b", b"\nA"]),
        (b"importas -i x PATH touch /tmp/x", [b"importas", b"-i", b"x", b"PATH", b"touch", b"/tmp/x"]),
        (b"-v %s %d", [b"-v", b"%s", b"%d"]),
        (b"", []),
        (b"# nothing", []),
        (b"\xff\xfe", [b"\xff\xfe"]),
    ],
)
def test_words(text: bytes, words: list[bytes]) -> None:
    assert Execlineb().words(text) == words


@pytest.mark.parametrize("text", [b'"', b"{", b"}", b"a { b", b"a } b", b'echo "a', b"a\0b"])
def test_texts_that_do_not_parse(text: bytes) -> None:
    with pytest.raises(Unparsable):
        Execlineb().words(text)
    (found,) = exec_findings(text)
    assert (found.code, found.severity.word, found.rule) == ("exec-syntax", "error", b"ip4/10.0.0.0_32")
    assert found.message.isprintable()


HOSTILE = [
    "} touch MARK {",
    '" touch MARK "',
    "\n\ntouch MARK",
    "\\\ntouch MARK",
    "foreground { touch MARK }",
    "#\n;touch MARK",
    "$(touch MARK) `touch MARK` ; touch MARK",
    "backtick x { touch MARK } true",
    "#!/usr/bin/touch MARK",
    "#!/usr/bin/env -S touch MARK\ntouch MARK",
    "-c touch MARK",
    "\\",
    "\\\n\\\n}\ntouch MARK",
    '""" touch MARK """',
    "%s\\0 %b $(touch MARK) %n",
    "--help\ntouch MARK",
    "{ } { } touch MARK",
    "{" * 2000 + "}" * 2000 + " touch MARK",
    "x" * 4000 + "\ntouch MARK",
    "\r\n\x1b\x7f touch MARK",
    "if { touch MARK } emptyenv exec -c touch MARK",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_is_run(tmp_path: Path, text: str) -> None:
    mark = tmp_path / "mark"
    exec_findings(text.replace("MARK", str(mark)).encode())
    assert not mark.exists()


@pytest.mark.parametrize("name", ["a b", '"', "{", "\\", "\n", "#", "$x ${x}", "-x", "\udcff"])
def test_directories_of_path_are_not_taken_for_words(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text(f"#!/bin/sh\n: > {tmp_path}/mark\n")
    (tmp_path / "a").chmod(0o755)
    (tmp_path / name).mkdir()
    for program in ("execlineb", "printf", "printenv"):
        found = shutil.which(program)
        assert found is not None
        (tmp_path / name / program).symlink_to(found)
    monkeypatch.setenv("PATH", f"{tmp_path / name}:{os.environ['PATH']}")
    monkeypatch.setenv("EXECLINE_STRICT", "2")
    assert Execlineb().words(b"echo { a } $PATH") == [b"echo", b" a", b"", b"$PATH"]
    assert not (tmp_path / "mark").exists()


@settings(max_examples=60)
@given(st.text(alphabet='{}"\\ \n#$a\t0x', max_size=12))
def test_any_text_gives_words_or_a_reason(text: str) -> None:
    try:
        words = Execlineb().words(text.encode())
    except Unparsable as error:
        assert str(error).isprintable()
    else:
        assert bool(words) <= bool(text.strip())


def test_programs_are_looked_for(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    assert exec_findings(b"foreground { true } echo hello") == []
    assert exec_findings(b"/bin/sh -c true") == []
    assert codes(exec_findings(b"no-such-program")) == ["error exec-missing"]
    assert codes(exec_findings(b"/no/such/program")) == ["error exec-missing"]
    assert codes(exec_findings(os.fsencode(plain))) == ["error exec-missing"]
    assert codes(exec_findings(b"/tmp")) == ["error exec-missing"]
    assert codes(exec_findings(b"${program}")) == ["error exec-missing"]
    assert codes(exec_findings(b'"" x')) == ["error exec-missing"]
    assert codes(exec_findings(b"./here")) == ["warning relative-path"]
    assert codes(exec_findings(b"# nothing")) == ["warning exec-empty"]


def test_a_text_is_reported_once_for_all_rules() -> None:
    (found,) = exec_findings(b"no-such-program", b"no-such-program")
    assert found.rule == b"ip4/10.0.0.0_32" and found.message.endswith(" (and in 1 more rule)")


def test_a_machine_without_execlineb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = exec_findings(b"echo hello")
    assert (found.code, found.rule) == ("no-execlineb", None)
    assert "execlineb is not on PATH" in found.message
    assert exec_findings() == []
