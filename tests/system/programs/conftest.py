"""What is served here is what `docs/programs.md` says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.programs.recipes import Kitchen
from tests.support.site import Site


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    tmp_path.chmod(0o755)
    return Kitchen("programs.md", Site(tmp_path, "connection"))
