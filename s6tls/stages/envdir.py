"""The stage of s6-envdir: environment variables from the files of a directory."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from s6tls.accessrules import envdir
from s6tls.accessrules.text import shown
from s6tls.posix.exitcodes import ExitCode
from s6tls.stages.preparation import Preparation
from s6tls.ucspi.image import Image, StageExit

_LARGEST_VALUE = 2**20
"""With -L: more than any kernel takes for one variable (128 KiB on Linux), and a bound all the same."""


@dataclass(frozen=True)
class EnvDir:
    """Apply a directory in envdir format.

    With `loose` the directory may be missing.  `verbatim` takes whole files instead of first lines.  `chomp`
    removes trailing blanks, or the last newline of a verbatim file.  `clamp` reads the first 4095 bytes only.
    `nul` replaces each NUL byte, and must be one character.
    """

    path: bytes
    loose: bool = False
    verbatim: bool = False
    chomp: bool = True
    clamp: bool = True
    nul: bytes = b"\n"
    program: str = "s6-envdir"

    def prepare(self, preparation: Preparation) -> None:
        """Apply it for all clients.  Raises StageExit (111)."""
        self.apply(Image(preparation.env, []))

    def apply(self, image: Image) -> None:
        """Raise StageExit (111) when the directory or a file cannot be read."""
        try:
            directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if self.loose and isinstance(error, FileNotFoundError):
                return
            raise self._unable(error) from error
        try:
            self._apply(image, directory)
        except OSError as error:
            raise self._unable(error) from error
        finally:
            os.close(directory)

    def _apply(self, image: Image, directory: int) -> None:
        if not self.nul:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        limit = envdir.MAX_FILE if self.clamp else _LARGEST_VALUE
        for name in sorted(map(os.fsencode, os.listdir(directory))):
            if envdir.ignored(name):
                continue
            contents = envdir.read_file(name, directory, limit)
            if contents:
                image.env[name] = self._value(contents)
            else:
                image.env.pop(name, None)

    def _value(self, contents: bytes) -> bytes:
        if self.verbatim:
            value = contents.removesuffix(b"\n") if self.chomp else contents
        else:
            value = contents.partition(b"\n")[0]
            value = value.rstrip(b" \t\r") if self.chomp else value
        return value.replace(b"\0", self.nul)

    def _unable(self, error: OSError) -> StageExit:
        return StageExit(self.program, ExitCode.SYSTEM, f"unable to envdir {shown(self.path)}: {error.strerror}")
