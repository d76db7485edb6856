"""The arrangement of docs/scaling.md: HAProxy in front of two servers; one goes away and comes back under load."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import peers, servers
from tests.support.haproxy import Haproxy, haproxy
from tests.support.processes import await_that
from tests.support.servers import PATIENCE, Server
from tests.support.site import DENY, ENDED, Rules, Site, allow

PROXY = "127.0.0.9"
PART, CLIENTS = 75, 4
RULES: Rules = {
    "ip4/127.0.0.0_8": allow(ROLE="guest"),
    "ip4/127.0.0.2_32": allow(ROLE="staff"),
    "ip4/127.0.0.4_32": DENY,
    f"ip4/{PROXY}_32": DENY,
}
"""The proxy speaks for itself when it checks a server's health; denying that spares each check a TLS session."""

CHECKS = f"default-server source {PROXY} send-proxy-v2 check inter 50ms rise 1 fall 1"


class Farm:
    """Two servers that share certificate and rules, each on an address that is this test's alone."""

    def __init__(self, site: Site) -> None:
        self._site, self._cdb = site, site.compile(RULES)
        # A port of such an address is free again when the server has left it: nobody else uses the address.
        network = ".".join(str(random.SystemRandom().randrange(1, 255)) for _ in range(2))
        self.addresses = {name: f"127.{network}.{number}" for name, number in (("a", 1), ("b", 2))}
        self.ports = {"a": 0, "b": 0}

    @contextlib.contextmanager
    def running(self, name: str) -> Iterator[Server]:
        """Serve under this name until the block ends; a second time on the same port."""
        site = self._site
        words = [
            *("s6-tlsserver", "-v", "-H", "--isolation", site.isolation, "-c", "200", "-C", "200", "-b", "200"),
            *("-L", "--rules-on=client", f"--trusted-proxies={PROXY}", "-x", self._cdb, "--"),
            *(self.addresses[name], str(self.ports[name]), "printenv", "SERVER", "TCPREMOTEIP", "ROLE"),
        ]
        with servers.server(words, {**site.env, "SERVER": name}, cwd=site.place) as server:
            self.ports[name] = server.port
            yield server

    def backend(self, *more: str) -> list[str]:
        """HAProxy's lines for both."""
        return [*more, CHECKS, *(f"server {name} {self.addresses[name]}:{self.ports[name]}" for name in self.addresses)]


class Load:
    """Clients that make requests all the time: `PART` of them before the first event, between events, and after all."""

    def __init__(self, *events: Callable[[], None]) -> None:
        self.answers: list[tuple[float, bytes]] = []
        self.failures: list[tuple[float, float, str]] = []
        self._events = events
        self._answered = threading.Condition()
        self._over = threading.Event()

    def run(self, proxy: Haproxy, ca: str) -> None:
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(self._client, proxy, ca, f"127.0.1.{n}") for n in range(1, CLIENTS + 1)]
            try:
                for event in self._events:
                    self._await_part()
                    event()
                self._await_part()
            finally:
                self._over.set()
            for client in clients:
                client.result()

    def _await_part(self) -> None:
        with self._answered:
            enough = self._count() + PART
            assert self._answered.wait_for(lambda: self._count() >= enough, 3 * PATIENCE)

    def _count(self) -> int:
        return len(self.answers) + len(self.failures)

    def _client(self, proxy: Haproxy, ca: str, source: str) -> None:
        by = peers.context(ca)
        expected = f"{source}\nguest\n".encode()
        while not self._over.is_set():
            started = time.monotonic()
            try:
                answer = proxy.answer(by, source)
                assert answer[2:] == expected, answer
            except (OSError, AssertionError) as error:
                self.failures.append((started, time.monotonic(), repr(error)))
            else:
                self.answers.append((started, answer[:1]))
            with self._answered:
                self._answered.notify()


@pytest.fixture
def farm(site: Site) -> Farm:
    return Farm(site)


def test_one_server_of_two_goes_away_and_comes_back_under_load(farm: Farm, site: Site) -> None:
    """Each request succeeds, but for those in the server's backlog, not accepted yet, while it goes."""
    moments: list[float] = []
    with farm.running("b") as b, contextlib.ExitStack() as first_life, contextlib.ExitStack() as second_life:
        a = first_life.enter_context(farm.running("a"))
        with haproxy(site.place, farm.backend()) as proxy:

            def stop() -> None:
                moments.append(time.monotonic())
                a.signal(signal.SIGTERM)
                assert a.wait() == 0
                moments.append(time.monotonic())
                proxy.wait_log("Server servers/a is DOWN")

            def start() -> None:
                second_life.enter_context(farm.running("a"))
                proxy.wait_log("Server servers/a is UP")
                moments.append(time.monotonic())

            load = Load(stop, start)
            load.run(proxy, site.authority.file)
        told, gone, back = moments
        for started, ended, error in load.failures:
            assert started <= gone and told <= ended, error
        assert len(load.failures) < CLIENTS
        for since, until in ((0.0, told), (back, time.monotonic())):
            assert {name for moment, name in load.answers if since <= moment < until} == {b"a", b"b"}
        assert "Traceback" not in a.log() + b.log()


def test_a_server_that_is_drained_first_costs_no_request(tmp_path: Path) -> None:
    site = Site(tmp_path, "worker")
    farm = Farm(site)
    with farm.running("b"), contextlib.ExitStack() as first_life, contextlib.ExitStack() as second_life:
        a = first_life.enter_context(farm.running("a"))
        with haproxy(site.place, farm.backend()) as proxy:

            def stop() -> None:
                proxy.tell("set server servers/a state drain")
                await_that(lambda: sessions(proxy, "a") == 0)
                a.signal(signal.SIGTERM)
                assert a.wait() == 0
                proxy.wait_log("Server servers/a is DOWN")

            def start() -> None:
                second_life.enter_context(farm.running("a"))
                proxy.wait_log("Server servers/a is UP")
                proxy.tell("set server servers/a state ready")

            load = Load(stop, start)
            load.run(proxy, site.authority.file)
        assert load.failures == []
        assert Counter(name for _, name in load.answers).keys() == {b"a", b"b"}


def sessions(proxy: Haproxy, server: str) -> int:
    """Return how many connections HAProxy has with a server."""
    for line in proxy.tell("show stat").splitlines():
        fields = line.split(",")
        if fields[:2] == ["servers", server]:
            return int(fields[4])
    raise AssertionError("no such server")


def test_the_rules_are_one_file_for_both(farm: Farm, site: Site) -> None:
    """A changed rule counts for the next client of either server."""
    by = peers.context(site.authority.file)
    with farm.running("a"), farm.running("b"), haproxy(site.place, farm.backend()) as proxy:
        assert {proxy.answer(by, "127.0.0.2") for _ in range(4)} == {b"a\n127.0.0.2\nstaff\n", b"b\n127.0.0.2\nstaff\n"}
        assert all(proxy.refused(by, "127.0.0.4") for _ in range(4))
        site.compile({**RULES, "ip4/127.0.0.2_32": DENY, "ip4/127.0.0.4_32": allow(ROLE="new")})
        assert all(proxy.refused(by, "127.0.0.2") for _ in range(4))
        assert {proxy.answer(by, "127.0.0.4")[2:] for _ in range(4)} == {b"127.0.0.4\nnew\n"}


def test_health_checks_cost_no_tls(farm: Farm, site: Site) -> None:
    with farm.running("a") as a, farm.running("b") as b, haproxy(site.place, farm.backend()):
        for server in (a, b):
            server.wait_log(f"{ENDED} 1 ", 5)
            server.wait_log(rf"^s6-tcpserver-access: info: deny pid \d+ ip {PROXY} rule ip4/{PROXY}_32$", 5)
            assert "s6-tlsd-io" not in server.log()


def test_health_checks_with_tls_run_the_program(tmp_path: Path) -> None:
    site = Site(tmp_path, "worker")
    farm = Farm(site)
    site.compile({f"ip4/{PROXY}_32": allow()})
    with (
        farm.running("a") as a,
        farm.running("b"),
        haproxy(site.place, [*farm.backend("default-server check-ssl verify none")]),
    ):
        a.wait_log(f"{ENDED} 1 ", 2)  # printenv misses ROLE
        a.wait_log(rf"^s6-tcpserver-access: info: allow pid \d+ ip {PROXY} rule ip4/{PROXY}_32$", 2)


@pytest.mark.parametrize(("balance", "resumed"), [("balance source", 6), ("balance roundrobin", 0)])
def test_sessions_resume_with_the_server_that_began_them(farm: Farm, site: Site, balance: str, resumed: int) -> None:
    """Each server has ticket keys of its own: elsewhere a ticket is good for a full handshake, and no failure."""
    by = peers.context(site.authority.file)
    with farm.running("a"), farm.running("b"), haproxy(site.place, farm.backend(balance)) as proxy:
        with proxy.dial(by) as client:
            peers.read_all(client)
            session = client.session
        reused = 0
        for _ in range(6):
            with by.wrap_socket(proxy.connect(), server_hostname="localhost", session=session) as client:
                peers.read_all(client)
                reused += client.session_reused is True
                session = client.session
        assert reused == resumed


def test_haproxy_takes_the_configuration_of_the_manual(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "scaling.md").read_text()
    shown = page.split("```haproxy\n", 1)[1].split("```", 1)[0]
    (tmp_path / "haproxy.cfg").write_text(shown)
    done = subprocess.run(["/usr/sbin/haproxy", "-c", "-f", tmp_path / "haproxy.cfg"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
