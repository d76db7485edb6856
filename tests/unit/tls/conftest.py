"""Servers of pools and parameters for them; a session with all around it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from s6tls.tls.credentials import Isolation
from s6tls.tls.parameters import TlsParameters
from tests.support import pki
from tests.support.tls.pools import Server, with_files
from tests.support.tls.sessions import World


@pytest.fixture(params=Isolation, ids=lambda isolation: isolation.value)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param)
    yield server
    server.close()


@pytest.fixture
def connection_server() -> Iterator[Server]:
    server = Server(Isolation.CONNECTION)
    yield server
    server.close()


@pytest.fixture
def parameters(tmp_path: Path) -> TlsParameters:
    return with_files(tmp_path, pki.pair())


@pytest.fixture(params=[False, True], ids=["pipes", "socket"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(request.param)
    yield world
    world.close()
