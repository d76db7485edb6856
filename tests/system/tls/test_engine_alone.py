"""s6-tlsd-io by itself: what it loads, and which descriptors and options it takes."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import peers, servers
from tests.support.servers import PATIENCE
from tests.support.site import TLS_GID, TLS_UID, Authority, of

IMPORTS_NOTHING_AS_NOBODY = """
import os, sys
def watch(event, args):
    if os.geteuid() and (event == "import" or event == "open" and str(args[0]).endswith((".py", ".pyc", ".so"))):
        os.write(2, f"{event} {args[:1]} as nobody\\n".encode())
sys.addaudithook(watch)
from s6tls.cli.s6_tlsd_io import main
main()
"""


@pytest.mark.parametrize("ids", [{"TLS_UID": str(TLS_UID), "TLS_GID": str(TLS_GID)}, {}], ids=["named", "none named"])
@pytest.mark.parametrize("version", peers.VERSIONS)
def test_an_engine_loads_nothing_once_it_is_nobody(
    tmp_path: Path, version: ssl.TLSVersion, ids: dict[str, str]
) -> None:
    """Python's own files may be out of its reach by then."""
    authority = Authority(tmp_path)
    pair, person = authority.issue("localhost"), authority.issue("alice.example")
    env = {**of(pair), "CAFILE": authority.file, "PATH": servers.PATH, **ids}
    script = tmp_path / "engine"
    script.write_text(IMPORTS_NOTHING_AS_NOBODY)
    words = "exec 3<&0 4>&1; exec $PYTHON $SCRIPT -y --alpn=h2 -d 5 3 4 <&6 >&6 5>&2"
    network, client = socket.socketpair()
    with network, client:
        client.settimeout(PATIENCE)
        engine = subprocess.Popen(
            ["bash", "-c", words.replace("6", str(network.fileno()))],
            env={**env, "PYTHON": sys.executable, "SCRIPT": str(script)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[network.fileno()],
        )
        network.close()
        by = peers.context(authority.file, version, person)
        by.set_alpn_protocols(["h2"])
        with by.wrap_socket(client, server_hostname="localhost") as tls:
            tls.sendall(b"hello")
            peers.send_eof(tls)
            out, err = engine.communicate(timeout=PATIENCE)
    assert (engine.returncode, out) == (0, b"hello")
    assert b"SSL_ALPN=h2\0" in err and b"SSL_PEER_CERT_SAN=DNS:alice.example\0" in err
    assert b"as nobody" not in err


@pytest.mark.parametrize("words", ["3 3", "-d 3 3 4", "-d 4 3 4"])
def test_an_engine_wants_descriptors_that_differ(words: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec s6-tlsd-io {words} 3</dev/null 4</dev/null"],
        env={"PATH": servers.PATH},
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 100
    assert re.fullmatch(rb"s6-tlsd-io: usage: the descriptors must be different ones; .*\n", done.stderr)


@pytest.mark.parametrize("words", ["3</dev/null 4>&1", "3<&0 4>/dev/null", "3<$0 4>&1", "0</dev/null 3<&0 4>&1"])
def test_an_engine_says_in_one_line_that_it_cannot_wait_for_a_file(tmp_path: Path, words: str) -> None:
    authority = Authority(tmp_path)
    done = subprocess.run(
        ["sh", "-c", f"exec s6-tlsd-io 3 4 {words}", authority.file],
        env={"PATH": servers.PATH, **of(authority.issue("localhost"))},
        input=b"",
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode in (97, 111)
    assert re.fullmatch(rb"s6-tlsd-io: fatal: [^\n]+\n", done.stderr) and b"Errno" not in done.stderr


@pytest.mark.parametrize("value", ["", ",", "h2,", "h2,,http/1.1", "x" * 256])
def test_a_list_of_protocols_has_no_empty_or_endless_names(value: str) -> None:
    for command in (
        ["s6-tlsd", "--alpn", value, "true"],
        ["s6-tlsserver", f"--alpn={value}", "127.0.0.1", "0", "true"],
    ):
        done = subprocess.run(command, env={"PATH": servers.PATH}, capture_output=True, timeout=PATIENCE)
        assert done.returncode == 100 and b"invalid value for --alpn" in done.stderr
