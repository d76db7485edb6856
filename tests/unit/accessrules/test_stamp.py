"""File stamps: what a change of a file shows, and when it might not."""

from __future__ import annotations

import os
import time
from pathlib import Path

from s6tls.accessrules.stamp import is_stable, stamp_of

SECOND_NS = 1_000_000_000


def test_a_stamp_changes_with_the_file_and_with_what_takes_its_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    stamps = [stamp_of(os.stat(path))]
    assert stamp_of(os.stat(path)) == stamps[0]
    path.write_bytes(b"longer")
    stamps.append(stamp_of(os.stat(path)))
    os.utime(path, (1, 1))
    stamps.append(stamp_of(os.stat(path)))
    (tmp_path / "other").write_bytes(b"longer")
    os.utime(tmp_path / "other", (1, 1))
    (tmp_path / "other").rename(path)
    stamps.append(stamp_of(os.stat(path)))
    assert len(set(stamps)) == 4


def test_a_stamp_is_stable_once_the_files_clock_has_moved_on(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.utime(path, (1, 1))
    stamp = stamp_of(os.stat(path))
    now_ns = time.time_ns()
    changed_ns = stamp[-1]
    assert abs(now_ns - changed_ns) < 60 * SECOND_NS, "the kernel sets this time, and nobody else can"
    assert not is_stable(stamp, changed_ns)
    assert is_stable(stamp, changed_ns + SECOND_NS)
    assert is_stable(stamp, changed_ns - SECOND_NS), "a time ahead of the clock is not a recent one"
