"""What a session of the library's does, of ours and of pyOpenSSL's on the same context: each test holds for both."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

from s6tls.pki.parsing import chain, private_key, use_keypair
from s6tls.tls.library import Closed, Connection, LibraryError
from tests.support import pki
from tests.support.tls.memory import EACH_VERSION, NAMES, Client, client_context


class Reference:
    """pyOpenSSL's session under the names of ours."""

    def __init__(self, context: SSL.Context) -> None:
        self._theirs = SSL.Connection(context, None)
        self._theirs.set_accept_state()
        self.take, self.write, self.close = self._theirs.bio_write, self._theirs.send, self._theirs.shutdown

    def give(self) -> bytes:
        return self._called(self._theirs.bio_read, 65536) or b""

    def shake_hands(self) -> bool:
        return self._called(self._theirs.do_handshake) is not None

    def read(self) -> bytes:
        return self._called(self._theirs.recv, 16384) or b""

    @staticmethod
    def _called(call: Callable[..., bytes | None], *arguments: int) -> bytes | None:
        """Return what a call returns, which is not None: that stands for "want read"."""
        try:
            return call(*arguments) or b""
        except SSL.WantReadError:
            return None
        except SSL.ZeroReturnError:
            raise Closed from None
        except SSL.Error as error:
            raise LibraryError("; ".join(entry[-1] for entry in error.args[0])) from None

    @property
    def has_heard_end(self) -> bool:
        return bool(self._theirs.get_shutdown() & SSL.RECEIVED_SHUTDOWN)

    protocol = property(lambda self: self._theirs.get_protocol_version_name().encode())
    cipher = property(lambda self: (self._theirs.get_cipher_name() or "").encode())
    server_name = property(lambda self: self._theirs.get_servername() or b"")
    peer_certificate = property(lambda self: self._theirs.get_peer_certificate())


Session = Connection | Reference
EACH = pytest.mark.parametrize("kind", [Connection, Reference])


def context() -> SSL.Context:
    """A server's, without callbacks: those of pyOpenSSL know only its own sessions, and ours only ours."""
    made, pair = SSL.Context(SSL.TLS_SERVER_METHOD), pki.pair()
    use_keypair(made, private_key(pair.key, "key"), chain(pair.chain, "chain"), "pair")
    made.set_verify(SSL.VERIFY_PEER)
    store = made.get_cert_store()
    assert store is not None
    store.add_cert(crypto.load_certificate(crypto.FILETYPE_PEM, pki.root("clients")))
    return made


def given(session: Session) -> bytes:
    data = b""
    while more := session.give():
        data += more
    return data


def begun(kind: type[Session], version: int, certificate: pki.Pair | None = None) -> tuple[Session, Client]:
    session = kind(context())
    client = Client(client_context(version, certificate=certificate))
    assert not session.shake_hands() and not session.give()
    done = False
    client.hear()
    while data := client.said():
        session.take(data)
        done = done or session.shake_hands()
        client.hear(given(session))
    assert done and session.read() == b""
    return session, client


@EACH
@EACH_VERSION
def test_what_it_knows(kind: type[Session], version: int) -> None:
    pair = pki.pair("client.example", by="clients")
    session, client = begun(kind, version, pair)
    assert session.protocol == NAMES[version].encode()
    assert session.cipher.decode() == client.connection.get_cipher_name()
    assert session.server_name == b"server.example"
    assert session.peer_certificate is not None
    shown = crypto.dump_certificate(crypto.FILETYPE_ASN1, session.peer_certificate)
    assert shown == x509.load_pem_x509_certificate(pair.chain).public_bytes(Encoding.DER)
    assert begun(kind, version)[0].peer_certificate is None


@EACH
@EACH_VERSION
def test_bytes_in_both_directions(kind: type[Session], version: int) -> None:
    session, client = begun(kind, version)
    sent = bytes(range(256)) * 200
    client.connection.sendall(sent)
    session.take(client.said())
    received = b""
    while data := session.read():
        assert len(data) <= 16384
        received += data
    assert received == sent
    session.write(sent[:16384])
    client.hear(given(session))
    assert client.received == sent[:16384]


@EACH
@EACH_VERSION
def test_close_notify_each_way(kind: type[Session], version: int) -> None:
    session, client = begun(kind, version)
    session.close()
    client.hear(given(session))
    assert client.heard_close_notify and not session.has_heard_end
    client.connection.shutdown()
    session.take(client.said())
    with pytest.raises(Closed):
        session.read()
    assert session.has_heard_end


@EACH
def test_a_broken_record_fails_after_those_before_it_and_leaves_nothing_for_others(kind: type[Session]) -> None:
    session, client = begun(kind, SSL.TLS1_3_VERSION)
    client.connection.send(b"good")
    good = client.said()
    client.connection.send(b"bad")
    bad = client.said()
    session.take(good + bad[:-1] + bytes([bad[-1] ^ 1]))
    assert session.read() == b"good"
    with pytest.raises(LibraryError, match=r"^decryption failed or bad record mac; record layer failure$"):
        session.read()
    assert given(session) and not session.has_heard_end
    begun(kind, SSL.TLS1_3_VERSION)


@EACH
def test_no_tls_at_all(kind: type[Session]) -> None:
    session = kind(context())
    session.take(b"GET / HTTP/1.0\r\n\r\n")
    with pytest.raises(LibraryError, match=r"^http request$"):
        session.shake_hands()
