"""What any form of a rule set does: one suite, which every backend is put through."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s6tls.accessrules import AddressError, Decision, Rule, RuleSet, RuleSetError, Verdict
from s6tls.accessrules.compile import compile_tree
from tests.support.rules import model, trees
from tests.support.rules.trees import Rules

Opener = Callable[[Rules, bytes], RuleSet]


def open_directory(rules: Rules, place: bytes) -> RuleSet:
    trees.write_tree(place + b"/rules", rules)
    return RuleSet.open(place + b"/rules")


def open_cdb(rules: Rules, place: bytes) -> RuleSet:
    trees.write_tree(place + b"/rules", rules)
    compile_tree(place + b"/rules.cdb", place + b"/rules")
    return RuleSet.open(place + b"/rules.cdb")


def open_private_cdb(rules: Rules, place: bytes) -> RuleSet:
    open_cdb(rules, place).close()
    rule_set = RuleSet.open_cdb(place + b"/rules.cdb", private=True)
    os.truncate(place + b"/rules.cdb", 0)  # which must not matter any more
    return rule_set


BACKENDS = [open_directory, open_cdb, open_private_cdb]
backends = pytest.mark.parametrize("opened", BACKENDS)

SOME = {
    b"ip4/10.0.0.0_8": Rule(True, ((b"SET", b"v\nw"), (b"UNSET", None)), b"echo hello"),
    b"ip4/10.1.0.0_16": Rule(False),
    b"ip6/2001:db8::_32": Rule(True),
    b"ip6/::_0": Rule(False),
    b"reversedns/example.com": Rule(True),
    b"reversedns/bad.example.com": Rule(False),
    b"reversedns/@": Rule(True, ((b"WHO", b"anybody"),)),
    b"uid/7": Rule(False),
    b"uid/self": Rule(True),
    b"gid/8": Rule(True),
    b"uid/default": Rule(False),
}


@pytest.fixture
def place(tmp_path: Path) -> bytes:
    return os.fsencode(tmp_path)


@backends
def test_addresses(opened: Opener, place: bytes) -> None:
    with opened(SOME, place) as rules:
        allowed = rules.check_address("10.2.3.4")
        env = ((b"SET", b"v\nw"), (b"UNSET", None))
        assert allowed == Decision(Verdict.ALLOW, b"ip4/10.0.0.0_8", env, b"echo hello")
        assert allowed.apply_env({b"UNSET": b"1", b"KEPT": b"2"}) == {b"SET": b"v\nw", b"KEPT": b"2"}
        assert rules.check_address(b"10.1.3.4") == Decision(Verdict.DENY, b"ip4/10.1.0.0_16")
        assert rules.check_address("11.1.3.4") == Decision(Verdict.NOTFOUND)
        assert rules.check_address("2001:db8:ffff::").verdict is Verdict.ALLOW
        assert rules.check_address("::ffff:10.2.3.4") == rules.check_address("10.2.3.4")
        with pytest.raises(AddressError):
            rules.check_address("010.2.3.4")


@backends
def test_names(opened: Opener, place: bytes) -> None:
    with opened(SOME, place) as rules:
        assert rules.check_name(b"www.EXAMPLE.com.").rule == b"reversedns/example.com"
        assert rules.check_name("www.bad.example.com").verdict is Verdict.DENY
        assert rules.check_name("../ip4/10.1.0.0_16").rule == b"reversedns/@"
        assert rules.check_name(b"x" * 300 + b".example.com").rule == b"reversedns/example.com"
        assert rules.check_name(b"\0.org").rule == b"reversedns/@"
        assert rules.check_name("").rule == b"reversedns/@"


@backends
def test_users(opened: Opener, place: bytes) -> None:
    with opened(SOME, place) as rules:
        assert rules.check_uidgid(7, 8, 7, 8).rule == b"uid/self"
        assert rules.check_uidgid(7, 8, 0, 0).rule == b"uid/7"
        assert rules.check_uidgid(6, 8, 0, 0).rule == b"gid/8"
        assert rules.check_uidgid(6, 6, 0, 0).rule == b"uid/default"


@backends
def test_closing(opened: Opener, place: bytes) -> None:
    rules = opened(SOME, place)
    rules.close()
    rules.close()
    decision = rules.check_address("10.2.3.4")
    assert decision.verdict is Verdict.ERROR
    assert decision.error


def test_nothing_stays_open(place: bytes) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number, opened in enumerate(BACKENDS):
        here = place + b"/%d" % number
        os.mkdir(here)
        with opened(SOME, here) as rules:
            rules.check_address("10.2.3.4")
            rules.check_address("fe80::1")
    assert len(os.listdir("/proc/self/fd")) == before


@given(st.dictionaries(st.tuples(trees.ip4_numbers, st.integers(0, 32)), trees.rules, max_size=8), st.data())
@settings(max_examples=60)
def test_the_longest_ipv4_prefix_decides(
    tmp_path_factory: pytest.TempPathFactory, networks: model.Networks, data: st.DataObject
) -> None:
    _check_longest_prefix(tmp_path_factory, networks, data, 32)


@given(st.dictionaries(st.tuples(trees.ip6_numbers, st.integers(0, 128)), trees.rules, max_size=8), st.data())
@settings(max_examples=60)
def test_the_longest_ipv6_prefix_decides(
    tmp_path_factory: pytest.TempPathFactory, networks: model.Networks, data: st.DataObject
) -> None:
    _check_longest_prefix(tmp_path_factory, networks, data, 128)


def _check_longest_prefix(
    factory: pytest.TempPathFactory, networks: model.Networks, data: st.DataObject, bits: int
) -> None:
    key_of, text_of = (model.ip4_key, model.ip4_text) if bits == 32 else (model.ip6_key, model.ip6_text)
    networks = {(net >> bits - length << bits - length, length): rule for (net, length), rule in networks.items()}
    known = [net for net, _ in networks]
    near = st.integers(0, bits).map(lambda bit: 1 << bit >> 1)
    any_address = trees.ip4_numbers if bits == 32 else trees.ip6_numbers
    clients = st.tuples(st.sampled_from(known), near).map(lambda pair: pair[0] ^ pair[1]) if known else any_address
    is_its_own = (lambda number: True) if bits == 32 else trees.is_no_ip4_client
    asked = data.draw(st.lists((any_address | clients).filter(is_its_own), min_size=1, max_size=8))
    here = os.fsencode(factory.mktemp("rules"))
    rules = {key_of(*network): rule for network, rule in networks.items()}
    with open_cdb(rules, here) as compiled, RuleSet.open(here + b"/rules") as tree:
        for number in asked:
            match = model.longest_match(networks, number, bits)
            if match is None:
                expected = Decision(Verdict.NOTFOUND)
            else:
                rule = networks[match]
                verdict = Verdict.ALLOW if rule.allow else Verdict.DENY
                expected = Decision(verdict, key_of(*match), rule.env, rule.exec)
            assert compiled.check_address(text_of(number)) == expected
            assert tree.check_address(text_of(number)) == expected


@given(trees.rule_sets, st.lists(trees.rule_names | st.binary(max_size=300), max_size=6))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_both_forms_agree_about_any_name(
    tmp_path_factory: pytest.TempPathFactory, rules: Rules, names: list[bytes]
) -> None:
    here = os.fsencode(tmp_path_factory.mktemp("rules"))
    known = [key.partition(b"/")[2] for key in rules if key.startswith(b"reversedns/")]
    with open_cdb(rules, here) as compiled, RuleSet.open(here + b"/rules") as tree:
        for name in [*names, *known, *(b"www." + name for name in known)]:
            assert compiled.check_name(name) == tree.check_name(name)


class TestDirectories:
    def test_they_are_read_live(self, place: bytes) -> None:
        with open_directory({}, place) as rules:
            assert rules.stamp is None
            assert rules.check_address("10.0.0.1").verdict is Verdict.NOTFOUND
            trees.write_tree(place + b"/rules", {b"ip4/10.0.0.1_32": Rule(True)})
            assert rules.check_address("10.0.0.1").verdict is Verdict.ALLOW
            os.unlink(place + b"/rules/ip4/10.0.0.1_32/allow")
            assert rules.check_address("10.0.0.1").verdict is Verdict.NOTFOUND

    def test_allow_outweighs_deny(self, place: bytes) -> None:
        with open_directory({b"uid/1": Rule(False)}, place) as rules:
            trees.write(place + b"/rules/uid/1/allow", b"")
            assert rules.check_uidgid(1, 1).verdict is Verdict.ALLOW

    def test_env_and_exec_count_only_with_allow(self, place: bytes) -> None:
        with open_directory({b"uid/1": Rule(False)}, place) as rules:
            trees.write(place + b"/rules/uid/1/exec", b"echo")
            assert rules.check_uidgid(1, 1) == Decision(Verdict.DENY, b"uid/1")

    @pytest.mark.parametrize("kind", ["loop", "fifo", "directory", "file for env", "file for rule"])
    def test_what_cannot_be_read_is_an_error(self, place: bytes, kind: str) -> None:
        with open_directory({b"uid/1": Rule(True), b"uid/default": Rule(True)}, place) as rules:
            here = place + b"/rules/uid/1"
            if kind == "loop":
                os.symlink(b"exec", here + b"/exec")
            elif kind == "fifo":
                os.mkfifo(here + b"/exec")
            elif kind == "directory":
                os.mkdir(here + b"/exec")
            elif kind == "file for env":
                trees.write(here + b"/env", b"")
            else:
                os.unlink(here + b"/allow")
                os.rmdir(here)
                trees.write(here, b"")
            decision = rules.check_uidgid(1, 1)
            assert decision.verdict is Verdict.ERROR
            assert "uid/1" in decision.error

    def test_opening_something_else(self, place: bytes) -> None:
        trees.write(place + b"/file", b"")
        with pytest.raises(NotADirectoryError):
            RuleSet.open_dir(place + b"/file")
        with pytest.raises(FileNotFoundError):
            RuleSet.open(place + b"/nothing")


@contextlib.contextmanager
def meanwhile(act: Callable[[], object]) -> Iterator[None]:
    """Do something over and over while the block runs."""
    done = threading.Event()

    def repeat() -> None:
        while not done.is_set():
            act()

    other = threading.Thread(target=repeat)
    other.start()
    try:
        yield
    finally:
        done.set()
        other.join()


class TestCdb:
    @pytest.fixture
    def large(self, place: bytes) -> bytes:
        """A cdb that takes some time to copy."""
        trees.write_cdb(place + b"/rules.cdb", [(b"other/large", bytes(1 << 26))])
        return place + b"/rules.cdb"

    def test_names_come_and_go_while_a_copy_is_made(self, large: bytes) -> None:
        """As when a compiler's new file takes the name of the one that is read."""

        def rename() -> None:
            os.link(large, large + b".other")
            os.unlink(large + b".other")

        with meanwhile(rename):
            for _ in range(10):
                RuleSet.open_cdb(large, private=True).close()

    def test_a_file_that_is_written_to_while_a_copy_is_made_is_an_error(self, large: bytes) -> None:
        with open(large, "r+b", buffering=0) as file:
            file.seek(1 << 25)
            with meanwhile(lambda: file.write(b"x")), pytest.raises(RuleSetError, match="changed while it was read"):
                for _ in range(100):
                    RuleSet.open_cdb(large, private=True).close()

    def test_the_stamp_tells_files_apart(self, place: bytes) -> None:
        with open_cdb(SOME, place) as first:
            status = os.stat(place + b"/rules.cdb")
            stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            assert first.stamp == stamp
            compile_tree(place + b"/rules.cdb", place + b"/rules")
            with RuleSet.open_cdb(place + b"/rules.cdb", private=True) as second:
                assert second.stamp != first.stamp
            assert first.check_address("10.2.3.4").verdict is Verdict.ALLOW  # the old file, while it is open

    def test_opening_something_else(self, place: bytes) -> None:
        for contents in (b"", b"x" * 2047, b"\xff" * 2048, b"#!/bin/sh\n" * 1000):
            trees.write(place + b"/file", contents)
            for private in (False, True):
                with pytest.raises(RuleSetError):
                    RuleSet.open_cdb(place + b"/file", private=private)
        with pytest.raises((OSError, RuleSetError)):
            RuleSet.open_cdb(place)
        os.mkfifo(place + b"/fifo")
        with pytest.raises((OSError, RuleSetError)):
            RuleSet.open_cdb(place + b"/fifo")


def test_the_engine_imports_nothing_else_of_the_project() -> None:
    program = (
        "import sys, pkgutil, importlib, s6tls.accessrules as a\n"
        "for m in pkgutil.iter_modules(a.__path__): importlib.import_module('s6tls.accessrules.' + m.name)\n"
        "print([m for m in sys.modules if m.startswith('s6tls.') and not m.startswith('s6tls.accessrules')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
