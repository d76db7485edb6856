"""What every end-to-end test starts from: both ways of isolation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.site import Site


@pytest.fixture(params=["connection", "worker"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    """A place to serve from, once with each way of isolation."""
    return Site(tmp_path, request.param)
