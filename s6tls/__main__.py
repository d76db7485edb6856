"""``python -m s6tls``: the commands, each with a line about it."""

from __future__ import annotations

import ast
import os
import pkgutil
from collections.abc import Iterator
from typing import NoReturn

from s6tls import cli
from s6tls.cli.frame.options import Synopsis
from s6tls.cli.frame.program import run


def commands() -> Iterator[tuple[str, str]]:
    """Yield each command's name, and what it is for: the first line of its module says both."""
    for finder, name, is_package in pkgutil.iter_modules(cli.__path__):
        if is_package or name == "start":
            continue
        with open(os.path.join(finder.path, f"{name}.py"), encoding="utf-8") as file:  # type: ignore[union-attr]
            about = ast.get_docstring(ast.parse(file.read())) or ""
        command, _, purpose = about.partition("\n")[0].partition(": ")
        yield command, purpose.removesuffix(".")


def main() -> NoReturn:
    """List the commands."""
    synopsis = Synopsis("s6tls", (), "", tuple(commands()))
    run(synopsis, lambda argv: _list(synopsis, argv))


def _list(synopsis: Synopsis, argv: list[bytes]) -> int:
    synopsis.read(argv)
    os.write(1, "".join(f"{name:27} {about}\n" for name, about in synopsis.commands).encode())
    return 0


if __name__ == "__main__":
    main()
