"""One key and certificate for all commands that speak TLS."""

from __future__ import annotations

import pytest

from tests.support.certified import Certified


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return Certified(tmp_path_factory.mktemp("certified"))
