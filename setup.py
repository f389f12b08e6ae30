"""What pyproject.toml cannot say: a wheel holds packages alone, and templates, demo data, Procfile
and manage.py lie beside ours. They go in as feedback_site/home."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

BESIDE = ("Procfile", "manage.py", "templates", "demo")


class BuildPy(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        home = Path(self.build_lib) / "feedback_site" / "home"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        for name in BESIDE:
            (shutil.copytree if Path(name).is_dir() else shutil.copy)(name, home / name)


setup(cmdclass={"build_py": BuildPy})
