"""The program that decides on system calls, run here as the kernel runs it, for each machine."""

from __future__ import annotations

import errno
import os
import re
import struct
from pathlib import Path

import pytest

from s6tls.posix.jail import Jail, Level, Role
from s6tls.posix.linux import seccomp
from s6tls.posix.linux.seccomp import ALWAYS, Where
from s6tls.posix.linux.syscalls import MACHINES, Machine

ALLOW, TRAP, KILL = 0x7FFF0000, 0x00030000, 0x80000000
TABLES = {
    "x86_64": "/usr/share/gdb/syscalls/amd64-linux.xml",
    "aarch64": "/usr/share/gdb/syscalls/aarch64-linux.xml",
}
"""Which gdb knows them by."""


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> Machine:
    return MACHINES[request.param]


def decided(program: bytes, machine: Machine, name: str, *arguments: int, audit: int | None = None) -> int:
    """Return what a program says of a call, as a kernel does that knows the few instructions that we use."""
    passed = [argument & (2**64 - 1) for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("=iIQ6Q", machine.numbers[name], machine.audit if audit is None else audit, 0, *passed)
    code = list(struct.iter_unpack("=HBBI", program))
    at = value = 0
    while True:
        operation, yes, no, constant = code[at]
        at += 1
        match operation:
            case 0x20:
                (value,) = struct.unpack_from("=I", data, constant)
            case 0x54:
                value &= constant
            case 0x15:
                at += yes if value == constant else no
            case 0x25:
                at += yes if value > constant else no
            case 0x35:
                at += yes if value >= constant else no
            case 0x06:
                return int(constant)
            case _:
                raise AssertionError(operation)


def test_what_is_on_the_list_is_allowed_and_nothing_else(machine: Machine) -> None:
    program = seccomp.program(machine, {"read": ALWAYS, "write": ALWAYS}, {"clone3": errno.ENOSYS})
    for name in machine.numbers:
        expected = {"read": ALLOW, "write": ALLOW, "clone3": 0x00050000 | errno.ENOSYS}.get(name, TRAP)
        assert decided(program, machine, name) == expected


def test_a_call_of_another_machine_ends_the_process(machine: Machine) -> None:
    program = seccomp.program(machine, {"read": ALWAYS}, {})
    assert decided(program, machine, "read", audit=0x40000003) == KILL


def test_a_call_is_allowed_where_one_group_of_conditions_holds(machine: Machine) -> None:
    groups = (
        (Where(0, 7, 7), Where(1, 100, 200)),
        (Where(0, mask=4), Where(2), Where(2, upper=True), Where(5, 2, 2, 2)),
    )
    program = seccomp.program(machine, {"ioctl": groups, "read": ALWAYS}, {})
    for arguments in [(7, 100), (7, 200), (2**32 + 7, 150), (3, 0, 0, 0, 0, 2), (0xFFFB, 0, 0, 9, 9, 0xFF)]:
        assert decided(program, machine, "ioctl", *arguments) == ALLOW
    for arguments in [(7, 99), (7, 201), (6, 150), (4, 0, 0, 0, 0, 2), (3, 0, 1, 0, 0, 2), (3, 0, 2**32, 0, 0, 2)]:
        assert decided(program, machine, "ioctl", *arguments) == TRAP
    assert decided(program, machine, "read") == ALLOW


def test_a_narrower_program_leaves_what_both_allow(machine: Machine) -> None:
    outer = {"read": ALWAYS, "fork": ALWAYS, "clone": ALWAYS, "dup": ((Where(0),),)}
    code = seccomp.narrower(machine, {"read": ALWAYS, "dup": ((Where(1),),)}, outer, ["clone3"])
    assert [decided(code, machine, name) for name in ("read", "clone", "clone3")] == [ALLOW, TRAP, TRAP]
    assert [decided(code, machine, "dup", *words) for words in [(5, 0), (0, 5)]] == [ALLOW, TRAP]


@pytest.mark.parametrize("role", Role)
def test_every_call_that_a_jail_names_is_one(role: Role) -> None:
    jail = Jail(role, Level.BEST, "test")
    known = {name for machine in MACHINES.values() for name in machine.numbers}
    assert jail._calls(role).keys() <= known
    for fd in jail.descriptors:
        os.close(fd)


@pytest.mark.parametrize("name", MACHINES)
def test_the_numbers_are_those_of_the_kernel(name: str) -> None:
    table = Path(TABLES[name]).read_text()
    found = {call: int(number) for call, number in re.findall(r'<syscall name="(\w+)" number="(\d+)"', table)}
    ours = MACHINES[name].numbers
    compared = ours.keys() & found.keys()
    assert len(compared) > 250
    assert {call: ours[call] for call in compared} == {call: found[call] for call in compared}
