"""What pyproject.toml cannot say: each build makes manual pages and completion from docs/, and puts them in share/."""

import glob
import os
import shutil
import subprocess
import sys

from setuptools import Command, setup
from setuptools.command.build import build


class BuildManual(Command):
    """Run the two tools; what they write is data of the distribution."""

    def initialize_options(self) -> None:
        self.build_base: str | None = None
        self.editable_mode = False

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_base", "build_base"))

    def run(self) -> None:
        assert self.build_base is not None
        share = os.path.join(self.build_base, "share")
        shutil.rmtree(share, ignore_errors=True)
        for tool, directory in (("man-pages", os.path.join(share, "man")), ("completions", share)):
            subprocess.run([sys.executable, os.path.join("tools", tool), directory], check=True)
        self.distribution.data_files = [
            (os.path.relpath(directory, self.build_base), sorted(glob.glob(f"{directory}/*")))
            for directory, _, files in os.walk(share)
            if files
        ]

    def get_source_files(self) -> list[str]:
        return sorted(glob.glob("docs/*.md"))

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class Build(build):
    """The usual build, and the manual."""

    sub_commands = [*build.sub_commands, ("build_manual", None)]  # noqa: RUF012  # as setuptools has it


setup(cmdclass={"build": Build, "build_manual": BuildManual})
