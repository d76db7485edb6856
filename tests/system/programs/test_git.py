"""git, by its own protocol and through a CGI program, with a client's certificate as its user."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.programs.recipes import Kitchen
from tests.support.servers import PATIENCE, Server
from tests.support.site import Pair


class Git:
    """A repository of the kitchen's, and a user of it."""

    def __init__(self, kitchen: Kitchen) -> None:
        self._kitchen, place = kitchen, kitchen.place
        self.place = place / "home"
        self.place.mkdir()
        self.run("init", "-q", "--bare", "--initial-branch=main", str(place / "srv/repo.git"))
        (place / "srv/repo.git/git-daemon-export-ok").touch()
        self.run("init", "-q", "--initial-branch=main", "work")
        self.commit("first", "work")
        self.run("-C", "work", "push", "-q", str(place / "srv/repo.git"), "main")

    def commit(self, text: str, tree: str) -> None:
        self.run("-C", tree, "commit", "-q", "--allow-empty", "-m", text)

    def run(self, *words: str) -> str:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.place),
            "GIT_CONFIG_NOSYSTEM": "1",
            **{f"GIT_{who}_{what}": "me@host.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }
        done = subprocess.run(
            ["git", *words], cwd=self.place, env=env, capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        return done.stdout


@pytest.fixture
def git(kitchen: Kitchen) -> Git:
    return Git(kitchen)


def test_git_daemon(kitchen: Kitchen, git: Git) -> None:
    script = kitchen.script("git daemon")
    proxy = kitchen.write("tls-proxy", script.replace('"OPENSSL:$1:$2"', f'"OPENSSL:$1:$2,cafile={kitchen.ca}"'))
    with kitchen.serve("git daemon", {"/srv/git": kitchen.place / "srv"}) as server:
        git.run("-c", f"core.gitProxy={proxy}", "clone", "-q", f"git://localhost:{server.port}/repo.git", "copy")
        server.wait_log(r"^\[[0-9]+\] Connection from 127\.0\.0\.1:[0-9]+$")
    assert git.run("-C", "copy", "log", "--format=%s") == "first\n"


def cgi(kitchen: Kitchen, server: Server, pair: Pair | None = None) -> tuple[str, ...]:
    """Return the options of git for the server, for a client with this certificate."""
    options = {"sslCAInfo": kitchen.ca} | ({"sslCert": pair.certificate, "sslKey": pair.key} if pair else {})
    return tuple(word for name, value in options.items() for word in ("-c", f"http.{name}={value}"))


def test_git_http_backend(kitchen: Kitchen, git: Git) -> None:
    """Everybody may read; who has a certificate may write, and has its name."""
    heading = "git over HTTPS, and CGI"
    kitchen.write("www/cgi-bin/git", kitchen.script(heading))
    replacing = {"/srv/git": kitchen.place / "srv", "/var/www": kitchen.place / "www"}
    env = {"CAFILE": kitchen.ca, "HOME": str(kitchen.place)}
    (kitchen.place / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    with kitchen.serve(heading, replacing, env) as server:
        url = f"https://localhost:{server.port}/cgi-bin/git/repo.git"
        git.run(*cgi(kitchen, server), "clone", "-q", url, "copy")
        git.commit("second", "copy")
        with pytest.raises(subprocess.CalledProcessError):
            git.run(*cgi(kitchen, server), "-C", "copy", "push", "-q")
        alice = kitchen.site.authority.issue("alice.example")
        git.run(*cgi(kitchen, server, alice), "-C", "copy", "push", "-q")
    assert git.run("-C", str(Path(kitchen.place, "srv/repo.git")), "log", "--format=%s") == "second\nfirst\n"
