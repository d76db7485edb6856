"""The names of CGI and mod_ssl for what a program knows by ours."""

from __future__ import annotations

import pytest

from s6tls.stages.cgi import say_it_as_cgi

CLIENT = {
    b"PROTO": b"TCP",
    b"TCPREMOTEIP": b"192.0.2.1",
    b"TCPREMOTEPORT": b"4711",
    b"TCPLOCALIP": b"192.0.2.2",
    b"TCPLOCALPORT": b"443",
}
SUBJECT = rb"1.2.840.113549.1.9.1=a@b.example,CN=Alice\, the first,OU=below,OU=above,O=Us\+Them,C=DE"
SAID = {
    b"REMOTE_ADDR": b"192.0.2.1",
    b"REMOTE_PORT": b"4711",
    b"REMOTE_HOST": b"192.0.2.1",
    b"SERVER_ADDR": b"192.0.2.2",
    b"SERVER_PORT": b"443",
    b"SERVER_NAME": b"192.0.2.2",
    b"HTTPS": b"on",
    b"SSL_SESSION_RESUMED": b"Initial",
    b"SSL_CLIENT_VERIFY": b"NONE",
}


def said(**more: bytes) -> dict[bytes, bytes]:
    """Return what is added to a client's variables and these."""
    before = CLIENT | {name.encode(): value for name, value in more.items()}
    env = dict(before)
    say_it_as_cgi(env)
    return dict(env.items() - before.items())


def test_a_client_without_names_or_a_certificate() -> None:
    assert said() == SAID


def test_what_was_there_and_does_not_apply_is_removed() -> None:
    env = CLIENT | dict.fromkeys((b"SSL_CLIENT_S_DN", b"SSL_CLIENT_CERT", b"REMOTE_IDENT", b"SSL_TLS_SNI"), b"forged")
    say_it_as_cgi(env)
    assert env == CLIENT | SAID


def test_without_a_client_s_address_nobody_else_s_is_there() -> None:
    env = {b"REMOTE_ADDR": b"192.0.2.9", b"REMOTE_HOST": b"forged", b"SERVER_PORT": b"1"}
    say_it_as_cgi(env)
    assert env == {b"HTTPS": b"on", b"SSL_SESSION_RESUMED": b"Initial", b"SSL_CLIENT_VERIFY": b"NONE"}


def test_names() -> None:
    names = {"TCPREMOTEHOST": b"client.example", "TCPLOCALHOST": b"server.example", "TCPREMOTEINFO": b"me"}
    found = said(**names)
    assert (found[b"REMOTE_HOST"], found[b"SERVER_NAME"], found[b"REMOTE_IDENT"]) == (
        b"client.example",
        b"server.example",
        b"me",
    )
    found = said(**names, SSL_TLS_SNI_SERVERNAME=b"www.example", SSL_SESSION_REUSED=b"1")
    assert (found[b"SERVER_NAME"], found[b"SSL_TLS_SNI"], found[b"SSL_SESSION_RESUMED"]) == (
        b"www.example",
        b"www.example",
        b"Resumed",
    )


def test_a_certificate() -> None:
    found = said(
        SSL_PEER_CERT_HASH=b"SHA256:00",
        SSL_PEER_CERT_SUBJECT=SUBJECT,
        SSL_PEER_CERT_ISSUER=rb"CN=CA+O=Us,2.5.4.99=no",
        SSL_PEER_CERT_SERIAL=b"0A1B",
        SSL_PEER_CERT_NOTAFTER=b"2027-03-01T12:00:00Z",
        SSL_PEER_CERT_SAN=rb"DNS:a.example,email:a\,b@c.example,URI:https://a.example/,DNS:b.example",
    )
    assert {name: value for name, value in found.items() if name.startswith(b"SSL_CLIENT_")} == {
        b"SSL_CLIENT_VERIFY": b"SUCCESS",
        b"SSL_CLIENT_S_DN": SUBJECT,
        b"SSL_CLIENT_S_DN_Email": b"a@b.example",
        b"SSL_CLIENT_S_DN_CN": b"Alice, the first",
        b"SSL_CLIENT_S_DN_OU": b"above",
        b"SSL_CLIENT_S_DN_O": b"Us+Them",
        b"SSL_CLIENT_S_DN_C": b"DE",
        b"SSL_CLIENT_I_DN": rb"CN=CA+O=Us,2.5.4.99=no",
        b"SSL_CLIENT_I_DN_CN": b"CA",
        b"SSL_CLIENT_I_DN_O": b"Us",
        b"SSL_CLIENT_M_SERIAL": b"0A1B",
        b"SSL_CLIENT_V_END": b"Mar  1 12:00:00 2027 GMT",
        b"SSL_CLIENT_SAN_DNS_0": b"a.example",
        b"SSL_CLIENT_SAN_Email_0": b"a,b@c.example",
        b"SSL_CLIENT_SAN_DNS_1": b"b.example",
    }


@pytest.mark.parametrize(
    ("subject", "name"),
    [(rb"CN=a\0Ab", rb"a\0Ab"), (rb"CN=a\\,O=b", rb"a\ ".strip()), (rb"CN=\#x\ ", b"#x "), (b"CN=a=b", b"a=b")],
)
def test_an_escape_is_undone_unless_it_hides_a_control_character(subject: bytes, name: bytes) -> None:
    assert said(SSL_PEER_CERT_HASH=b"x", SSL_PEER_CERT_SUBJECT=subject)[b"SSL_CLIENT_S_DN_CN"] == name


@pytest.mark.parametrize("subject", [b"", b"=", b"CN", b"CN=", b"\\", b"a\\", b",,+", b"CN=x\\"])
def test_odd_names_do_no_harm(subject: bytes) -> None:
    assert said(SSL_PEER_CERT_HASH=b"x", SSL_PEER_CERT_SUBJECT=subject)[b"SSL_CLIENT_VERIFY"] == b"SUCCESS"


@pytest.mark.parametrize("date", [b"", b"tomorrow", b"\xff", b"2027-13-01T00:00:00Z"])
def test_what_is_no_date_is_left_out(date: bytes) -> None:
    assert b"SSL_CLIENT_V_END" not in said(SSL_PEER_CERT_NOTAFTER=date)
