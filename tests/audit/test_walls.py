"""What audits are made of."""

from __future__ import annotations

import subprocess
import sys


def test_audits_import_nothing_of_the_servers() -> None:
    program = (
        "import sys, pkgutil, importlib, s6tls.audit as a\n"
        "for m in pkgutil.walk_packages(a.__path__, 's6tls.audit.'): importlib.import_module(m.name)\n"
        "print({m.split('.')[1] for m in sys.modules if m.startswith('s6tls.')} - {'audit', 'accessrules', 'pki'})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
