"""proxy-server by itself: on a pipe, on a file, under superservers, and what it says when it refuses."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from s6tls.cli.proxy_server import SYNOPSIS
from tests.support.commands import UCSPI, run, said
from tests.support.proxyheaders import IP4, IP6, binary, tlv, with_checksum
from tests.support.servers import BIN, PATH, PATIENCE, Log, read_all, server
from tests.support.superservers import Connect, ipcserver, socat, tcpserver

DIRECT = {**UCSPI, "TCPLOCALPORT": "8443"}
LINE = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"
CLIENT = {"TCPREMOTEIP": "192.0.2.1", "TCPREMOTEPORT": "56324", "TCPLOCALIP": "198.51.100.1", "TCPLOCALPORT": "443"}
SHOW = ["sh", "-c", "echo $PROTO $TCPREMOTEIP $TCPREMOTEPORT $TCPLOCALIP $TCPLOCALPORT; cat"]
SHOWN = b"TCP 192.0.2.1 56324 198.51.100.1 443\n"
SSL = tlv(0x20, b"\7\0\0\0\0" + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"Jane") + tlv(0x23, b"TLS_X"))


def proxy_server(
    *words: str, given: bytes, env: Mapping[str, str] = DIRECT, prog: tuple[str, ...] = ("cat",)
) -> tuple[int, bytes, str]:
    """Run it with `given` on a pipe; return exit code, stdout and stderr."""
    command = [os.path.join(BIN, "proxy-server"), *words, *prog]
    done = subprocess.run(command, env={"PATH": PATH, **env}, input=given, capture_output=True, timeout=PATIENCE)
    return done.returncode, done.stdout, done.stderr.decode()


def variables(*words: str, given: bytes, env: Mapping[str, str] = DIRECT) -> dict[str, str]:
    """Return what proxy-server has added to the environment, or changed in it."""
    code, stdout, stderr = proxy_server(*words, given=given, env=env, prog=("env", "-0"))
    assert (code, stderr) == (0, "")
    found = dict(entry.split("=", 1) for entry in stdout.decode().split("\0")[:-1])
    assert set(env) <= set(found), "it never deletes variables"
    return {name: value for name, value in found.items() if {"PATH": PATH, **env}.get(name) != value}


# What it reads from


@pytest.mark.parametrize("header", [LINE, binary(0x11, IP4), with_checksum(0x11, IP4 + SSL)])
def test_a_pipe(header: bytes) -> None:
    assert proxy_server(given=header + b"\0rest", prog=tuple(SHOW)) == (0, SHOWN + b"\0rest", "")


@pytest.mark.parametrize("header", [LINE, binary(0x11, IP4)])
def test_a_file_is_left_where_the_header_ends(header: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(header + b"rest")
    with (tmp_path / "file").open("rb", buffering=0) as file:
        command = [os.path.join(BIN, "proxy-server"), "true"]
        subprocess.run(command, env={"PATH": PATH, **DIRECT}, stdin=file, check=True, timeout=PATIENCE)
        assert file.tell() == len(header)
        assert file.read() == b"rest"


def in_pieces(client: socket.socket) -> bytes:
    """Send a header byte by byte, and data with its last byte; return the answer."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in LINE[:-1]:
        client.sendall(bytes([byte]))
    client.sendall(LINE[-1:] + b"data")
    client.shutdown(socket.SHUT_WR)
    return read_all(client)


@pytest.mark.parametrize("superserver", [tcpserver, socat], ids=["tcpserver", "socat"])
def test_under_any_superserver(superserver: Callable[..., AbstractContextManager[tuple[Connect, Log]]]) -> None:
    with superserver(["proxy-server", *SHOW]) as (connect, _), connect() as client:
        assert in_pieces(client) == SHOWN + b"data"


def test_under_our_own() -> None:
    with server(["s6-tcpserver", "127.0.0.1", "0", "proxy-server", *SHOW]) as s, s.connect() as client:
        assert in_pieces(client) == SHOWN + b"data"


def test_under_ipcserver_the_client_becomes_one_of_tcp(tmp_path: Path) -> None:
    with ipcserver(tmp_path, ["proxy-server", *SHOW]) as (connect, _), connect() as client:
        client.sendall(binary(0x11, IP4) + b"data")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == SHOWN + b"data"


def test_nothing_is_left_running() -> None:
    """The process that reads the header is gone, and prog inherits no child and no descriptor."""
    script = 'read x < /proc/$$/task/$$/children; echo "$x"; exec ls /proc/self/fd'
    code, stdout, _ = proxy_server(given=LINE, prog=("bash", "-c", f"exec 2>&1; {script}"))
    children, descriptors = stdout.decode().split("\n", 1)
    assert (code, children.split()) == (0, [])
    assert descriptors.split() == ["0", "1", "2", "3"]  # the last is the directory that ls reads


# What it says


@pytest.mark.parametrize(
    ("header", "changed"),
    [
        (LINE, CLIENT),
        (b"PROXY TCP6 2001:DB8::1 ::1 1 2\r\n", dict(zip(CLIENT, ["2001:db8::1", "1", "::1", "2"], strict=True))),
        (b"PROXY UNKNOWN\r\n", {}),
        (binary(0x21, IP6), dict(zip(CLIENT, ["2001:db8::1", "1", "2001:db8::1", "2"], strict=True))),
        (binary(0, b""), {}),
        (binary(0x11, IP4, command=0x20), {}),
        (
            binary(0x31, b"/client".ljust(108, b"\0") + b"/server".ljust(108, b"\0")),
            {"PROTO": "IPC", "IPCREMOTEPATH": "/client", "IPCLOCALPATH": "/server"},
        ),
        (
            with_checksum(0x11, IP4 + tlv(2, b"example.org") + tlv(1, b"h2") + tlv(4, b"") + tlv(5, b"id") + SSL),
            {
                **CLIENT,
                "SSL_TLS_SNI_SERVERNAME": "example.org",
                "SSL_ALPN": "h2",
                "SSL_PROTOCOL": "TLSv1.3",
                "SSL_PEER_CERT_CN": "Jane",
                "SSL_CIPHER": "TLS_X",
            },
        ),
    ],
)
def test_variables(header: bytes, changed: dict[str, str]) -> None:
    assert variables(given=header) == changed


def test_without_a_superserver_it_works_as_well() -> None:
    assert variables(given=LINE, env={}) == {"PROTO": "TCP", **CLIENT}


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", 1),
        (LINE.replace(b"TCP4", b"UDP4"), 1),
        (LINE.replace(b" 443", b""), 1),
        (LINE.replace(b"443", b"65536"), 1),
        (LINE.replace(b"TCP4", b"TCP6"), 1),
        (b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n", 1),
        (binary(0x11, IP4, command=0x31), 1),
        (binary(0x11, IP4, command=0x22), 1),
        (binary(0x41, IP4), 1),
        (binary(0x13, IP4), 1),
        (binary(0x11, IP4[:-1]), 1),
        (binary(0x11, IP4 + b"\2\0\5abc"), 1),
        (binary(0x11, IP4 + tlv(0x20, b"\7")), 1),
        (binary(0x12, IP4), 2),
        (binary(0x32, bytes(216)), 2),
        (b"", 111),
        (b"PROXY", 111),
        (binary(0x11, IP4)[:20], 111),
    ],
)
def test_exit_codes_of_the_reference(header: bytes, code: int) -> None:
    """The reference's proxy-server has been given each of these, and ends with the same code."""
    found, stdout, stderr = proxy_server(given=header)
    assert (found, stdout) == (code, b"")
    assert stderr.startswith("proxy-server: fatal: unable to take the PROXY header from 192.0.2.7_50000: ")
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    "header",
    [
        with_checksum(0x11, IP4)[:-1] + b"\xff",
        binary(0x11, IP4 + tlv(3, b"abc")),
        binary(0x11, IP4 + tlv(2, b"a\0b")),
        LINE.replace(b"192.0.2.1", b"192.0.2.01"),
    ],
    ids=["wrong checksum", "checksum of another length", "NUL", "not quite an address"],
)
def test_what_the_reference_lets_pass_is_refused(header: bytes) -> None:
    assert proxy_server(given=header)[0] == 1


def test_a_header_that_takes_too_long_is_111() -> None:
    with subprocess.Popen(
        [os.path.join(BIN, "proxy-server"), "-t", "100", "cat"],
        env={"PATH": PATH},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(b"PROXY TCP4 ")
        process.stdin.flush()
        assert process.wait(PATIENCE) == 111
        assert process.stderr.read() == b"proxy-server: fatal: unable to take the PROXY header: took too long\n"


def test_a_header_in_time_leaves_the_program_all_the_time_it_wants() -> None:
    assert proxy_server("-t", "5000", given=LINE + b"rest") == (0, b"rest", "")


# Options


def test_one_version_only() -> None:
    block = binary(0x11, IP4)
    for options in (["-1"], ["--only-v1"], ["-2", "-1"]):
        assert proxy_server(*options, given=LINE)[0] == 0
        assert proxy_server(*options, given=block)[0] == 1
    for options in (["-2"], ["--only-v2"], ["-1", "-2"]):
        assert proxy_server(*options, given=block)[0] == 0
        assert proxy_server(*options, given=LINE)[0] == 1


@pytest.mark.parametrize(
    ("proxy", "trusted", "is_trusted"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.7", "2001:db8::/32,192.0.2.0/24", True),
        ("192.0.3.7", "2001:db8::/32,192.0.2.0/24", False),
        ("2001:db8::7", "2001:db8::/32,192.0.2.0/24", True),
        ("2001:db9::7", "2001:db8::/32,0.0.0.0/0", False),
        ("::ffff:192.0.2.7", "192.0.2.0/24", True),
        ("192.0.2.7", "::ffff:192.0.2.0/120", True),
        ("::ffff:192.0.2.7", "::/0", False),
        ("nonsense", "0.0.0.0/0,::/0", False),
        ("", "0.0.0.0/0,::/0", False),
    ],
)
def test_who_may_send_a_header(proxy: str, trusted: str, is_trusted: bool) -> None:
    code, _, stderr = proxy_server("--trusted-proxies", trusted, given=LINE, env={**DIRECT, "TCPREMOTEIP": proxy})
    assert code == (0 if is_trusted else 1)
    assert stderr == "" or stderr.startswith("proxy-server: fatal: unable to t")


@pytest.mark.parametrize(
    "networks",
    [
        *("", ",", "192.0.2.1,", "nonsense", "192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/-1", "192.0.2.0/"),
        *("192.0.2.0/255.255.255.0", "192.0.2.01", "192.0.2", "2001:db8::/129", "2001:db8::1/32", "fe80::1%lo", " ::1"),
    ],
)
def test_a_list_of_networks_that_is_none(networks: str) -> None:
    code, stderr = said(["proxy-server", "--trusted-proxies", networks, "cat"], DIRECT)
    assert code == 100
    assert stderr.startswith(f"proxy-server: usage: invalid list of networks: {networks}")


@pytest.mark.parametrize("words", [[], ["-t"], ["-t", "x", "cat"], ["-v", "-1", "cat"], ["-3", "cat"], ["--only-v3"]])
def test_wrong_usage(words: list[str]) -> None:
    code, stderr = said(["proxy-server", *words], DIRECT)
    assert code == 100
    assert stderr.startswith("proxy-server: usage: ") and stderr.endswith("; try proxy-server --help\n")


def test_help() -> None:
    done = run(["proxy-server", "--help"])
    assert (done.returncode, done.stdout) == (0, SYNOPSIS.help())


# Before and after TLS


def test_what_is_said_about_tls_waits_until_after_tls() -> None:
    about = binary(0x11, IP4 + SSL)
    kept = {"tlsbak_SSL_PROTOCOL": "TLSv1.3", "tlsbak_SSL_PEER_CERT_CN": "Jane", "tlsbak_SSL_CIPHER": "TLS_X"}
    ours = {**DIRECT, "SSL_PROTOCOL": "TLSv1.2", "SSL_CIPHER": "OURS", "SSL_TLS_SNI_SERVERNAME": "ours"}
    assert variables("--before-tlsd", given=about, env=ours) == {**CLIENT, **kept}
    done = run(["proxy-server", "--after-tlsd", "env"], {**ours, **kept}, given="not read")
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    told = {"SSL_PROTOCOL": "TLSv1.3", "SSL_CIPHER": "TLS_X", "SSL_PEER_CERT_CN": "Jane"}
    assert found == {"PATH": PATH, **ours, **told}


@pytest.mark.parametrize("last", ["--before-tlsd", "--after-tlsd"])
def test_the_last_of_before_and_after_counts(last: str) -> None:
    both = {"--before-tlsd": "--after-tlsd", "--after-tlsd": "--before-tlsd"}
    left = b"" if last == "--before-tlsd" else LINE
    assert proxy_server(both[last], last, given=LINE) == (0, left, "")


def test_what_an_earlier_environment_has_kept_is_forgotten() -> None:
    chain = ("proxy-server", "--after-tlsd", "sh", "-c", "echo ${SSL_PROTOCOL-unset}")
    env = {**DIRECT, "tlsbak_SSL_PROTOCOL": "old"}
    assert proxy_server("--before-tlsd", given=LINE, env=env, prog=chain) == (0, b"unset\n", "")


def test_a_proxy_behind_a_proxy() -> None:
    """Each header names the one before; the second is trusted for what the first has said."""
    second = ("proxy-server", "--trusted-proxies=192.0.2.1", *SHOW)
    given = LINE + LINE.replace(b"192.0.2.1", b"203.0.113.5") + b"rest"
    assert proxy_server(given=given, prog=second) == (0, SHOWN.replace(b"192.0.2.1", b"203.0.113.5") + b"rest", "")
    untrusted = ("proxy-server", "--trusted-proxies=192.0.2.2", *SHOW)
    assert proxy_server(given=given, prog=untrusted)[0] == 1
