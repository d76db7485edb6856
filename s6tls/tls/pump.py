"""One TLS session as bytes in, bytes and wants out.  No descriptors, no waiting.

The TLS library is given two memory buffers in place of a socket.  Everything the
network sent goes into one; everything that must be sent comes out of the other.
Between them stands the application, which is two more streams of bytes.  The pump
owns the moments where such proxies lose data:

- **The library holds what the descriptor no longer shows.**  One read from the
  network can hold many records.  So whatever comes in is decrypted at once, until
  the library itself asks for more; "nothing to read on the socket" is never taken
  for "nothing to read".
- **Both directions end alone.**  The client's end of file (with or without
  close_notify) ends what the application reads, and nothing else.  The
  application's end of file ends what the client reads, once all that came before is
  out.
- **Bounded memory.**  The rim feeds one chunk at a time and only while the pump
  `wants` it: the network while the application has taken all that was decrypted,
  the application while the network has taken all that was encrypted.  What a peer can
  make the library itself say (answers to key updates) is bounded by `_TOO_MUCH`:
  beyond it the network is not read until the peer has read.

The two directions never wait for each other in any other way: a client that sends
without reading still gets its bytes to the application.
"""

from __future__ import annotations

from collections import deque

from OpenSSL import SSL

from s6tls.tls import admission

CHUNK = 65536
"""Bytes to read at once from either side."""

_RECORD = 16384
_CIPHERTEXT = CHUNK + 8192
_TOO_MUCH = 4 * CHUNK

MOST_TO_APPLICATION = CHUNK + _RECORD
"""Bytes that `to_application` may come to: a chunk, and the record that it completes."""

MOST_TO_NETWORK = _TOO_MUCH + 2 * CHUNK
"""Bytes that `to_network` may come to: a chunk from each side may be added to not quite too much."""


class TLSFailure(Exception):
    """The session broke; the message says how, `during_handshake` when."""

    def __init__(self, message: str, during_handshake: bool) -> None:
        super().__init__(message)
        self.during_handshake = during_handshake


class Pump:
    """A server-side session over memory.

    `to_network` and `to_application` hold what is to be written; the rim removes from
    them what it has written.  `connection` is the library's session, for questions
    about it.
    """

    __slots__ = (
        "_close_notify",
        "_demand_close_notify",
        "application_ended",
        "connection",
        "established",
        "network_ended",
        "to_application",
        "to_network",
        "unsent",
    )

    def __init__(self, context: SSL.Context, close_notify: bool = False, demand_close_notify: bool = False) -> None:
        self.connection = admission.begin(context)
        self._close_notify = close_notify
        self._demand_close_notify = demand_close_notify
        self.established = False
        self.network_ended = False
        self.application_ended = False
        self.to_network: deque[bytes] = deque()
        self.to_application: deque[bytes] = deque()
        self.unsent = 0

    @property
    def wants_network(self) -> bool:
        """Whether the next chunk from the network may be fed."""
        return not self.network_ended and not self.to_application and self.unsent < _TOO_MUCH

    @property
    def wants_application(self) -> bool:
        """Whether the next chunk from the application may be fed."""
        return self.established and not self.application_ended and not self.to_network

    def feed_network(self, data: bytes) -> None:
        """Take in what the network sent; b"" is its end of file.  Raises TLSFailure."""
        if not data:
            self._end_of_network()
            return
        self.connection.bio_write(data)
        try:
            if not self.established:
                self.connection.do_handshake()
                if objection := admission.objection(self.connection):
                    raise TLSFailure(objection, during_handshake=True)
                self.established = True
            while True:
                self.to_application.append(self.connection.recv(_RECORD))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.network_ended = True
        except SSL.Error as error:
            if self._is_answer_to_our_end(error):
                self.network_ended = True
                return
            reason = ": ".join(filter(None, (_reason(error), admission.remark(self.connection))))
            raise TLSFailure(reason, during_handshake=not self.established) from error
        finally:
            self._collect()

    def feed_application(self, data: bytes) -> None:
        """Take in what the application wrote; b"" is its end of file.  Raises TLSFailure."""
        try:
            if data:
                self.connection.send(data)
            else:
                self.application_ended = True
                if self._close_notify:
                    self.connection.shutdown()
        except SSL.Error as error:
            raise TLSFailure(_reason(error), during_handshake=False) from error
        self._collect()

    def sent(self, count: int) -> None:
        """Remove `count` bytes from the front of `to_network`: they are on their way."""
        self.unsent -= count
        _consume(self.to_network, count)

    def delivered(self, count: int) -> None:
        """Remove `count` bytes from the front of `to_application`: it has them."""
        _consume(self.to_application, count)

    def _end_of_network(self) -> None:
        self.network_ended = True
        if not self.established:
            raise TLSFailure("the peer closed the connection", during_handshake=True)
        if self._demand_close_notify:
            raise TLSFailure("the peer closed the connection without close_notify", during_handshake=False)

    def _is_answer_to_our_end(self, error: SSL.Error) -> bool:
        """Tell whether a client ends its direction too, in OpenSSL's way.

        OpenSSL answers an end of file without close_notify by the alert decode_error.
        """
        ours = self.application_ended and not self._close_notify
        return ours and not self._demand_close_notify and _reason(error) == "tlsv1 alert decode error"

    def _collect(self) -> None:
        """Move what the library has to say into `to_network`."""
        try:
            size = _CIPHERTEXT
            while size == _CIPHERTEXT:  # less than asked for is all there is; to ask again costs an exception
                data = self.connection.bio_read(_CIPHERTEXT)
                size = len(data)
                self.to_network.append(data)
                self.unsent += size
        except SSL.WantReadError:
            pass


def _consume(chunks: deque[bytes], count: int) -> None:
    while count:
        first = chunks[0]
        if len(first) > count:
            chunks[0] = first[count:]
            return
        count -= len(first)
        chunks.popleft()


def _reason(error: SSL.Error) -> str:
    """Return the library's own words for an error."""
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    words = [str(entry[-1]) for entry in reasons if entry]
    return "; ".join(words) or "the peer broke the connection"
