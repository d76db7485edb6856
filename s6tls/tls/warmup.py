"""A few sessions of a host with itself, before it forks: what is done once here is not done by every engine.

The first session of a process is dear.  The TLS library looks its algorithms up, the interpreter
adapts the bytecode that it runs and fills its caches; all of it writes to memory that an engine
shares with its host, so each engine would copy those pages and do that work for
the one session of its life.  The client of a rehearsal is made here; nothing comes from the network.
"""

from __future__ import annotations

import contextlib
import os
import socket

from OpenSSL import SSL

from s6tls.posix.reactor import READABLE, Reactor
from s6tls.tls import variables
from s6tls.tls.credentials import Options
from s6tls.tls.ends import Descriptors, Ends
from s6tls.tls.pump import Pump
from s6tls.tls.session import Session

_TIMES = 12
"""The interpreter adapts a function when it runs for the eighth time (3.11)."""

_PATIENCE = 2.0


def rehearse(settled: SSL.Context, options: Options) -> None:
    """Hold sessions in this process.  One that fails has been of use, too."""
    contexts = [SSL.Context(SSL.TLS_CLIENT_METHOD) for _ in range(2)]
    contexts[1].set_max_proto_version(SSL.TLS1_2_VERSION)
    for number in range(_TIMES):
        with contextlib.suppress(OSError, SSL.Error):
            _one(settled, options, contexts[number % 4 == 3])


def _one(settled: SSL.Context, options: Options, context: SSL.Context) -> None:
    sending, receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near, far = socket.socketpair()
    with sending, receiving, near:
        app_in, to_app = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        from_app, app_out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        notified, notify = os.pipe2(os.O_CLOEXEC)
        near.setblocking(False)
        with far:
            socket.send_fds(sending, [b"-"], [far.fileno(), far.fileno(), from_app, to_app, notify])
        for fd in (from_app, to_app, notify):
            os.close(fd)
        _, fds, _, _ = socket.recv_fds(receiving, 256, 5)
        client = SSL.Connection(context, None)
        client.set_connect_state()
        reactor = Reactor()
        over = False

        def ended() -> None:
            nonlocal over
            over = True
            reactor.stop()

        def step(_: int = 0) -> None:
            with contextlib.suppress(BlockingIOError):
                while data := near.recv(65536):
                    client.bio_write(data)
            try:
                client.do_handshake()
                client.send(b"rehearsal")
            except SSL.WantReadError:
                _flush(client, near)
                return
            _flush(client, near)
            os.write(app_out, b"rehearsal")
            near.shutdown(socket.SHUT_WR)
            os.close(app_out)
            reactor.forget(near.fileno())

        reactor.watch(near.fileno(), READABLE, step)
        pump, ends = Pump(settled, options.close_notify), Ends(Descriptors(*fds))
        session = Session(reactor, pump, ends, variables.notification, lambda _: None, ended)
        reactor.after(_PATIENCE, reactor.stop)
        step()
        if not over:
            reactor.run()
        reactor.close()
        del session
        for fd in (app_in, notified):
            os.close(fd)


def _flush(client: SSL.Connection, near: socket.socket) -> None:
    with contextlib.suppress(SSL.WantReadError):
        while True:
            near.send(client.bio_read(65536))
