"""Behind a proxy: a real HAProxy and hand-made PROXY headers in front of s6-tlsserver -L."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import ssl
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.support import peers
from tests.support.haproxy import haproxy
from tests.support.kin import family
from tests.support.proxyheaders import IP4, binary, tlv, with_checksum
from tests.support.servers import PATIENCE, Server, server
from tests.support.site import DENY, ENDED, Rules, Site, allow, of

PROXY = "127.0.0.9"
"""Where the proxy of these tests connects from."""

ON_CLIENT = ("-L", "--rules-on=client", f"--trusted-proxies={PROXY}")
ENV = ("env", "-0")


@pytest.fixture
def any_site(tmp_path: Path) -> Site:
    """A place to serve from with one way of isolation, for what has no part in TLS."""
    return Site(tmp_path, "worker")


def behind_a_proxy(
    site: Site, rules: Rules, *prog: str, options: tuple[str, ...] = ON_CLIENT
) -> AbstractContextManager[Server]:
    return site.serve(*(prog or ENV), options=(*options, "-x", site.compile(rules)))


def backend(behind: Server, *words: str) -> list[str]:
    return [f"server s 127.0.0.1:{behind.port} source {PROXY} " + " ".join(words)]


def line(client: str) -> bytes:
    return f"PROXY TCP4 {client} 198.51.100.1 56324 443\r\n".encode()


class Prefixed(socket.socket):
    """A socket that sends a header in one packet with the first of the data."""

    header = b""

    def sendall(self, data: Any, flags: int = 0) -> None:
        header, self.header = self.header, b""
        super().sendall(header + bytes(data), flags)


def talk(behind: Server, header: bytes, by: ssl.SSLContext, source: str = PROXY) -> bytes:
    """Send a header and the first message of TLS in one packet, and return what the program says."""
    with Prefixed(fileno=peers.connect(behind, source).detach()) as client:
        client.settimeout(PATIENCE)
        client.header = header
        session = peers.Polite(client, by)
        session.end(politely=True)
        return session.read_all()


def silence(behind: Server, data: bytes, source: str = PROXY) -> bool:
    """Tell whether the server ends a connection without a single byte."""
    with peers.connect(behind, source) as client:
        client.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            return client.recv(1) == b""
        return True


# A real HAProxy


@pytest.mark.parametrize(
    "header",
    ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id,ssl,cert-cn,ssl-cipher,authority"],
)
def test_rules_judge_the_client_of_haproxy(site: Site, header: str) -> None:
    other = site.authority.issue("other.example")
    rules: Rules = {
        "ip4/127.0.0.2_32": allow(ROLE="staff"),
        "ip4/127.0.0.3_32": allow(ROLE="guest", **of(other)),
        "ip4/127.0.0.4_32": DENY,
    }
    by = peers.context(site.authority.file)
    by.check_hostname = False
    with behind_a_proxy(site, rules) as behind, haproxy(site.place, backend(behind, header)) as proxy:
        for source, role, name in (("127.0.0.2", b"staff", "localhost"), ("127.0.0.3", b"guest", "other.example")):
            with proxy.dial(by, source) as client:
                assert peers.serial(client) == name
                env = peers.environment(peers.read_all(client))
                assert env[b"ROLE"] == role
                assert env[b"SSL_PROTOCOL"] == b"TLSv1.3"
                assert (env[b"TCPREMOTEIP"], env[b"TCPREMOTEPORT"]) == (
                    source.encode(),
                    b"%d" % client.getsockname()[1],
                )
                assert (env[b"TCPLOCALIP"], env[b"TCPLOCALPORT"]) == (b"127.0.0.1", b"%d" % proxy.port)
                assert not any(variable.startswith(b"tlsbak") for variable in env)
        assert proxy.refused(by, "127.0.0.4")
        assert proxy.refused(by, "127.0.0.5")
        behind.wait_log(rf"{ENDED} 1 ", 2)
        behind.wait_log(r"^s6-tcpserver-access: info: allow pid \d+ ip 127\.0\.0\.3 rule ip4/127\.0\.0\.3_32$")
        behind.wait_log(r"^s6-tcpserver-access: info: deny pid \d+ ip 127\.0\.0\.4 rule ip4/127\.0\.0\.4_32$")
        behind.wait_log(rf"^s6-tcpserverd: info: accept {PROXY}_\d+ ", 4)


def test_rules_judge_haproxy_itself_unless_told_otherwise(site: Site) -> None:
    rules: Rules = {f"ip4/{PROXY}_32": allow(VIA="proxy"), "ip4/127.0.0.2_32": DENY}
    by = peers.context(site.authority.file)
    with (
        behind_a_proxy(site, rules, options=("--proxy",)) as behind,
        haproxy(site.place, backend(behind, "send-proxy-v2")) as proxy,
    ):
        env = peers.environment(proxy.answer(by, "127.0.0.2"))
        assert (env[b"VIA"], env[b"TCPREMOTEIP"]) == (b"proxy", b"127.0.0.2")
        assert silence(behind, line("127.0.0.1") + peers.hello(), source="127.0.0.2")


def test_rules_judge_haproxy_itself_when_it_speaks_for_itself(site: Site) -> None:
    """Health checks: HAProxy says LOCAL; a rule that denies the proxy ends them ahead of TLS, and they succeed."""
    rules: Rules = {"ip4/127.0.0.1_32": allow(), f"ip4/{PROXY}_32": DENY}
    by = peers.context(site.authority.file)
    with (
        behind_a_proxy(site, rules) as behind,
        haproxy(site.place, backend(behind, "send-proxy-v2 check inter 50 fall 1")) as proxy,
    ):
        behind.wait_log(rf"^s6-tcpserver-access: info: deny pid \d+ ip {PROXY} rule ip4/{PROXY}_32$", 3)
        assert peers.environment(proxy.answer(by))[b"TCPREMOTEIP"] == b"127.0.0.1"
        assert "s6-tlsd" not in behind.log()


def test_a_header_that_a_client_sends_through_haproxy_is_no_header(any_site: Site) -> None:
    with (
        behind_a_proxy(any_site, {"ip4/127.0.0.2_32": allow(), "ip4/127.0.0.3_32": allow()}) as behind,
        haproxy(any_site.place, backend(behind, "send-proxy-v2")) as proxy,
        proxy.connect("127.0.0.2") as client,
    ):
        client.sendall(line("127.0.0.3") + peers.hello())
        client.shutdown(socket.SHUT_WR)
        behind.wait_log(rf"{ENDED} 97 ")
        behind.wait_log(r"^s6-tcpserver-access: info: allow pid \d+ ip 127\.0\.0\.2 rule ip4/127\.0\.0\.2_32$")
        behind.wait_log(r"^s6-tlsd-io: info: unable to complete the handshake with 127\.0\.0\.2_\d+: ")


def test_what_haproxy_says_about_its_own_tls_replaces_ours(site: Site) -> None:
    """HAProxy ends the client's TLS and speaks TLS of its own to the server."""
    both = site.place / "both.pem"
    both.write_bytes(Path(site.pair.key).read_bytes() + Path(site.pair.certificate).read_bytes())
    tls = f"ssl crt {both} ca-file {site.authority.file} verify optional ssl-max-ver TLSv1.2"
    words = "ssl verify none force-tlsv13 send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,authority,crc32c"
    alice = peers.context(site.authority.file, pair=site.authority.issue("alice.example"))
    with (
        behind_a_proxy(site, {"ip4/127.0.0.2_32": allow()}) as behind,
        haproxy(site.place, backend(behind, words), tls) as proxy,
    ):
        with proxy.dial(alice, "127.0.0.2") as client:
            cipher = client.cipher()
            assert cipher is not None
            env = peers.environment(peers.read_all(client))
        assert env[b"SSL_PROTOCOL"] == b"TLSv1.2"
        assert env[b"SSL_CIPHER"] == cipher[0].encode()
        assert env[b"SSL_PEER_CERT_CN"] == b"alice.example"
        assert env[b"SSL_TLS_SNI_SERVERNAME"] == b"localhost"
        env = peers.environment(proxy.answer(peers.context(site.authority.file), "127.0.0.2"))
        assert b"SSL_PEER_CERT_CN" not in env


def test_haproxy_ends_tls_in_front_of_a_plain_server(any_site: Site) -> None:
    site = any_site
    both = site.place / "both.pem"
    both.write_bytes(Path(site.pair.key).read_bytes() + Path(site.pair.certificate).read_bytes())
    words = "send-proxy-v2 proxy-v2-options ssl,ssl-cipher,authority,crc32c,unique-id"
    with (
        server(["s6-tcpserver", "127.0.0.1", "0", "proxy-server", "-2", *ENV]) as behind,
        haproxy(site.place, backend(behind, words), f"ssl crt {both}") as proxy,
    ):
        env = peers.environment(proxy.answer(peers.context(site.authority.file), "127.0.0.2"))
        assert (env[b"TCPREMOTEIP"], env[b"SSL_PROTOCOL"]) == (b"127.0.0.2", b"TLSv1.3")
        assert env[b"SSL_TLS_SNI_SERVERNAME"] == b"localhost"


# Headers ahead of TLS


@pytest.mark.parametrize(
    "header",
    [
        line("127.0.0.2"),
        b"PROXY TCP6 2001:db8::2 2001:db8::1 56324 443\r\n",
        binary(0x11, IP4),
        with_checksum(0x11, IP4 + tlv(4, b"padding" * 100) + tlv(5, b"id")),
    ],
)
def test_header_and_tls_in_one_packet(site: Site, header: bytes) -> None:
    everybody: Rules = {"ip4/0.0.0.0_0": allow(), "ip6/::_0": allow()}
    by = peers.context(site.authority.file)
    with behind_a_proxy(site, everybody, "printenv", "TCPREMOTEPORT") as behind:
        for _ in range(3):
            assert talk(behind, header, by) == b"56324\n"


def test_a_header_byte_by_byte(any_site: Site) -> None:
    by = peers.context(any_site.authority.file)
    with (
        behind_a_proxy(any_site, {"ip4/192.0.2.0_24": allow()}, "printenv", "TCPREMOTEIP") as behind,
        peers.connect(behind, PROXY) as client,
    ):
        for byte in with_checksum(0x11, IP4):
            client.sendall(bytes([byte]))
        with by.wrap_socket(client, server_hostname="localhost") as session:
            assert peers.read_all(session) == b"192.0.2.1\n"


def test_what_the_proxy_says_about_tls_lasts_and_what_it_does_not_say_is_ours(site: Site) -> None:
    about = tlv(0x20, b"\1\0\0\0\0" + tlv(0x21, b"TLSv1.1") + tlv(0x22, b"Jane"))
    by = peers.context(site.authority.file)
    with behind_a_proxy(site, {"ip4/192.0.2.0_24": allow()}) as behind:
        env = peers.environment(talk(behind, binary(0x11, IP4 + about + tlv(1, b"h2")), by))
        told = {b"SSL_PROTOCOL": b"TLSv1.1", b"SSL_PEER_CERT_CN": b"Jane", b"SSL_ALPN": b"h2"}
        assert told.items() <= env.items()
        assert env[b"SSL_CIPHER"].startswith(b"TLS_")
        assert env[b"SSL_TLS_SNI_SERVERNAME"] == b"localhost"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (peers.hello(), 1),
        (line("127.0.0.02"), 1),
        (with_checksum(0x11, IP4)[:-1] + b"\xff", 1),
        (binary(0x12, IP4), 2),
    ],
    ids=["no header", "invalid address", "wrong checksum", "datagrams"],
)
def test_no_good_header_no_tls(any_site: Site, data: bytes, code: int) -> None:
    with behind_a_proxy(any_site, {"ip4/0.0.0.0_0": allow()}) as behind:
        assert silence(behind, data)
        behind.wait_log(rf"{ENDED} {code} ")
        behind.wait_log(rf"^proxy-server: info: unable to take the PROXY header from {PROXY}_\d+: ")


def test_end_of_file_in_the_header_is_111(any_site: Site) -> None:
    with behind_a_proxy(any_site, {"ip4/0.0.0.0_0": allow()}) as behind:
        for data in (b"", b"PROXY TCP4 192."):
            with peers.connect(behind, PROXY) as client:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                assert client.recv(1) == b""
        behind.wait_log(rf"{ENDED} 111 ", 2)


def test_addresses_of_unix_sockets_and_rules_for_clients_do_not_go_together(any_site: Site) -> None:
    with behind_a_proxy(any_site, {"ip4/0.0.0.0_0": allow()}) as behind:
        assert silence(behind, binary(0x31, bytes(216)) + peers.hello())
        behind.wait_log(rf"{ENDED} 100 ")


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", binary(0, b""), binary(0x11, IP4, command=0x20)])
def test_a_proxy_that_names_no_client_is_judged_itself(any_site: Site, header: bytes) -> None:
    by = peers.context(any_site.authority.file)
    for rule, code in ((allow(), 0), (DENY, 1)):
        with behind_a_proxy(any_site, {f"ip4/{PROXY}_32": rule}, "printenv", "TCPREMOTEIP") as behind:
            if code:
                assert silence(behind, header + peers.hello())
            else:
                assert talk(behind, header, by) == f"{PROXY}\n".encode()
            behind.wait_log(rf"{ENDED} {code} ")


def test_a_client_that_is_denied_costs_no_tls(site: Site) -> None:
    by = peers.context(site.authority.file)
    with behind_a_proxy(site, {"ip4/127.0.0.2_32": allow(), "ip4/127.0.0.3_32": DENY}, "true") as behind:
        assert talk(behind, line("127.0.0.2"), by) == b""
        behind.wait_log(rf"{ENDED} 0 ")
        before = set(family(behind.pid))
        for _ in range(20):
            assert silence(behind, line("127.0.0.3") + peers.hello())
        behind.wait_log(rf"{ENDED} 1 ", 20)
        assert set(family(behind.pid)) <= before


# Who may send a header


@pytest.mark.parametrize("options", [("-L",), ("-L", "--rules-on=client")])
def test_nobody_else_may_speak_for_a_client(any_site: Site, options: tuple[str, ...]) -> None:
    by = peers.context(any_site.authority.file)
    trust = "--trusted-proxies=2001:db8::/32,127.0.0.8/31,10.0.0.1"
    with behind_a_proxy(
        any_site, {"ip4/0.0.0.0_0": allow()}, "printenv", "TCPREMOTEIP", options=(*options, trust)
    ) as behind:
        for source in ("127.0.0.8", "127.0.0.9"):
            assert talk(behind, line("192.0.2.7"), by, source) == b"192.0.2.7\n"
        for source in ("127.0.0.7", "127.0.0.10"):
            assert silence(behind, line("192.0.2.7") + peers.hello(), source)
            behind.wait_log(f"^proxy-server: info: unable to trust a PROXY header from {source}$")
        behind.wait_log(rf"{ENDED} 1 ", 2)


def test_a_stranger_is_sent_away_before_it_says_a_word(any_site: Site) -> None:
    with behind_a_proxy(any_site, {"ip4/0.0.0.0_0": allow()}) as behind:
        assert silence(behind, b"", source="127.0.0.7")


# Time


def test_a_header_that_takes_too_long_is_111(any_site: Site) -> None:
    with behind_a_proxy(any_site, {"ip4/0.0.0.0_0": allow()}, options=(*ON_CLIENT, "-K", "100")) as behind:
        assert silence(behind, b"PROXY TCP4")
        behind.wait_log(rf"^proxy-server: info: unable to take the PROXY header from {PROXY}_\d+: took too long$")
        behind.wait_log(rf"{ENDED} 111 ")


def test_slow_headers_delay_nobody(any_site: Site) -> None:
    by = peers.context(any_site.authority.file)
    with (
        behind_a_proxy(
            any_site, {"ip4/0.0.0.0_0": allow()}, "echo", "x", options=(*ON_CLIENT, "-c100", "-C100")
        ) as behind,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(60):
            stack.enter_context(peers.connect(behind, PROXY)).sendall(b"PROXY ")
        assert talk(behind, line("192.0.2.7"), by) == b"x\n"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_signals_end_connections_that_wait_for_a_header(any_site: Site, number: signal.Signals) -> None:
    with behind_a_proxy(any_site, {"ip4/0.0.0.0_0": allow()}, options=("-B", "hello\n", "-L")) as behind:
        with peers.connect(behind, PROXY) as client:
            assert client.recv(6) == b"hello\n"
            client.sendall(b"PROXY ")
            behind.signal(number)
            assert select.select([client], [], [], PATIENCE)[0]
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
        behind.wait_log(r"^s6-tcpserverd: info: end pid \d+ signal 15 ")


@pytest.mark.parametrize("drain", ["0", "20000"])
def test_a_connection_that_waits_for_a_header_outlives_the_servers_last_accept(site: Site, drain: str) -> None:
    by = peers.context(site.authority.file)
    options = ("-B", "hello\n", "-L", "--drain", drain)
    with (
        behind_a_proxy(site, {"ip4/0.0.0.0_0": allow()}, "echo", "x", options=options) as behind,
        peers.connect(behind, PROXY) as client,
    ):
        assert client.recv(6) == b"hello\n"
        client.sendall(b"PROXY ")
        behind.signal(signal.SIGTERM)
        behind.wait_log("received SIGTERM")
        if drain == "0":
            assert behind.wait() == 0
        client.sendall(line("192.0.2.7")[6:])
        with by.wrap_socket(client, server_hostname="localhost") as session:
            assert peers.read_all(session) == b"x\n"
        assert behind.wait() == 0


def test_a_header_inside_tls(site: Site) -> None:
    """With proxy-server in front of the program, it is the tunnel from the proxy that carries the header."""
    by = peers.context(site.authority.file)
    rules: Rules = {f"ip4/{PROXY}_32": allow()}
    prog = ("proxy-server", "-t", "5000", "sh", "-c", "echo $TCPREMOTEIP $SSL_PROTOCOL; cat")
    with behind_a_proxy(site, rules, *prog, options=()) as behind, peers.dial(behind, by, source=PROXY) as client:
        client.sendall(line("192.0.2.7") + b"data")
        peers.send_eof(client)
        assert peers.read_all(client) == b"192.0.2.7 TLSv1.3\ndata"
