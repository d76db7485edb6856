"""curl, openssl, socat and ncat, each as its user runs it; and the end of the server."""

from __future__ import annotations

import random
import re
import signal
import subprocess

import pytest

from tests.support import peers
from tests.support.servers import PATIENCE
from tests.support.site import Site

PAGE = random.Random(80).randbytes(400_000)
HEAD = "HTTP/1.0 200 OK\\r\\nContent-Type: text/plain\\r\\n"
READ_REQUEST = """while IFS= read -r line && [ "$line" != "$(printf '\\r')" ]; do :; done; """
WITH_LENGTH = READ_REQUEST + f"printf '{HEAD}Content-Length: {len(PAGE)}\\r\\n\\r\\n'; exec cat page"
UNTIL_END = READ_REQUEST + f"printf '{HEAD}\\r\\n'; exec cat page"


def run(*words: str, data: bytes = b"", code: int = 0) -> bytes:
    done = subprocess.run(words, input=data, capture_output=True, timeout=PATIENCE)
    assert done.returncode == code, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("version", [("--tls-max", "1.2"), ("--tlsv1.3",)], ids=["1.2", "1.3"])
@pytest.mark.parametrize(("options", "program"), [(("-s",), WITH_LENGTH), (("-S",), WITH_LENGTH), (("-S",), UNTIL_END)])
def test_curl(site: Site, options: tuple[str, ...], program: str, version: tuple[str, ...]) -> None:
    """A page with a length, however the session ends; one that only its end bounds, with close_notify."""
    (site.place / "page").write_bytes(PAGE)
    with site.serve("sh", "-c", program, options=options) as server:
        words = ("curl", "-sS", *version, "--cacert", site.authority.file, f"https://localhost:{server.port}/")
        got = run(*words, "--resolve", f"localhost:{server.port}:127.0.0.1", "--noproxy", "*")
        assert got == PAGE
        server.wait_log(r"end pid \d+ exitcode 0 count [01]/40")


def test_curl_several_pages_at_once(site: Site) -> None:
    (site.place / "page").write_bytes(PAGE)
    with site.serve("sh", "-c", WITH_LENGTH) as server:
        url = f"https://localhost:{server.port}/[1-20]"
        words = ("curl", "-sS", "-Z", "--parallel-max", "10", "--cacert", site.authority.file, "--noproxy", "*")
        run(*words, "--resolve", f"localhost:{server.port}:127.0.0.1", url, "-o", f"{site.place}/got.#1")
    assert all((site.place / f"got.{number}").read_bytes() == PAGE for number in range(1, 21))


@pytest.mark.parametrize("protocol", ["-tls1_2", "-tls1_3"])
def test_openssl(site: Site, protocol: str) -> None:
    with site.serve("sha256sum", options=("-S",)) as server:
        words = ("openssl", "s_client", "-quiet", "-verify_quiet", "-verify_return_error", "-no_ign_eof", protocol)
        command = (*words, "-CAfile", site.authority.file, "-connect", f"127.0.0.1:{server.port}")
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            client.communicate(PAGE, PATIENCE)
        server.wait_log(r"end pid \d+ exitcode 0 count [01]/40")


def test_socat(site: Site) -> None:
    """It half-closes: an upload, its end, and an answer to the whole of it."""
    with site.serve("sha256sum", options=("-S",)) as server:
        peer = f"OPENSSL:127.0.0.1:{server.port},cafile={site.authority.file},commonname=localhost"
        got = run("socat", "-t", "20", "-", peer, data=PAGE)
        assert got == f"{peers.digest(PAGE)}  -\n".encode()


def test_ncat(site: Site) -> None:
    (site.place / "page").write_bytes(PAGE)
    with site.serve("cat", "page", options=("-S",)) as server:
        words = ("ncat", "--ssl-verify", "--ssl-trustfile", site.authority.file, "--recv-only")
        assert run(*words, "--ssl-servername", "localhost", "127.0.0.1", str(server.port)) == PAGE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGABRT])
def test_the_end_of_the_server(site: Site, number: signal.Signals) -> None:
    """SIGTERM leaves programs alone: a transfer under way completes.  SIGQUIT and SIGABRT end them."""
    by = peers.context(site.authority.file)
    program = ("head", "-c", "20000000", "/dev/zero")
    with site.serve(*program) as server, peers.dial(server, by, receive_buffer=65536) as client:
        first = client.recv(1000)
        server.signal(number)
        assert server.wait() == 0
        with pytest.raises(ConnectionRefusedError):
            peers.connect(server)
        whole = first + peers.read_all(client) == bytes(20_000_000)
        assert whole == (number == signal.SIGTERM)


def test_sessions_go_on_both_ways_without_the_server(site: Site) -> None:
    by = peers.context(site.authority.file)
    with site.serve("cat") as server, peers.dial(server, by) as client:
        client.sendall(b"!")
        assert client.recv(1) == b"!"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert peers.duplex(client, PAGE) == PAGE


TLS = "protocol TLSv1.3 cipher TLS_AES_256_GCM_SHA384"


def test_the_log_of_a_session(site: Site) -> None:
    """Each line of a life, in the reference's words, and a line of our own."""
    by = peers.context(site.authority.file)
    with site.serve("true") as server:
        with peers.dial(server, by) as client:
            name = f"127.0.0.1_{client.getsockname()[1]}"
            assert peers.read_all(client) == b""
            server.wait_log("end pid")
        server.wait_log("status: 0/40$", 2)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        server.wait_log("exiting$")
        lines = [re.sub(r"pid \d+", "pid N", line) for line in server.log().splitlines()]
        lines = [re.sub(r"seconds \d+\.\d{3}", "seconds N", line) for line in lines]
        of_session = [line for line in lines if "s6-tcpserverd: info: " in line]
    assert [line.removeprefix("s6-tcpserverd: info: ") for line in of_session] == [
        f"starting - bound to ip 127.0.0.1 port {server.port}",
        "status: 0/40",
        "status: 1/40",
        f"accept {name} pid N count 1/40",
        "status: 1/40",
        "end pid N exitcode 0 count 1/40",
        f"session {name} pid N seconds N in 0 out 0 {TLS} name localhost ended",
        "status: 0/40",
        "received SIGTERM, quitting",
        "exiting",
    ]
