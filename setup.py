"""Puts the handlers into the wheel as `boxdrop/deployables/functions`; everything else is in pyproject.toml.

A top-level package named `functions` would overwrite, or be overwritten by, any other of this common name.
See docs/decisions/070-what-a-wheel-holds.md.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithHandlers(build_py):
    """Also copies `functions/`, in a build that is not editable."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for path in sorted(Path("functions").rglob("*.py")):
            target = Path(self.build_lib, "boxdrop", "deployables", path)
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))


setup(cmdclass={"build_py": BuildWithHandlers})
