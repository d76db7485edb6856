"""Mutated cdb files: 20,000 of them, opened, asked and decompiled.

They may be rule sets or errors, but never crash, hang, raise anything
undocumented, or write outside the target.  A child process does the work, so that a
fault in the library's C code is a failed test, and not a vanished test run.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s6tls.accessrules import Rule, RuleSet, RuleSetError, Verdict, record
from s6tls.accessrules.decompile import decompile
from s6tls.audit.core.loaded import LoadedRules
from tests.support.rules import trees

SEEDS = 4
EACH = 5_000
SLOWEST = 5.0
"""How long, in seconds, one file may take; they are a few KB, so that anything near it is a hang."""


def originals(place: bytes) -> list[bytes]:
    sets = [
        [(b"ip4/10.0.0.0_8", b"D"), (b"ip6/::_0", b"A\0\0\0\0"), (b"uid/default", b"D")],
        [(b"ip4/%d.0.0.0_8" % n, record.encode(Rule(True, ((b"N", b"%d" % n),), b"echo"))) for n in (1, 10, 39)],
        [(b"ip4/10.0.0.0_8", b"A\0\0\0\0")] * 5 + [(b"ip4/0.0.0.0_0", b"D"), (b"reversedns/com", b"D")],
        [],
    ]
    files = []
    for records in sets:
        trees.write_cdb(place + b"/original", records)
        with open(place + b"/original", "rb") as file:
            files.append(file.read())
    os.unlink(place + b"/original")
    return files


def mutated(contents: bytes, rng: random.Random) -> bytes:
    """Return a damaged cdb: header pointers, record lengths, slots, any byte, or the end of the file."""
    changed = bytearray(contents)
    numbers = [0, 1, 2047, 2048, len(contents) - 1, len(contents), len(contents) + 1, 2**31 - 1, 2**31, 2**32 - 1]
    numbers += [2**29, 2**29 + 1, 2**32 - 2048, 2**32 - 8, rng.randrange(2**32), rng.randrange(len(contents) + 64)]
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        kind = rng.randrange(6)
        if kind == 0:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        elif kind == 1:
            struct.pack_into("<I", changed, 4 * rng.randrange(512), rng.choice(numbers))
        elif kind == 2 and len(changed) > 2056:
            struct.pack_into("<I", changed, rng.randrange(2048, len(changed) - 4), rng.choice(numbers))
        elif kind == 3:
            del changed[max(2047, rng.randrange(len(changed))) :]
            changed += b"\0" * (2048 - len(changed)) * rng.randrange(2)
        elif kind == 4:
            changed += rng.randbytes(rng.randrange(40))
        else:
            table = 8 * rng.randrange(256)
            struct.pack_into("<II", changed, table, *rng.choices(numbers, k=2))
        if len(changed) < 2048:
            break
    return bytes(changed)


def survive(place: bytes, seed: int) -> None:
    """Put EACH mutated files through everything.  Raises what should not have happened."""
    rng = random.Random(seed)
    files = originals(place)
    cdbfile, target = place + b"/cdb", place + b"/out"
    allowed = opened = 0
    for _ in range(EACH):
        contents = mutated(rng.choice(files), rng)
        trees.write(cdbfile, contents)
        started = time.monotonic()
        signal.alarm(int(SLOWEST) * 2)
        try:
            with RuleSet.open_cdb(cdbfile, private=rng.random() < 0.5) as rules:
                opened += 1
                decisions = [rules.check_address(a) for a in ("10.1.2.3", "39.0.0.1", "2001:db8::1")]
                decisions += [rules.check_name(b"www.example.com"), rules.check_uidgid(1, 2)]
                allowed += sum(decision.verdict is Verdict.ALLOW for decision in decisions)
                assert all((decision.verdict is Verdict.ERROR) == bool(decision.error) for decision in decisions)
        except (OSError, RuleSetError):
            pass
        try:
            decompile(target, cdbfile)
        except (OSError, RuleSetError):
            assert not os.path.lexists(target)
        else:
            shutil.rmtree(target)
        assert time.monotonic() - started < SLOWEST
        assert os.listdir(place) == [b"cdb"]
    signal.alarm(0)
    assert allowed > EACH // 10  # the mutations are not all fatal, so that something was tested
    assert opened < EACH


@pytest.mark.parametrize("seed", range(SEEDS))
def test_damaged_files(tmp_path: Path, seed: int) -> None:
    context = multiprocessing.get_context("fork")
    child = context.Process(target=survive, args=(os.fsencode(tmp_path), seed))
    child.start()
    child.join()
    assert child.exitcode == 0


def test_damaged_files_and_the_programs(tmp_path: Path) -> None:
    place = os.fsencode(tmp_path)
    rng = random.Random(0)
    files = originals(place)
    program = os.path.join(os.path.dirname(sys.executable), "s6-accessrules-fs-from-cdb")
    for _ in range(40):
        trees.write(place + b"/cdb", mutated(rng.choice(files), rng))
        done = subprocess.run([program, "out", "cdb"], cwd=place, capture_output=True, timeout=60)
        assert done.returncode in (0, 111)
        assert (done.returncode == 0) == os.path.isdir(place + b"/out")
        if done.returncode:
            assert done.stderr.startswith(b"s6-accessrules-fs-from-cdb: ")
            assert done.stderr.splitlines()[-1].startswith(b"s6-accessrules-fs-from-cdb: fatal: unable to ")
        shutil.rmtree(place + b"/out", ignore_errors=True)
        assert os.listdir(place) == [b"cdb"]


def test_a_table_that_wraps_around_does_not_hang(tmp_path: Path) -> None:
    """2**32 - 1 slots at 4 GiB would be walked one by one, if the header were believed."""
    place = os.fsencode(tmp_path)
    trees.write_cdb(place + b"/cdb", [(b"ip4/10.0.0.0_8", b"D")])
    with open(place + b"/cdb", "rb") as file:
        header = list(struct.unpack("<512I", file.read(2048)))
        rest = file.read()
    for table in range(256):
        if header[2 * table + 1]:
            for slots in (2**32 - 1, 2**29 + 2, 3):
                changed = [*header]
                changed[2 * table + 1] = slots
                trees.write(place + b"/bad", struct.pack("<512I", *changed) + rest)
                with pytest.raises(RuleSetError, match="out of bounds"):
                    RuleSet.open(place + b"/bad")


def test_full_hash_tables_and_overlapping_ones_keep_no_audit_busy(tmp_path: Path) -> None:
    """Lookups of all keys of such files would take hours: their time goes with the square of the file's size."""
    records = b"".join(struct.pack("<II", 8, 1) + b"x/%06d" % number + b"D" for number in range(10_000))
    end, slots = 2048 + len(records), 500_000
    table = struct.pack("<II", 1, 2048) * slots
    for tables, problem in (([slots] + 255 * [0], "take for ever"), (256 * [slots], "overlap")):
        header = b"".join(struct.pack("<II", end, number) for number in tables)
        (tmp_path / "cdb").write_bytes(header + records + table)
        with pytest.raises(RuleSetError, match=problem):
            LoadedRules.load(str(tmp_path / "cdb"), fault=lambda *_: None)
