"""Rule sets to test with: how to write them down, and hypothesis strategies that think them up."""

from __future__ import annotations

import os

import cdbx
from hypothesis import strategies as st

from s6tls.accessrules import Rule, cdb, cdbfile

Rules = dict[bytes, Rule]


def write_tree(root: bytes, rules: Rules) -> None:
    """Write `rules` as a directory tree, by means of nothing but the format's description."""
    os.makedirs(root, exist_ok=True)
    for key, rule in rules.items():
        here = os.path.join(root, key)
        os.makedirs(here)
        write(here + (b"/allow" if rule.allow else b"/deny"), b"")
        if rule.exec:
            write(here + b"/exec", rule.exec)
        if rule.env:
            os.mkdir(here + b"/env")
            for name, value in rule.env:
                write(here + b"/env/" + name, b"" if value is None else value.replace(b"\n", b"\0") + b"\n")


def write(path: bytes, contents: bytes) -> None:
    with open(path, "wb") as file:
        file.write(contents)


def write_form(form: str, path: str, rules: Rules, mode: int = cdb.DEFAULT_MODE) -> None:
    """Write `rules` as a "tree", or as a "cdb" with this mode."""
    if form == "tree":
        write_tree(os.fsencode(path), rules)
    else:
        cdb.write_cdb(path, rules.items(), mode=mode)


def read_tree(root: bytes) -> dict[bytes, bytes | None]:
    """Return the contents of all files below `root`, and None for each directory, by relative path."""
    found: dict[bytes, bytes | None] = {}
    for place, directories, files in os.walk(root):
        for name in directories:
            found[os.path.relpath(os.path.join(place, name), root)] = None
        for name in files:
            with open(os.path.join(place, name), "rb") as file:
                found[os.path.relpath(os.path.join(place, name), root)] = file.read()
    return found


def write_cdb(path: bytes, records: list[tuple[bytes, bytes]]) -> None:
    """Write any records, be they rules or not."""
    maker = cdbx.CDB.make(os.fsdecode(path))
    for key, value in records:
        maker.add(key, value)
    maker.commit().close()


def records(path: bytes) -> list[tuple[bytes, bytes]]:
    """Return the records of a cdb file, in its order."""
    with open(path, "rb") as file:
        return list(cdbfile.records(file.fileno()))


_byte = st.integers(1, 255).filter(lambda c: c not in b"/=")
variable_names = st.lists(_byte, min_size=1, max_size=12).map(bytes).filter(lambda name: not name.startswith(b"."))
values = st.none() | st.binary(max_size=20).map(lambda v: v.replace(b"\0", b"?").rstrip(b" \t\r"))
environments = st.dictionaries(variable_names, values, max_size=4).map(lambda env: tuple(sorted(env.items())))
execs = st.just(b"") | st.binary(min_size=1, max_size=40)
rules = st.just(Rule(False)) | st.builds(Rule, st.just(True), environments, execs)


def is_no_ip4_client(number: int) -> bool:
    """Tell whether an IPv6 address is not mapped, and so its own client."""
    return number >> 32 != 0xFFFF


# Addresses crowd together, so that networks nest and clients hit them.
groups = st.sampled_from([0, 0, 0, 1, 0x80, 0xFFFF]) | st.integers(0, 0xFFFF)
ip6_numbers = (
    st.lists(groups, min_size=8, max_size=8)
    .map(lambda g: int("".join(f"{x:04x}" for x in g), 16))
    .filter(is_no_ip4_client)
)
octets = st.sampled_from([0, 0, 10, 128, 255]) | st.integers(0, 255)
ip4_numbers = st.lists(octets, min_size=4, max_size=4).map(lambda o: int.from_bytes(bytes(o), "big"))

_part = st.lists(st.integers(1, 255).filter(lambda c: c not in b"/."), min_size=1, max_size=10).map(bytes)
rule_names = st.lists(_part, min_size=1, max_size=3).map(b".".join)
families = st.sampled_from([b"ip4", b"ip6", b"reversedns", b"uid", b"gid", b"custom"])
keys = st.tuples(families, rule_names).map(b"/".join)
rule_sets = st.dictionaries(keys, rules, max_size=6)
