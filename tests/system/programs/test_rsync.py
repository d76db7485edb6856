"""rsync in daemon mode, which wants a socket."""

from __future__ import annotations

import os
import random
import subprocess

from tests.support.programs.recipes import Kitchen
from tests.support.servers import PATIENCE


def test_rsync(kitchen: Kitchen) -> None:
    """Down and up again; the program that was started serves, and nobody goes into the background."""
    sent, place = random.Random(1).randbytes(3_000_000), kitchen.place
    for name in ("files", "up"):
        (place / name).mkdir()
        (place / name).chmod(0o777)
    (place / "files/big").write_bytes(sent)
    (place / "rsyncd.conf").write_text(
        f"use chroot = no\npid file = {place}/pid\nlog file = /dev/null\n"
        f"[files]\npath = {place}/files\n[up]\npath = {place}/up\nread only = no\n"
    )
    with kitchen.serve("rsync", {"/etc/rsyncd.conf": place / "rsyncd.conf"}) as server:
        client = f"openssl s_client -quiet -verify_quiet -verify_return_error -CAfile {kitchen.ca}"
        env = {
            "PATH": os.environ["PATH"],
            "RSYNC_CONNECT_PROG": f"{client} -connect 127.0.0.1:{server.port} -servername %H",
        }
        for words in (("rsync://localhost/files/", "got/"), ("got/big", "rsync://localhost/up/")):
            subprocess.run(["rsync", "-r", *words], env=env, check=True, timeout=PATIENCE, cwd=place)
        assert not (place / "pid").exists()
    assert (place / "up/big").read_bytes() == sent
