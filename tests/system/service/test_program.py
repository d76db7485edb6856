"""What the program finds when it starts, and what the server says about it."""

from __future__ import annotations

import hashlib
import os
import signal
import ssl
from pathlib import Path

import pytest

from tests.support import peers, processes
from tests.support.servers import PATH, Server
from tests.support.site import ENDED, TLS_GID, TLS_UID, Env, Site, allow, of

CIPHERS = {
    peers.TLS12: ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    peers.TLS13: ("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
}
OF_C_LIBRARY = 0b11 << 31
"""Signals 32 and 33: glibc's own, which its posix_spawn leaves ignored and which no program can name."""


def env_of(server: Server, by: ssl.SSLContext, source: str = "127.0.0.1") -> tuple[Env, int]:
    """Return the environment that ``env -0`` reports, and the client's port."""
    with peers.dial(server, by, source=source) as client:
        port = client.getsockname()[1]
        found = peers.environment(peers.read_all(client))
    return {os.fsdecode(name): os.fsdecode(value) for name, value in found.items()}, port


def base(server: Server, port: int, version: ssl.TLSVersion = peers.TLS13, source: str = "127.0.0.1") -> Env:
    """The environment that SPEC gives to a program, for a first connection."""
    protocol, cipher = CIPHERS[version]
    return {
        "PATH": PATH,
        "PROTO": "TCP",
        "TCPLOCALIP": "127.0.0.1",
        "TCPLOCALPORT": str(server.port),
        "TCPREMOTEIP": source,
        "TCPREMOTEPORT": str(port),
        "TCPCONNNUM": "0",
        "SSL_PROTOCOL": protocol,
        "SSL_CIPHER": cipher,
        "SSL_TLS_SNI_SERVERNAME": "localhost",
    }


@pytest.mark.parametrize("version", peers.VERSIONS)
def test_environment(site: Site, version: ssl.TLSVersion) -> None:
    """Exactly this: nothing of the interpreter's, nothing about keys, nothing stale from the server's own."""
    stale = {"SSL_PEER_CERT_HASH": "stale", "SSL_PEER_CERT_SUBJECT": "stale", "CADIR": "/x", "KEYFILE:a": "/y"}
    mine = {"ODD": "\udcff\udc80 =\n", "EMPTY": "", "PYTHONHASHSEED": "0", "TCPREMOTEHOST": "stale"}
    with site.serve("env", "-0", env={**site.env, **stale, **mine}) as server:
        got, port = env_of(server, peers.context(site.authority.file, version))
        assert got == {**base(server, port, version), **mine}


def test_environment_behind_the_access_stage(site: Site) -> None:
    """Names from before are unset, the rule's changes are made, and -l names this host."""
    rules = {"ip4/127.0.0.2_32": allow(GREETING="hello", GONE=None, TCPREMOTEINFO="rule")}
    stale = {"TCPREMOTEHOST": "stale", "TCPREMOTEINFO": "stale", "TCPLOCALHOST": "stale", "GONE": "no"}
    options = ("-x", site.compile(rules), "-l", "here.example")
    with site.serve("env", "-0", options=options, env={**site.env, **stale}) as server:
        got, port = env_of(server, peers.context(site.authority.file), source="127.0.0.2")
        expected = base(server, port, source="127.0.0.2")
        assert got == {**expected, "GREETING": "hello", "TCPLOCALHOST": "here.example"}


def test_without_a_server_name_there_is_no_variable_for_it(site: Site) -> None:
    by = peers.context(site.authority.file)
    by.check_hostname = False
    with site.serve("env", "-0", env={**site.env, "SSL_TLS_SNI_SERVERNAME": "stale"}) as server:
        got = peers.environment(peers.answer(server, by, name=""))
    assert b"SSL_PROTOCOL" in got and b"SSL_TLS_SNI_SERVERNAME" not in got


@pytest.mark.parametrize(("options", "kept"), [((), False), (("-Z",), True), (("-Z", "-z"), False), (("-z",), False)])
def test_Z_keeps_the_variables_about_keys(site: Site, options: tuple[str, ...], kept: bool) -> None:
    second = site.authority.issue("localhost", rsa_key=True)
    keys = {**site.env, "KEYFILE2": second.key, "CERTFILE2": second.certificate}
    keys |= dict.fromkeys(("CADIR", "CAFILE", "CRLFILE", "OCSPFILE", "OCSPFILE2"), "/nowhere")
    keys |= {f"{name}FILE{number}:x": "/x" for name in ("KEY", "CERT", "OCSP") for number in ("", "2")}
    with site.serve("env", "-0", options=options, env=keys) as server:
        got, port = env_of(server, peers.context(site.authority.file))
        assert got == {**base(server, port), **(keys if kept else {})}


def test_connections_of_an_address_are_counted(site: Site) -> None:
    by = peers.context(site.authority.file)
    with (
        site.serve("sh", "-c", "echo $TCPCONNNUM; exec cat") as server,
        peers.dial(server, by) as first,
        peers.dial(server, by) as second,
        peers.dial(server, by, source="127.0.0.9") as other,
    ):
        assert [client.recv(10) for client in (first, second, other)] == [b"0\n", b"1\n", b"0\n"]


@pytest.mark.parametrize("options", [(), ("-u", "64010", "-g", "64011")], ids=["our ids", "other ids"])
def test_process(site: Site, options: tuple[str, ...]) -> None:
    """Descriptors, signals, pid, directory, umask and limits, as the kernel sees them."""
    by = peers.context(site.authority.file)
    with site.serve("cat", options=options) as server, peers.dial(server, by) as client:
        client.sendall(b"!")
        assert client.recv(1) == b"!"
        pid = int(server.wait_log(r"accept \S+ pid (\d+) count 1/40")[1])
        assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"cat\0"
        open_files = processes.descriptors(pid)
        assert sorted(open_files) == [0, 1, 2]
        assert open_files[0].startswith("pipe:") and open_files[1].startswith("pipe:")
        assert open_files[2] == processes.descriptors(server.pid)[2]
        status = processes.status(pid)
        assert int(status["SigIgn"], 16) & ~OF_C_LIBRARY == 0
        assert [int(status[name], 16) for name in ("SigBlk", "SigCgt", "SigPnd", "ShdPnd")] == [0, 0, 0, 0]
        assert int(status["PPid"]) == server.pid
        assert status["Umask"] == processes.status(server.pid)["Umask"]
        assert os.readlink(f"/proc/{pid}/cwd") == str(site.place)
        assert Path(f"/proc/{pid}/limits").read_text() == Path("/proc/self/limits").read_text()


@pytest.mark.parametrize("options", [(), ("-u", "64010", "-g", "64011")], ids=["our ids", "other ids"])
@pytest.mark.parametrize(
    ("script", "ending"),
    [("exit 0", "exitcode 0"), ("exit 37", "exitcode 37"), ("kill -9 $$", "signal 9"), ("kill -13 $$", "signal 13")],
)
def test_pid_and_ending_are_logged(site: Site, options: tuple[str, ...], script: str, ending: str) -> None:
    by = peers.context(site.authority.file)
    with site.serve("sh", "-c", f"echo $$; {script}", options=options) as server:
        pid = int(peers.answer(server, by))
        server.wait_log(rf"^s6-tcpserverd: info: accept 127\.0\.0\.1_\d+ pid {pid} count 1/40$")
        server.wait_log(f"^s6-tcpserverd: info: end pid {pid} {ending} count [01]/40$")


@pytest.mark.parametrize(
    ("place", "code"), [("/nowhere", 127), ("no-such-program", 127), ("/etc/passwd", 126), ("/", 126)]
)
def test_a_program_that_cannot_be_run_any_more(site: Site, place: str, code: int) -> None:
    program = site.place / "program"
    program.symlink_to("/bin/cat")
    with site.serve("./program") as server:
        program.unlink()
        program.symlink_to(place)
        assert peers.refused(server, peers.context(site.authority.file))
        server.wait_log(r"fatal: unable to exec \./program: .")
        server.wait_log(rf"{ENDED} {code} count [01]/40$")


def test_arguments_are_bytes(site: Site) -> None:
    with site.serve("printf", "%s|", "\udcff", "", "-x", "--", "a b\n") as server:
        assert peers.answer(server, peers.context(site.authority.file)) == b"\xff||-x|--|a b\n|"


IDS = 'grep -E "^(Uid|Gid|Groups):" /proc/self/status; env'


def ids(answer: bytes) -> tuple[str, str, str, bool]:
    """Read what `IDS` says: user, group, supplementary groups, and whether variables for them are exported."""
    lines = answer.decode().splitlines()
    found = {name: words.split() for name, _, words in (line.partition(":") for line in lines[:3])}
    assert len(set(found["Uid"])) == len(set(found["Gid"])) == 1
    exported = any(line.startswith(("UID=", "GID=", "GIDLIST=")) for line in lines)
    return found["Uid"][0], found["Gid"][0], " ".join(found["Groups"]), exported


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("-u", "64010"), ("64010", "0", "", True)),
        (("-u", "64010", "-g", "64011"), ("64010", "64011", "", True)),
        (("-u", "64010", "-g", "64011", "-G", "64012,64013"), ("64010", "64011", "64012 64013", True)),
        (("-U",), ("64020", "64021", "64022 64023", False)),
        (("-u", "64010", "-U", "-G", ""), ("64020", "64021", "64022 64023", False)),
    ],
)
def test_ids_of_the_program(site: Site, options: tuple[str, ...], expected: tuple[str, str, str, bool]) -> None:
    given = {"UID": "64020", "GID": "64021", "GIDLIST": "64022,64023"}
    with site.serve("sh", "-c", IDS, options=options, env={**site.env, **given}) as server:
        assert ids(peers.answer(server, peers.context(site.authority.file))) == expected


@pytest.mark.parametrize(
    "given",
    [{}, {"UID": "1"}, {"UID": "x", "GID": "1"}, {"UID": "4294967295", "GID": "1"}, {"UID": "1", "GID": "-1"}],
)
def test_U_without_good_ids_runs_nothing(site: Site, given: Env) -> None:
    rules = site.compile({"ip4/127.0.0.1_32": allow(**given)})
    with site.serve("echo", "ran", options=("-U", "-x", rules)) as server:
        assert peers.refused(server, peers.context(site.authority.file))
        server.wait_log("^s6-applyuidgid: fatal: .")
        server.wait_log(rf"{ENDED} 100 count [01]/40$")


def test_ids_by_rule(site: Site) -> None:
    rules = {
        "ip4/127.0.0.1_32": allow(UID="64030", GID="64031", GIDLIST="64032"),
        "ip4/127.0.0.2_32": allow(UID="64040", GID="64041", GIDLIST=""),
    }
    by = peers.context(site.authority.file)
    with site.serve("sh", "-c", IDS, options=("-U", "-x", site.compile(rules))) as server:
        assert ids(peers.answer(server, by)) == ("64030", "64031", "64032", False)
        assert ids(peers.answer(server, by, source="127.0.0.2")) == ("64040", "64041", "", False)


@pytest.mark.parametrize("option", ["-y", "-Y"])
@pytest.mark.parametrize("version", peers.VERSIONS)
def test_the_certificate_of_a_client(site: Site, version: ssl.TLSVersion, option: str) -> None:
    person = site.authority.issue("alice.example")
    shown = peers.context(site.authority.file, version, person)
    silent = peers.context(site.authority.file, version)
    with site.serve("env", "-0", options=(option,), env={**site.env, "CAFILE": site.authority.file}) as server:
        got, port = env_of(server, shown)
        assert "CN=alice.example" in got.pop("SSL_PEER_CERT_SUBJECT").split(",")
        about = {name for name in got if name.startswith("SSL_PEER_CERT_")}
        assert about == {f"SSL_PEER_CERT_{what}" for what in ("HASH", "ISSUER", "SERIAL", "SAN", "NOTAFTER")}
        certificate = ssl.PEM_cert_to_DER_cert(Path(person.certificate).read_text())
        assert got["SSL_PEER_CERT_HASH"] == "SHA256:" + hashlib.sha256(certificate).hexdigest()
        assert {name: value for name, value in got.items() if name not in about} == base(server, port, version)
        server.wait_log("status: 0/40$", 2)
        if option == "-y":
            assert peers.refused(server, silent)
            server.wait_log("unable to complete the handshake with .*: .*peer did not return a certificate")
        else:
            got, port = env_of(server, silent)
            assert got == base(server, port, version)


def test_server_names(site: Site) -> None:
    """-k1 chooses among keys by the name asked for, a first label of * is a wildcard, the rest get the default."""
    names = ["one.example", "*.two.example"]
    named = {name: site.authority.issue(name) for name in names}
    env = {
        **site.env,
        **{f"{variable}:{name}": path for name, pair in named.items() for variable, path in of(pair).items()},
    }
    by = peers.context(site.authority.file)
    expected = {"one.example": names[0], "ONE.EXAMPLE": names[0], "x.two.example": names[1]}
    default = peers.context(site.authority.file)
    default.check_hostname = False
    with site.serve("sh", "-c", "exec echo $SSL_TLS_SNI_SERVERNAME", options=("-k", "1"), env=env) as server:
        for name, certificate in expected.items():
            with peers.dial(server, by, name) as client:
                assert peers.serial(client) == certificate
                assert peers.read_all(client).decode().strip().lower() == name.lower()
        for name in ("other.example", "two.example", "a.b.two.example", "x.one.example"):
            with peers.dial(server, default, name) as client:
                assert peers.serial(client) == "localhost"
                assert peers.read_all(client).decode().strip() == name


def test_server_names_only(site: Site) -> None:
    """-k2 needs no default pair, and refuses whoever asks for another name or for none."""
    pair = site.authority.issue("one.example")
    env = {f"{variable}:one.example": path for variable, path in of(pair).items()}
    by = peers.context(site.authority.file)
    by.check_hostname = False
    with site.serve("echo", "hello", options=("-k", "2"), env=env) as server:
        assert peers.answer(server, by, name="one.example") == b"hello\n"
        for name in ("other.example", "x.one.example"):
            with pytest.raises(ssl.SSLError):
                peers.answer(server, by, name=name)
        with peers.connect(server) as client, pytest.raises(ssl.SSLError):
            by.wrap_socket(client)
        server.wait_log("unable to complete the handshake", 3)


def test_engine_and_program_run_under_their_own_ids(site: Site) -> None:
    by = peers.context(site.authority.file)
    with site.serve("cat", options=("-u", "64010", "-g", "64011")) as server, peers.dial(server, by) as client:
        client.sendall(b"!")
        assert client.recv(1) == b"!"
        program = processes.status(int(server.wait_log(r"pid (\d+)")[1]))
        engine = processes.status(processes.engine(server, client))
        assert (program["Uid"].split()[0], program["Gid"].split()[0]) == ("64010", "64011")
        assert (engine["Uid"].split()[0], engine["Gid"].split()[0]) == (str(TLS_UID), str(TLS_GID))


def test_SIGHUP_ends_the_programs_and_nothing_else(site: Site) -> None:
    by = peers.context(site.authority.file)
    with site.serve("cat") as server:
        with peers.dial(server, by) as client:
            client.sendall(b"!")
            assert client.recv(1) == b"!"
            server.signal(signal.SIGHUP)
            server.wait_log(r"end pid \d+ signal 15")
            assert client.recv(1) == b""
        assert peers.answer(server, by, b"again") == b"again"
