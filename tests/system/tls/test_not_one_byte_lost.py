"""What a program writes reaches its client, what a client sends reaches the program: all of it, always."""

from __future__ import annotations

import contextlib
import random
import ssl
import threading
from pathlib import Path

import pytest

from tests.support import kin, peers, processes
from tests.support.site import Site

MB = 10**6
ANSWERS = 500
"""For each version and each way of isolation: 1,000 under each, 2,000 in all."""

SIZE_FROM_NAME = 'n=${SSL_TLS_SNI_SERVERNAME%%.*}; exec head -c "${n#n}" blob'
"""A program that writes as many bytes as the name that its client asked for says, and exits without reading any."""


def blob(site: Site, size: int) -> bytes:
    data = random.Random(size).randbytes(size)
    (site.place / "blob").write_bytes(data)
    return data


def sizes() -> list[int]:
    """From nothing to 3 MB, small ones and the edges of records and pipes most often."""
    chance = random.Random(2810)
    edges = [0, 1, 16383, 16384, 16385, 65535, 65536, 65537, 131072, 3 * MB]
    drawn = edges + [int(10 ** chance.uniform(0, 6.477)) for _ in range(ANSWERS - len(edges))]
    chance.shuffle(drawn)
    return drawn


def careless(ca: str, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client that asks for any name at all."""
    made = peers.context(ca, version)
    made.check_hostname = False
    return made


@pytest.mark.parametrize("version", peers.VERSIONS)
def test_answers_of_programs_that_write_and_exit(site: Site, version: ssl.TLSVersion) -> None:
    whole = memoryview(blob(site, 3 * MB))
    by = careless(site.authority.file, version)
    with site.serve("sh", "-c", SIZE_FROM_NAME) as server, peers.crowd(8) as crowd:

        def ask(size: int) -> str | None:
            with peers.dial(server, by, f"n{size}.test") as client:
                got = peers.read_all(client)
            same = len(got) == size and peers.digest(got) == peers.digest(whole[:size])
            return None if same else f"{len(got)} of {size}"

        assert [bad for bad in crowd.map(ask, sizes()) if bad] == []


@pytest.mark.parametrize("version", peers.VERSIONS)
def test_forty_megabytes_each_way_at_once(site: Site, version: ssl.TLSVersion) -> None:
    sent = random.Random(40).randbytes(40 * MB)
    by = peers.context(site.authority.file, version)
    with site.serve("cat") as server, peers.dial(server, by) as client:
        got = peers.duplex(client, sent)
    assert (len(got), peers.digest(got)) == (len(sent), peers.digest(sent))


@pytest.mark.parametrize("version", peers.VERSIONS)
def test_a_client_that_sends_everything_before_it_reads_anything(site: Site, version: ssl.TLSVersion) -> None:
    """The answer is stuck, far more than all buffers hold; the other direction goes on, in bounded memory."""
    waiting, sent = blob(site, 20 * MB), random.Random(41).randbytes(40 * MB)
    program = "head -c 20000000 blob & d=$(sha256sum); wait; echo $d"
    by = peers.context(site.authority.file, version)
    with site.serve("sh", "-c", program) as server, peers.dial(server, by, receive_buffer=65536) as client:
        client.sendall(sent[:MB])
        engine = processes.engine(server, client)
        before = processes.kilobytes(engine, "VmHWM")
        client.sendall(sent[MB:])
        peers.send_eof(client)
        assert processes.kilobytes(engine, "VmHWM") < before + 2_000
        got = peers.read_all(client)
    assert got[20 * MB :] == f"{peers.digest(sent)} -\n".encode()
    assert peers.digest(got[: 20 * MB]) == peers.digest(waiting)


@pytest.mark.parametrize("version", peers.VERSIONS)
def test_slow_readers_of_answers_whose_program_is_gone(site: Site, version: ssl.TLSVersion) -> None:
    """Twenty programs write what fits into pipes and exit; only then their clients begin to read, in dribbles."""
    size = 120_000
    whole = blob(site, size)
    by = careless(site.authority.file, version)
    with contextlib.ExitStack() as clients, site.serve("sh", "-c", SIZE_FROM_NAME) as server:
        held = [clients.enter_context(peers.dial(server, by, f"n{size}.test", receive_buffer=4096)) for _ in range(20)]
        server.wait_log(r"end pid \d+ exitcode 0", len(held))
        answers = [bytearray() for _ in held]
        going = list(zip(held, answers, strict=True))
        while going:
            for client, got in list(going):
                data = client.recv(700)
                got += data
                if not data:
                    going.remove((client, got))
    assert [peers.digest(bytes(got)) for got in answers] == [peers.digest(whole)] * len(answers)


@pytest.mark.parametrize("politely", [True, False], ids=["close_notify", "bare end of file"])
@pytest.mark.parametrize("version", peers.VERSIONS)
def test_an_upload_and_its_end_of_file(site: Site, version: ssl.TLSVersion, politely: bool) -> None:
    sent = random.Random(20).randbytes(20 * MB + 7)
    by = peers.context(site.authority.file, version)
    with site.serve("sha256sum") as server, peers.connect(server) as connection:
        client = peers.Polite(connection, by)
        client.send(sent)
        client.end(politely)
        assert client.read_all() == f"{peers.digest(sent)}  -\n".encode()
        server.wait_log("end pid [0-9]+ exitcode 0")


@pytest.mark.parametrize("version", peers.VERSIONS)
def test_a_client_that_sends_its_request_and_closes_at_once(site: Site, version: ssl.TLSVersion) -> None:
    """It never reads what TLS itself has sent it, so its kernel resets the connection; the request is there still."""
    by = peers.context(site.authority.file, version)
    sent = random.Random(60).randbytes(60_000)
    count = 100
    with site.serve("sh", "-c", "cat >got.$TCPREMOTEPORT") as server, peers.crowd(4) as crowd:

        def send(_: int) -> int:
            with peers.dial(server, by) as client:
                client.sendall(sent)
                return int(client.getsockname()[1])

        ports = list(crowd.map(send, range(count)))
        server.wait_log("end pid [0-9]+ exitcode 0", count)
    got = [Path(site.place, f"got.{port}").read_bytes() for port in ports]
    assert [len(data) for data in got if data != sent] == []


@pytest.mark.parametrize("option", ["-s", "-S"])
def test_the_end_of_an_answer(site: Site, option: str) -> None:
    """With -S an answer's end is authentic: a client that insists on close_notify gets one."""
    by = peers.context(site.authority.file)
    with site.serve("echo", "done", options=(option,)) as server, peers.dial(server, by, strict=True) as client:
        assert client.recv(100) == b"done\n"
        if option == "-S":
            assert client.recv(100) == b""
        else:
            with pytest.raises(ssl.SSLError, match=r"(?i)\bEOF\b"):
                client.recv(100)


def test_a_client_that_does_not_read_costs_no_memory(site: Site) -> None:
    """200 MB wait for a client that does not read; what the engine holds of them is a few chunks."""
    by = peers.context(site.authority.file)
    with site.serve("sh", "-c", "head -c 200000000 /dev/zero; exec cat") as server, peers.dial(server, by) as client:
        first = client.recv(1)
        (pid,) = (int(server.wait_log(r"accept \S+ pid (\d+)")[1]),)
        (head,) = (child for child in kin.family(pid) if child != pid)
        engine = processes.engine(server, client)
        before = processes.kilobytes(engine, "VmRSS")
        processes.await_that(Stillness(head))
        assert processes.written(head) < 200 * MB
        assert processes.kilobytes(engine, "VmHWM") < before + 4_000
        count = len(first)
        while count < 200 * MB:
            count += len(client.recv(262144))
        client.sendall(b"!")
        assert client.recv(10) == b"!"
        assert processes.kilobytes(engine, "VmHWM") < before + 4_000


class Stillness:
    """True once a process has written nothing through twenty looks in a row."""

    def __init__(self, pid: int) -> None:
        self._pid, self._last, self._same = pid, -1, 0

    def __call__(self) -> bool:
        now = processes.written(self._pid)
        self._same = self._same + 1 if now == self._last else 0
        self._last = now
        return self._same >= 20


def test_many_clients_at_once_each_with_its_own_echo(site: Site) -> None:
    """Nobody gets a byte of another's."""
    by = peers.context(site.authority.file)
    start = threading.Barrier(8)
    with site.serve("cat") as server, peers.crowd(8) as crowd:

        def echo(number: int) -> bool:
            sent = random.Random(number).randbytes(2 * MB)
            with peers.dial(server, by) as client:
                start.wait()
                return peers.duplex(client, sent) == sent

        assert all(crowd.map(echo, range(8)))
