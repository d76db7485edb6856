"""Listening sockets."""

from __future__ import annotations

import os
import socket

import pytest

from s6tls.ucspi.listen import Binding, bind, end_stalled, endpoint, inherited


@pytest.mark.parametrize("ip", [b"127.0.0.1", b"::1"])
def test_a_bound_socket_listens_and_does_not_block(ip: bytes) -> None:
    with bind(Binding(ip, 0)) as listener:
        address, port = endpoint(listener.getsockname())
        assert address == ip.decode()
        with socket.create_connection((address, port)):
            listener.setblocking(True)
            accepted, client = listener.accept()
            with accepted:
                assert endpoint(client)[0] == address
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
    with bind(Binding(ip, 0)) as listener:
        assert not os.get_blocking(listener.fileno())
    with bind(Binding(ip, 0, blocking=True)) as listener:
        assert os.get_blocking(listener.fileno())


@pytest.mark.parametrize(
    ("stall_ms", "expected"),
    [(60000, [60000, 60, 10, 6]), (1, [1, 1, 1, 6]), (28_800_000, [28_800_000, 28800, 4800, 6])],
)
def test_accepted_sockets_have_the_kernel_look_after_their_clients(stall_ms: int, expected: list[int]) -> None:
    with bind(Binding(b"127.0.0.1", 0, blocking=True)) as listener:
        end_stalled(listener, stall_ms)
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                options = socket.TCP_USER_TIMEOUT, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT
                assert [accepted.getsockopt(socket.IPPROTO_TCP, option) for option in options] == expected


def test_ipv6_is_ipv6_only() -> None:
    with bind(Binding(b"::", 0)) as six:
        assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_a_port_in_use_is_the_systems_error() -> None:
    with bind(Binding(b"127.0.0.1", 0)) as first, pytest.raises(OSError, match="Address already in use"):
        bind(Binding(b"127.0.0.1", first.getsockname()[1]))


def test_without_a_backlog_nothing_listens() -> None:
    with bind(Binding(b"127.0.0.1", 0, backlog=0)) as bound:
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
    with bind(Binding(b"::1", 0, backlog=0, datagram=True)) as bound:
        assert bound.type == socket.SOCK_DGRAM


@pytest.mark.parametrize(
    "ip", [b"", b"localhost", b"127.1", b"127.0.0.01", b"127.0.0.1 ", b"[::1]", b"::1%lo", b":::", b"\xff", b"0"]
)
def test_an_address_is_text_in_its_strict_form(ip: bytes) -> None:
    with pytest.raises(ValueError, match=r"^invalid IP address: "):
        bind(Binding(ip, 0))


def test_an_endpoint_is_canonical_and_without_a_scope_and_not_mapped() -> None:
    assert endpoint(("192.0.2.1", 80)) == ("192.0.2.1", 80)
    assert endpoint(("fe80::1%eth0", 80, 0, 2)) == ("fe80::1", 80)
    assert endpoint(("::ffff:192.0.2.1", 80, 0, 0)) == ("192.0.2.1", 80)
    assert endpoint(("2001:0:0:1:0:0:0:1", 80, 0, 0)) == ("2001:0:0:1::1", 80)


def test_an_inherited_socket_listens_without_blocking() -> None:
    with socket.create_server(("127.0.0.1", 0)) as made, inherited(os.dup(made.fileno())) as found:
        assert found.getsockname() == made.getsockname()
        assert not os.get_blocking(found.fileno())


def test_other_sockets_are_refused_and_left_open() -> None:
    others = {
        "not a TCP socket": [
            socket.socket(socket.AF_UNIX),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        ],
        "not a listening socket": [socket.socket(), socket.socket(socket.AF_INET6)],
    }
    for message, sockets in others.items():
        for other in sockets:
            with pytest.raises(ValueError, match=f"^{message}$"):
                inherited(other.fileno())
            other.close()
    with open("/dev/null") as file, pytest.raises(OSError, match="non-socket"):
        inherited(file.fileno())
