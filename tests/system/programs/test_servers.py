"""Small servers that were made for tcpserver or for inetd."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading

from tests.support import peers
from tests.support.programs.recipes import Kitchen
from tests.support.servers import PATIENCE
from tests.support.site import allow

GET = b"GET /page HTTP/1.0\r\n\r\n"
SMTP = b"MAIL FROM:<a@b.example>\r\nQUIT\r\n"


def test_micro_httpd(kitchen: Kitchen) -> None:
    kitchen.write("page", "hello")
    with kitchen.serve("micro-httpd", {"/var/www/html": kitchen.place}) as server:
        head, _, body = peers.answer(server, kitchen.by, GET).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ") and body == b"hello"


def test_cgi_programs_find_their_variables(kitchen: Kitchen) -> None:
    heading = "git over HTTPS, and CGI"
    kitchen.write("www/cgi-bin/env", "#!/bin/sh\necho 'Content-Type: text/plain'; echo; env")
    replacing = {"/var/www": kitchen.place / "www"}
    alice = peers.context(kitchen.ca, pair=kitchen.site.authority.issue("alice.example"))
    with kitchen.serve(heading, replacing, {"CAFILE": kitchen.ca, "SSL_CLIENT_S_DN": "forged"}) as server:
        request = b"GET /cgi-bin/env HTTP/1.0\r\n\r\n"
        anonymous = peers.answer(server, kitchen.by, request).decode().splitlines()
        known = peers.answer(server, alice, request).decode().splitlines()
    assert "SSL_CLIENT_VERIFY=NONE" in anonymous and not [line for line in anonymous if line.startswith("SSL_CLIENT_S")]
    expected = {"SSL_CLIENT_VERIFY=SUCCESS", "SSL_CLIENT_S_DN_CN=alice.example", "SSL_CLIENT_SAN_DNS_0=alice.example"}
    expected |= {"HTTPS=on", "SERVER_NAME=localhost", f"SERVER_PORT={server.port}", "REMOTE_HOST=127.0.0.1"}
    assert expected <= set(known)


def test_axfrdns(kitchen: Kitchen) -> None:
    """A question and its answer, and a zone transfer, which a rule allows."""
    place = kitchen.place
    kitchen.write("data", ".example.test:127.0.0.1:ns.example.test:3600\n=www.example.test:192.0.2.1:3600\n")
    subprocess.run(["/usr/sbin/tinydns-data"], cwd=place, check=True, timeout=PATIENCE)
    for name, value in {"ROOT": str(place), "UID": "65534", "GID": "65534"}.items():
        kitchen.write(f"env/{name}", value)
    rules = kitchen.site.compile({"ip4/127.0.0.1_32": allow(AXFR="example.test"), "ip4/127.0.0.2_32": allow(AXFR="no")})
    with kitchen.serve("axfrdns", {"rules.cdb": rules, "/etc/axfrdns/env": place / "env"}) as server:
        for source, may_transfer in (("127.0.0.1", True), ("127.0.0.2", False)):
            for name, kind, has_answer in (("www.example.test", 1, True), ("example.test", 252, may_transfer)):
                with peers.dial(server, kitchen.by, source=source) as client:
                    client.sendall(question(name, kind))
                    assert answered(client, socket.inet_aton("192.0.2.1")) == has_answer


def question(name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    message = struct.pack(">6H", 1, 0, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)
    return struct.pack(">H", len(message)) + message


def answered(client: socket.socket, expected: bytes) -> bool:
    """Read answers until this is in one of them, or there are no more."""
    with client.makefile("rb") as answers:
        while size := answers.read(2):
            if expected in answers.read(*struct.unpack(">H", size)):
                return True
    return False


def test_rblsmtpd(kitchen: Kitchen) -> None:
    """By rule: one client is spared the look-up, another is refused."""
    rules = {"ip4/127.0.0.1_32": allow(RBLSMTPD=""), "ip4/127.0.0.2_32": allow(RBLSMTPD="-no spam please")}
    replacing = {"rules.cdb": kitchen.site.compile(rules), "smtpfront-qmail": "smtpfront-echo"}
    with kitchen.serve("rblsmtpd", replacing) as server:
        assert b"550 5.1.0 Mail system is not configured" in peers.answer(server, kitchen.by, SMTP)
        refused = peers.answer(server, kitchen.by, b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c>\r\n", source="127.0.0.2")
        assert b"553 no spam please" in refused


def test_mailfront_starts_tls(kitchen: Kitchen) -> None:
    replacing = {
        "rules.cdb": kitchen.site.compile({"ip4/0.0.0.0_0": allow()}),
        "qmail starttls-ucspi mailrules": "echo starttls-ucspi accept",
    }
    with kitchen.serve("mailfront", replacing) as server:
        client = subprocess.run(
            [
                *(
                    "openssl",
                    "s_client",
                    "-quiet",
                    "-crlf",
                    "-verify_quiet",
                    "-verify_return_error",
                    "-starttls",
                    "smtp",
                ),
                *("-connect", f"127.0.0.1:{server.port}", "-servername", "localhost", "-CAfile", kitchen.ca),
            ],
            input=b"MAIL FROM:<a@b.example>\nQUIT\n",
            capture_output=True,
            timeout=PATIENCE,
        )
    assert b"250 Sender='a@b.example'" in client.stdout


def test_net_server(kitchen: Kitchen) -> None:
    script = kitchen.write("hello.pl", kitchen.script("Net::Server"))
    with kitchen.serve("Net::Server", {"/usr/local/lib/hello.pl": script}) as server:
        assert peers.answer(server, kitchen.by, b"hi\n") == b"hello 127.0.0.1\nyou said hi\n"


def test_a_server_on_a_unix_socket(kitchen: Kitchen) -> None:
    path = kitchen.place / "redis.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            with listener.accept()[0] as client:
                client.sendall(b"+" + client.recv(100))

        answering = threading.Thread(target=answer)
        answering.start()
        with kitchen.serve("A server on a Unix-domain socket", {"/run/redis/redis.sock": path}) as server:
            assert peers.answer(server, kitchen.by, b"PING") == b"+PING"
        answering.join(PATIENCE)
