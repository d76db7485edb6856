"""PROXY headers: what they say, where they end, and what is refused."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s6tls.helper.proxyheader import CUT_SHORT, MALFORMED, UNSUPPORTED, VARIABLES, ProxyError, Reader
from tests.support.proxyheaders import IP4, IP6, SIGNATURE, binary, tlv, with_checksum

MAPPED = b"".join(
    socket.inet_pton(socket.AF_INET6, "::ffff:" + text) for text in ("192.0.2.1", "198.51.100.1")
) + struct.pack("!HH", 1, 2)
FROM_IP4 = {
    b"PROTO": b"TCP",
    b"TCPREMOTEIP": b"192.0.2.1",
    b"TCPLOCALIP": b"198.51.100.1",
    b"TCPREMOTEPORT": b"56324",
    b"TCPLOCALPORT": b"443",
}


def read(data: bytes, versions: tuple[int, ...] = (1, 2), most: int = 1 << 16) -> tuple[dict[bytes, bytes], bytes]:
    """Read a header as a descriptor would be read; return its variables and what is left for the next program."""
    reader = Reader(versions)
    while reader.wanted:
        piece = data[: min(reader.wanted, most)]
        data = data[len(piece) :]
        reader.feed(piece)
    return reader.variables, data


@pytest.mark.parametrize(
    ("header", "variables"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", FROM_IP4),
        (
            b"PROXY TCP6 2001:DB8::1 ::ffff:1.2.3.4 0 65535\r\n",
            {
                b"PROTO": b"TCP",
                b"TCPREMOTEIP": b"2001:db8::1",
                b"TCPLOCALIP": b"1.2.3.4",
                b"TCPREMOTEPORT": b"0",
                b"TCPLOCALPORT": b"65535",
            },
        ),
        (b"PROXY UNKNOWN\r\n", {}),
        (b"PROXY UNKNOWN ffff:f...f:ffff whatever 1 2\r\n", {}),
        (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", {}),
        (binary(0x11, IP4 + tlv(0xEE, bytes(65520))), FROM_IP4),
        (
            binary(0x11, IP4 + tlv(0x20, b"\1\0\0\0\1" + tlv(0x21, b"TLSv1.2") + tlv(0x22, b"not verified"))),
            FROM_IP4 | {b"SSL_PROTOCOL": b"TLSv1.2"},
        ),
        (binary(0x11, IP4), FROM_IP4),
        (binary(0x11, IP4 + tlv(4, b"nothing") + tlv(0xEE, b"custom")), FROM_IP4),
        (binary(0x11, IP4 + tlv(2, b"example.org")), FROM_IP4 | {b"SSL_TLS_SNI_SERVERNAME": b"example.org"}),
        (binary(0x11, IP4 + tlv(1, b"h2")), FROM_IP4 | {b"SSL_ALPN": b"h2"}),
        (
            binary(
                0x11,
                IP4
                + tlv(
                    0x20,
                    b"\7\0\0\0\0"
                    + tlv(0x21, b"TLSv1.3")
                    + tlv(0x22, b"Jane")
                    + tlv(0x23, b"TLS_X")
                    + tlv(0x25, b"RSA"),
                ),
            ),
            FROM_IP4 | {b"SSL_PROTOCOL": b"TLSv1.3", b"SSL_PEER_CERT_CN": b"Jane", b"SSL_CIPHER": b"TLS_X"},
        ),
        (binary(0x11, IP4 + tlv(0x20, b"\0\0\0\0\0" + tlv(0x21, b"TLSv1.3"))), FROM_IP4),
        (with_checksum(0x11, IP4 + tlv(2, b"a")), FROM_IP4 | {b"SSL_TLS_SNI_SERVERNAME": b"a"}),
        (
            binary(0x21, IP6),
            {
                b"PROTO": b"TCP",
                b"TCPREMOTEIP": b"2001:db8::1",
                b"TCPLOCALIP": b"2001:db8::1",
                b"TCPREMOTEPORT": b"1",
                b"TCPLOCALPORT": b"2",
            },
        ),
        (
            binary(0x31, b"/client".ljust(108, b"\0") + b"/server".ljust(108, b"\0")),
            {b"PROTO": b"IPC", b"IPCREMOTEPATH": b"/client", b"IPCLOCALPATH": b"/server"},
        ),
        (binary(0, b"anything"), {}),
        (with_checksum(0, b""), {}),
        (with_checksum(0, tlv(4, b"x"), command=0x20), {}),
        (with_checksum(0x11, IP4, command=0x20), {}),
        (binary(0x11, IP4, command=0x20), {}),
        (binary(0x77, b"", command=0x20), {}),
        (
            binary(0x21, MAPPED),
            {
                b"PROTO": b"TCP",
                b"TCPREMOTEIP": b"192.0.2.1",
                b"TCPLOCALIP": b"198.51.100.1",
                b"TCPREMOTEPORT": b"1",
                b"TCPLOCALPORT": b"2",
            },
        ),
        (
            binary(
                0x11, IP4 + tlv(2, b"evil\nX=1") + tlv(1, b"h2\nY=2") + tlv(0x20, b"\7\0\0\0\0" + tlv(0x22, b"a/b"))
            ),
            FROM_IP4,
        ),
    ],
)
@pytest.mark.parametrize("most", [1, 7, 1 << 16])
def test_what_headers_say(header: bytes, variables: dict[bytes, bytes], most: int) -> None:
    assert read(header + b"GET / HTTP/1.0\r\n", most=most) == (variables, b"GET / HTTP/1.0\r\n")


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"", CUT_SHORT),
        (b"GET / HTTP/1.1\r\n", MALFORMED),
        (b"PROXY", CUT_SHORT),
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443", CUT_SHORT),
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n\n\n", MALFORMED),
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n", MALFORMED),
        (b"PROXY TCP4 192.0.2.1  198.51.100.1 56324 443\r\n", MALFORMED),
        (b"PROXY TCP4 192.0.2.01 198.51.100.1 56324 443\r\n", MALFORMED),
        (b"PROXY TCP4 ::1 ::1 56324 443\r\n", MALFORMED),
        (b"PROXY TCP6 192.0.2.1 198.51.100.1 56324 443\r\n", MALFORMED),
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n", MALFORMED),
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 +1 443\r\n", MALFORMED),
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 01 443\r\n", MALFORMED),
        (b"PROXY UNKNOWN " + b"x" * 100 + b"\r\n", MALFORMED),
        (b"PROXY UDP4 192.0.2.1 198.51.100.1 1 443\r\n", MALFORMED),
        (binary(0x11, IP4, command=0x31), MALFORMED),
        (binary(0x11, b"", command=0x31)[:16], MALFORMED),
        (binary(0x11, IP4, command=0x22), MALFORMED),
        (binary(0x41, IP4), MALFORMED),
        (binary(0x13, IP4), MALFORMED),
        *((binary(unspecified, bytes(216)), MALFORMED) for unspecified in (0x10, 0x20, 0x30, 0x01, 0x02)),
        (with_checksum(0, b"")[:-1] + b"\xff", MALFORMED),
        (with_checksum(0, tlv(4, b"x"), command=0x20)[:-1] + b"\xff", MALFORMED),
        (binary(0x32, bytes(216)), UNSUPPORTED),
        (binary(0x12, IP4), UNSUPPORTED),
        (binary(0x11, IP4[:-1]), MALFORMED),
        (binary(0x21, IP4), MALFORMED),
        (binary(0x11, IP4 + b"\2\0"), MALFORMED),
        (binary(0x11, IP4 + b"\2\0\5abc"), MALFORMED),
        (binary(0x11, IP4 + tlv(2, b"a\0b")), MALFORMED),
        (binary(0x11, IP4 + tlv(2, b"a" * 256)), MALFORMED),
        (binary(0x11, IP4 + tlv(0x20, b"\7")), MALFORMED),
        (binary(0x11, IP4 + tlv(3, b"abc")), MALFORMED),
        (with_checksum(0x11, IP4)[:-1] + b"\xff", MALFORMED),
        (binary(0x11, IP4)[:-1], CUT_SHORT),
        (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", MALFORMED),
        (b"PROXY UNKNOWN \n" + b"x" * 50 + b"\r\n", MALFORMED),
    ],
)
def test_what_is_refused(header: bytes, code: int) -> None:
    with pytest.raises(ProxyError) as refused:
        read(header)
    assert refused.value.code == code
    assert str(refused.value)


def test_one_version_only() -> None:
    line, block = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", binary(0x11, IP4)
    assert read(line, (1,))[0] == read(block, (2,))[0] == FROM_IP4
    for header, versions in ((line, (2,)), (block, (1,))):
        with pytest.raises(ProxyError):
            read(header, versions)


@given(st.binary(max_size=300), st.integers(1, 20))
def test_anything_is_a_header_or_refused(data: bytes, most: int) -> None:
    for start in (
        b"",
        b"PROXY ",
        b"PROXY TCP4 ",
        SIGNATURE,
        SIGNATURE + b"\x21\x11",
        SIGNATURE + b"\x21\x11\0\x40" + IP4,
    ):
        try:
            variables, rest = read(start + data, most=most)
        except ProxyError as error:
            assert error.code in (MALFORMED, UNSUPPORTED, CUT_SHORT)
        else:
            assert (start + data).endswith(rest)
            assert set(variables) <= set(VARIABLES)
            assert not any(b"\0" in value for value in variables.values())
