"""A plan for each number: random sequences that can be had again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from OpenSSL import SSL

from tests.support.simulation.plans import ALERTS, CLOSE_NOTIFY, FATAL, USER_CANCELED, WARNING, Act, Do, Plan, Say, Step
from tests.support.simulation.world import World
from tests.support.tls.memory import VERSIONS
from tests.support.tls.sealing import LARGEST


def run_seed(seed: int) -> None:
    """Simulate the sequence of a seed.  Raises AssertionError, which names it and shows the plan."""
    plan = random_plan(seed)
    try:
        World(plan).run()
    except Exception as error:
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}\n{plan}") from error


def random_plan(seed: int) -> Plan:
    """Return the sequence of a seed."""
    rng = random.Random(seed)
    program = _program(rng)
    version = rng.choice(VERSIONS)
    plan = Plan(
        version=version,
        close_notify=rng.random() < 0.5,
        demand=rng.random() < 0.3,
        client=tuple(_client(rng, version)),
        program=tuple(program),
        minds_sigpipe=rng.random() < 0.7,
        eager=rng.random() < 0.1,
        capacities=tuple(rng.choice((4096, 16384, 65536, 65536, 262144, 262144)) for _ in range(5)),  # type: ignore[arg-type]
        grain=rng.choice((1, 30, 1460, 20000, 1 << 20, 1 << 20, 1 << 20)),
        paces=tuple(rng.choice((1, 3, 10, 30)) for _ in range(6)),  # type: ignore[arg-type]
        order=rng.getrandbits(32),
    )
    chance = rng.random()
    if rng.random() < 0.05:  # one that never reads, nor closes
        silent = tuple(act for act in plan.client if isinstance(act, Say))
        plan = replace(plan, client=(Do("stop reading"), *silent), program=(*plan.program, Step("write", 1_000_000)))
    if chance < 0.05:
        plan = replace(plan, cut=rng.choice((0, 1, 5, 100, rng.randrange(300), rng.randrange(700))))
    elif chance < 0.10:
        plan = replace(plan, fault=rng.randrange(1, 80), error=rng.choice((MemoryError, RuntimeError, OSError)))
    return replace(plan, sockets=rng.random() < 0.3)


def _size(rng: random.Random) -> int:
    kind = rng.random()
    if kind < 0.4:
        return rng.randrange(60)
    if kind < 0.75:
        return rng.randrange(1, 20_000)
    if kind < 0.85:
        return LARGEST * rng.randrange(1, 5) + rng.randrange(-1, 2)
    return rng.randrange(1, 250_000 if kind < 0.985 else 3_000_001)


def _seconds(rng: random.Random) -> float:
    return rng.choice((0.01, 1, 29, 31, 45, 61, 100, 1000))


def _client(rng: random.Random, version: int) -> list[Act]:
    new_keys = version == SSL.TLS1_3_VERSION
    sayings: list[Callable[[], Act]] = [
        lambda: Say("data", _size(rng)),
        lambda: Say("data", _size(rng)),
        lambda: Say("data", _size(rng)),
        lambda: Say("empty", rng.choice((1, 2, 30, 33))),
        lambda: Say("alert", rng.choice(ALERTS), rng.choice((WARNING, FATAL))),
        lambda: Say("alert", USER_CANCELED),
        lambda: Say("keys", rng.choice((1, 1, 2, 70, 300))) if new_keys else Say("renegotiation", rng.choice((1, 3))),
        lambda: Do("idle", _seconds(rng)),
        lambda: Do("stall", _seconds(rng)),
        lambda: Do("stop reading"),
        lambda: Do("read"),
        lambda: Do("wait", 2000),
    ]
    breaking: list[Callable[[], Act]] = [
        lambda: Say("bad", _size(rng)),
        lambda: Say("unexpected"),
        lambda: Say("renegotiation"),
        lambda: Say("junk", rng.randrange(5, 100)),
        lambda: Say("alert", rng.choice(ALERTS), FATAL),
        lambda: Say("alert", CLOSE_NOTIFY),
    ]
    acts = [rng.choice(sayings)() for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4, 6)))]
    if rng.random() < 0.4:
        acts.append(rng.choice(breaking)())
        if rng.random() < 0.3:
            acts += [rng.choice(sayings)() for _ in range(rng.randrange(3))]
    elif rng.random() < 0.5:
        acts += [Say("alert", USER_CANCELED)] * (rng.random() < 0.3) + [Say("alert", CLOSE_NOTIFY)]
    elif rng.random() < 0.3:
        acts.append(Say("half", rng.randrange(1, 5000)))
    if rng.random() < 0.4:
        acts.append(Do("wait", 2000))
    if rng.random() < 0.5:
        acts.append(Do("end"))
        acts += [Do(rng.choice(("idle", "stall")), _seconds(rng))] * (rng.random() < 0.3)
    if rng.random() < 0.8:
        acts.append(Do(rng.choice(("close", "close", "reset"))))
    elif rng.random() < 0.7:
        acts.append(Do("wait", 2000))
        acts.append(Do("close"))
    return acts


def _program(rng: random.Random) -> list[Step]:
    ordinary: list[Callable[[], list[Step]]] = [
        lambda: [Step("read"), Step("write", _size(rng))],
        lambda: [Step("read", _size(rng)), Step("write", _size(rng))],
        lambda: [Step("write", _size(rng)), Step("read")],
        lambda: [Step("write", _size(rng))],
        lambda: [Step("echo")],
        lambda: [Step("write", _size(rng)), Step("close output"), Step("read")],
        lambda: [Step("close input"), Step("write", _size(rng))],
        lambda: [Step("pause", _seconds(rng))],
        list,
    ]
    if rng.random() < 0.7:
        return rng.choice(ordinary)()
    any_step: list[Callable[[], Step]] = [
        lambda: Step("read", _size(rng)),
        lambda: Step("write", _size(rng)),
        lambda: Step("echo"),
        lambda: Step("pause", _seconds(rng)),
        lambda: Step("close input"),
        lambda: Step("close output"),
    ]
    return [rng.choice(any_step)() for _ in range(rng.randrange(6))]
