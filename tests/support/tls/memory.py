"""A TLS client in memory: OpenSSL's, and what it says and hears as bytes."""

from __future__ import annotations

import functools
import tempfile

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from s6tls.tls.context import build
from s6tls.tls.credentials import ClientCertificate, SessionOptions
from s6tls.tls.pump import Pump
from tests.support import pki

VERSIONS = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)
NAMES = {SSL.TLS1_2_VERSION: "TLSv1.2", SSL.TLS1_3_VERSION: "TLSv1.3"}
EACH_VERSION = pytest.mark.parametrize("version", VERSIONS, ids=NAMES.get)
DEFAULT = SessionOptions()
MANDATORY = SessionOptions(client_certificate=ClientCertificate.MANDATORY)
OPTIONAL = SessionOptions(client_certificate=ClientCertificate.OPTIONAL)


@functools.cache
def server_context() -> SSL.Context:
    return build(pki.credentials(default=pki.pair()), SessionOptions())


def client_context(
    version: int | None = None, trusted: bytes = b"", certificate: pki.Pair | None = None, ciphers: bytes = b""
) -> SSL.Context:
    """A client's context: any version or just one, checking the server if told whom to trust."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_info_callback(_note_state)
    if version is not None:
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
    if ciphers:
        context.set_cipher_list(ciphers)
    if trusted:
        with tempfile.NamedTemporaryFile() as file:
            file.write(trusted)
            file.flush()
            context.load_verify_locations(file.name)
        context.set_verify(SSL.VERIFY_PEER)
    if certificate is not None:
        context.use_privatekey(load_pem_private_key(certificate.key, None))  # type: ignore[arg-type]
        context.use_certificate(x509.load_pem_x509_certificate(certificate.chain))
    return context


@functools.cache
def some_client_context(version: int) -> SSL.Context:
    return client_context(version)


def _note_state(connection: SSL.Connection, _where: int, _result: int) -> None:
    states = connection.get_app_data()
    if states is not None:
        states.append(connection.get_state_string().decode())


class Client:
    """One client session over memory."""

    def __init__(
        self, context: SSL.Context, server_name: bytes | None = b"server.example", session: SSL.Session | None = None
    ) -> None:
        self.connection = SSL.Connection(context, None)
        self._states: list[str] = []
        self.connection.set_app_data(self._states)
        self.connection.set_connect_state()
        if server_name:
            self.connection.set_tlsext_host_name(server_name)
        if session is not None:
            self.connection.set_session(session)
        self.established = False
        self.received = b""
        self.heard_close_notify = False

    def hear(self, data: bytes = b"") -> None:
        """Take in what the network brought, as far as it goes.  Raises SSL.Error."""
        if data:
            self.connection.bio_write(data)
        try:
            if not self.established:
                self.connection.do_handshake()
                self.established = True
            while True:
                self.received += self.connection.recv(65536)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.heard_close_notify = True

    @property
    def resumed(self) -> bool:
        """Whether the handshake was done without the server showing its certificate."""
        return self.established and not any("server certificate" in state for state in self._states)

    def said(self) -> bytes:
        """Return what is to go to the network."""
        data = b""
        try:
            while True:
                data += self.connection.bio_read(65536)
        except SSL.WantReadError:
            return data


def drain(pump: Pump) -> bytes:
    """Take everything that the pump has for the network."""
    data = b"".join(pump.to_network)
    pump.sent(len(data))
    return data


def take(pump: Pump) -> bytes:
    """Take everything that the pump has for the application."""
    data = b"".join(pump.to_program)
    pump.delivered(len(data))
    return data


def feed(pump: Pump, data: bytes) -> None:
    """Feed all that the network brought, b"" for its end.  Raises TLSFailure."""
    if data:
        pump.feed_network(data)
        while pump.withheld:
            pump.feed_network(b"")
    else:
        pump.end_network("closed the connection")
    if pump.failure is not None:
        raise pump.failure


def shake_hands(pump: Pump, client: Client) -> None:
    """Let both talk until neither has anything to say.  Raises SSL.Error or TLSFailure."""
    client.hear()
    while data := client.said():
        feed(pump, data)
        client.hear(drain(pump))


def connect(
    server: SSL.Context,
    client: SSL.Context | None = None,
    name: bytes | None = b"server.example",
    session: SSL.Session | None = None,
) -> Client:
    """Hold a session as far as the first bytes in both directions.  Raises TLSFailure or SSL.Error."""
    pump, talking = Pump(server), Client(client or client_context(), name, session)
    shake_hands(pump, talking)
    talking.connection.send(b"hello")
    feed(pump, talking.said())
    assert take(pump) == b"hello"
    return talking


def ticket(server: SSL.Context, client: SSL.Context, name: bytes = b"server.example") -> SSL.Session:
    connection = connect(server, client, name).connection
    session = connection.get_session()
    connection.shutdown()  # OpenSSL does not resume a session that was not ended
    assert session is not None
    return session
