"""How much of a jail there is: as the command line and the kernel will have it; and whose ids are in it."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from tests.support import commands, kin, peers, processes, superservers
from tests.support.certified import Certified
from tests.support.jail import attacks, lesser_kernel
from tests.support.servers import BIN
from tests.support.site import TLS_UID, Site, of

FIRST, LAST = 900_000, 909_999
TAKE_IDS = 1 << 6 | 1 << 7
"""CAP_SETGID and CAP_SETUID."""
LACKS = {"seccomp": "seccomp", "landlock_create_ruleset": "Landlock"}


def walls(pid: int) -> tuple[str, str]:
    status = processes.status(pid)
    return status["NoNewPrivs"], status["Seccomp"]


def echoes(client: ssl.SSLSocket) -> bool:
    client.sendall(b"!")
    return client.recv(1) == b"!"


def test_there_is_no_jail_for_who_wants_none(site: Site) -> None:
    by = peers.context(site.authority.file)
    with site.serve("cat", options=("--jail=none",)) as server, peers.dial(server, by) as client:
        assert echoes(client)
        assert walls(processes.engine(server, client)) == ("0", "0")
        assert "jail" not in server.log()


@pytest.mark.parametrize("call", LACKS)
def test_a_kernel_that_lacks_a_wall_is_named_once(site: Site, call: str) -> None:
    by = peers.context(site.authority.file)
    with site.serve("cat", under=lesser_kernel.without(call)) as server:
        for _ in range(3):
            assert peers.answer(server, by, b"hello") == b"hello"
        found = f"TLS engines and the lookup helper are jailed less well: this system lacks {LACKS[call]}"
        server.wait_log(f"^s6-tcpserverd: warning: {found}$")
        assert server.log().count("jail") == 1


@pytest.mark.parametrize("call", LACKS)
def test_a_jail_that_is_required_is_whole_or_no_client_is_served(site: Site, call: str) -> None:
    words = ["s6-tlsserver", "-H", "--jail=required", "127.0.0.1", "0", "cat"]
    done = commands.run([*lesser_kernel.without(call), os.path.join(BIN, words[0]), *words[1:]], site.env)
    assert done.returncode == 111
    assert done.stderr == f"s6-tcpserverd: fatal: unable to jail TLS engines: this system lacks {LACKS[call]}\n"
    with site.serve("cat", options=("--jail=required",)) as server:
        assert peers.answer(server, peers.context(site.authority.file), b"hello") == b"hello"


HELD_BY_LANDLOCK = {
    **dict.fromkeys(("read a file", "make a file", "write the log", "run a shell"), "EACCES"),
    **dict.fromkeys(("read the server's memory", "read the server's environment"), "EACCES"),
    **dict.fromkeys(("stop the server", "end a neighbour"), "EPERM"),
    **dict.fromkeys(
        ("take the server's descriptors", "trace the server", "mount", "be root", "change the root"), "EPERM"
    ),
    "fork": "EAGAIN",
}


def test_each_wall_stands_for_itself(site: Site) -> None:
    """Without seccomp, Landlock, ids and limits hold what they can hold."""
    by = peers.context(site.authority.file)
    with site.serve("cat", under=lesser_kernel.without("seccomp")) as server, peers.dial(server, by) as client:
        assert echoes(client)
        engine = processes.engine(server, client)
        neighbour = next(pid for pid in server.children() if pid != engine)
        tried = attacks.attempts(server.pid, neighbour)
        tried = {name: attempt for name, attempt in tried.items() if name in HELD_BY_LANDLOCK}
        found = attacks.outcomes(engine, tried)
        assert found == {name: HELD_BY_LANDLOCK[name] for name in tried}
        assert len(found) == len(HELD_BY_LANDLOCK)


def test_each_engine_has_an_id_of_its_own(site: Site) -> None:
    by = peers.context(site.authority.file)
    options = (f"--engine-uids={FIRST}-{LAST}",)
    with site.serve("cat", options=options) as server, peers.dial(server, by) as client:
        assert echoes(client)
        engine = processes.engine(server, client)
        pool = int(processes.status(engine)["PPid"])
        for pid in (engine, *(pid for pid in kin.family(pool) if pid != pool)):
            status = processes.status(pid)
            own = str(FIRST + pid % (LAST - FIRST + 1))
            assert status["Uid"].split() == status["Gid"].split() == [own] * 4
            assert (status["Groups"], int(status["CapPrm"], 16)) == ("", 0)
        status = processes.status(pool)
        assert status["Uid"].split() == [str(TLS_UID)] * 4
        assert [int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")] == [TAKE_IDS, TAKE_IDS, 0]


def test_a_pool_takes_ids_of_its_range_only(site: Site) -> None:
    by = peers.context(site.authority.file)
    options = (f"--engine-uids={FIRST}-{LAST}",)
    with site.serve("cat", options=options) as server, peers.dial(server, by) as client:
        assert echoes(client)
        pool = int(processes.status(processes.engine(server, client))["PPid"])
        tried: dict[str, attacks.Attempt] = {
            "root": ("setresuid", 0, 0, 0),
            "root again": ("setuid", 0),
            "half of root": ("setresuid", FIRST, FIRST, 0),
            "root's group": ("setresgid", 0, 0, 0),
            "root's groups": ("setgroups", 1, bytes(4)),
            "below": ("setresuid", FIRST - 1, FIRST - 1, FIRST - 1),
            "above": ("setresuid", LAST + 1, LAST + 1, LAST + 1),
            "as it is": ("setresuid", -1, -1, -1),
        }
        assert attacks.outcomes(pool, tried) == dict.fromkeys(tried, "EPERM")
        assert attacks.outcomes(pool, {"its own": ("setresuid", LAST, LAST, LAST)}) == {"its own": "done"}


def test_only_root_can_give_engines_ids(site: Site) -> None:
    ids, rights = (
        (f"--reuid={TLS_UID}", "--clear-groups"),
        ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
    )
    as_user = ("setpriv", *ids, *rights)
    options = (f"--engine-uids={FIRST}-{LAST}",)
    refused = r"exit code 96[\s\S]*s6-tlsd-io: fatal: only root can have engines use --engine-uids\n$"
    with (
        pytest.raises(AssertionError, match=refused),
        site.serve("cat", options=options, under=as_user, env=of(site.pair)),
    ):
        pass


def test_a_command_has_its_engine_in_the_same_jail(tmp_path: Path) -> None:
    certified = Certified(tmp_path)
    script = 'read engine others </proc/$$/task/$$/children; cat /proc/"$engine"/status'
    words = ["s6-tlsd", f"--engine-uids={FIRST}-{LAST}", "sh", "-c", script]
    with superservers.tcpserver(words, certified.env) as (connect, _):
        client = certified.client.wrap_socket(connect(), server_hostname="localhost")
        with client:
            lines = peers.read_all(client).decode().splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert FIRST <= int(status["Uid"].split()[0]) <= LAST
    assert int(status["CapPrm"], 16) == 0


def test_a_command_whose_jail_must_be_whole_runs_no_program(tmp_path: Path) -> None:
    certified = Certified(tmp_path)
    words = [*lesser_kernel.without("seccomp"), "s6-tlsd", "--jail=required", "cat"]
    with superservers.tcpserver(words, certified.env) as (connect, log), connect() as client:
        assert client.recv(1) == b""
        log.wait_for("^s6-tlsd-io: fatal: unable to enter the jail: this system lacks seccomp$")
