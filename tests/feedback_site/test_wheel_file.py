"""`pip install` of the site: all is in the wheel, and every package that it imports is named."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from configparser import ConfigParser
from importlib.metadata import packages_distributions

import pytest

from tests.house import MODULES, PACKAGES, ROOT, imports_of

BESIDE = ("Procfile", "manage.py", "templates", "demo")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy: a build leaves folders beside its source."""
    source = tmp_path_factory.mktemp("source")
    without = shutil.ignore_patterns("__pycache__")
    for name in (*PACKAGES, *BESIDE, "pyproject.toml", "setup.py", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name, **({"ignore": without} if copy is shutil.copytree else {}))
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--no-index", "--wheel-dir", str(source / "dist"), str(source)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    [file] = (source / "dist").glob("*.whl")
    return zipfile.ZipFile(file)


def files_below(*places: str) -> set[str]:
    return {
        str(file.relative_to(ROOT))
        for place in places
        for file in [ROOT / place, *(ROOT / place).rglob("*")]
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_the_wheel_holds_every_file_of_the_packages_and_what_lies_beside_them(wheel):
    names = set(wheel.namelist())
    assert files_below(*PACKAGES) <= names
    beside = files_below(*BESIDE)
    assert len(beside) > 150
    assert {f"feedback_site/home/{name}" for name in beside} <= names
    others = {name.split("/")[0] for name in names} - {*PACKAGES}
    assert all(name.endswith(".dist-info") for name in others), others


def test_the_wheel_has_the_command_feedback_site(wheel):
    [file] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    said = ConfigParser()
    said.read_string(wheel.read(file).decode())
    assert dict(said["console_scripts"]) == PYPROJECT["scripts"]


LOOKS = """
from django.conf import settings
from django.contrib.staticfiles import finders
from django.template.loader import get_template
import feedback_site
print(feedback_site.__file__)
print(settings.DATA_DIR)
print(get_template("annotate/sign_in.html").origin.name)
print(finders.find("annotate/vendor/Sortable.min.js"))
"""


def test_what_was_unpacked_from_it_finds_its_templates_and_keeps_data_where_it_is_started(
    wheel, tmp_path
):
    packages, here = tmp_path / "site-packages", tmp_path / "here"
    here.mkdir()
    wheel.extractall(packages)
    env = {name: value for name, value in os.environ.items() if name != "DATA_DIR"}
    env["PYTHONPATH"] = str(packages)
    command = (
        "import sys; from feedback_site.installation.command_line import main; sys.exit(main())"
    )

    def site(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", command, *arguments],
            cwd=here, env=env, capture_output=True, text=True,
        )  # fmt: skip

    answer = site("manage", "shell", "--no-imports", "-c", LOOKS)
    assert answer.returncode == 0, answer.stderr
    package, data_dir, template, static = answer.stdout.splitlines()
    assert data_dir == str(here / ".data")
    assert not [each for each in (package, template, static) if str(packages) not in each]
    unknown = site("sing")
    assert unknown.returncode == 2 and "feedback-site up" in unknown.stderr
    assert site("--help").returncode == 0


def names_of(requirements: list[str]) -> set[str]:
    return {_normal(re.match(r"[\w.-]+", each)[0]) for each in requirements}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# Asked for where it is missing, with a sentence that names the package.
OPTIONAL = {
    "annotate.exchange.files.data_sets": {"datasets"},
    "rlhf.management.commands.push_model": {"huggingface-hub"},
}


def test_whatever_is_imported_is_declared():
    base = names_of(PYPROJECT["dependencies"])
    train = names_of(PYPROJECT["optional-dependencies"]["train"])
    homes = packages_distributions()
    missing = set()
    for name in MODULES:
        declared = base | OPTIONAL.get(name, set())
        declared |= train if name.startswith("rlhf.learning") else set()
        roots = {each.split(".")[0] for each in imports_of(name)}
        for root in roots - sys.stdlib_module_names - {*PACKAGES}:
            if not declared & {_normal(each) for each in homes.get(root, [root])}:
                missing.add((root, name))
    assert not missing, "pyproject.toml does not name them"


def test_whatever_is_declared_is_locked():
    lock = (ROOT / "requirements.lock").read_text()
    locked = {_normal(each) for each in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    extras = PYPROJECT["optional-dependencies"]
    wanted = names_of([*PYPROJECT["dependencies"], *extras["train"], *extras["datasets"]])
    assert wanted - locked <= {"async-timeout"}  # of an older Python
