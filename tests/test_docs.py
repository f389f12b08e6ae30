"""What the docs promise is what the code has."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from django.core.management import get_commands, load_command_class

import feedback_site

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
COMMANDS = sorted(
    {
        command.strip()
        for file in DOCS
        for command in re.findall(r"python manage\.py ([^`\n]+)", file.read_text())
    }
)


def settings_read_from_the_environment() -> set[str]:
    source = (ROOT / "feedback_site" / "settings.py").read_text()
    return set(re.findall(r"env\.\w+\(\s*\"([A-Z_]+)\"", source))


def settings_in_the_readme() -> set[str]:
    table = README.split("## Settings")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE))


def test_every_setting_stands_in_the_readme_and_no_other():
    assert settings_in_the_readme() == settings_read_from_the_environment()


def test_there_are_at_most_25_settings():
    assert 5 < len(settings_in_the_readme()) <= 25


def test_the_version_is_the_first_of_the_changelog():
    first = re.search(r"^## v(\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first and first.group(1) == feedback_site.__version__


def paths_of_the_annotated_tree() -> list[Path]:
    """Each line of the tree: names, then three spaces or more, then what they are."""
    tree = README.split("## The house")[1].split("```")[1]
    folders: list[tuple[int, Path]] = [(-1, ROOT)]
    found = []
    for line in filter(str.strip, tree.splitlines()):
        indent = len(line) - len(line.lstrip())
        while folders[-1][0] >= indent:
            folders.pop()
        parent = folders[-1][1]
        names = re.split(r"\s{3,}", line.strip())[0].split()
        found += [parent / name for name in names]
        if names[0].endswith("/"):
            folders.append((indent, parent / names[0]))
    return found


def test_everything_in_the_annotated_tree_exists():
    assert not [path for path in paths_of_the_annotated_tree() if not path.exists()]


def test_every_room_is_in_the_annotated_tree():
    rooms = {
        file.parent
        for package in ("feedback_site", "annotate", "rlhf")
        for file in (ROOT / package).rglob("__init__.py")
        if not {"migrations", "management"} & set(file.parts)
    }
    assert len(rooms) > 30
    missing = rooms - set(paths_of_the_annotated_tree())
    assert not sorted(str(room.relative_to(ROOT)) for room in missing)


def test_every_page_of_the_site_exists_and_every_page_is_in_its_menu():
    """The Markdown files at the root are pages beside those of docs/: see docs/site_pages.py."""
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    pages = [page for entry in menu for page in entry.values()]
    at_the_root = {page for page in pages if (ROOT / page).is_file()}
    assert {"README.md", "CONTRIBUTING.md"} <= at_the_root
    assert sorted(at_the_root) == sorted(file.name for file in ROOT.glob("*.md"))
    assert set(pages) - at_the_root == {file.name for file in (ROOT / "docs").glob("*.md")}
    assert len(pages) == len(set(pages))


@pytest.mark.parametrize("file", DOCS, ids=lambda file: file.name)
def test_every_file_that_a_page_names_exists(file):
    packages = "annotate|rlhf|feedback_site|templates|tests|benchmarks|docs|deploy"
    named = re.findall(rf"`((?:{packages})/[\w./@-]*)`", file.read_text())
    assert not [path for path in named if not (ROOT / path).exists()]


def test_every_formula_stands_where_the_page_of_algorithms_says():
    page = (ROOT / "docs" / "algorithms.md").read_text()
    said = re.findall(r"`(\w+)` in `([\w/]+\.py)`", page)
    assert len(said) > 20
    for name, path in said:
        defined = rf"^(?:def|class) {name}\b"
        assert re.search(defined, (ROOT / path).read_text(), re.MULTILINE), f"{name} in {path}"


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def anchors_of(file: Path) -> set[str]:
    """What the headings of a page are called in links to them, on GitHub as on the site."""
    text = re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("file", DOCS, ids=lambda file: file.name)
def test_every_link_into_the_repository_leads_somewhere(file):
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)]+)\)", without_code(file.read_text())):
        path, _, anchor = target.partition("#")
        page = file.parent / path if path else file
        assert page.exists(), target
        assert not anchor or anchor in anchors_of(page), target


def test_the_menu_of_the_site_asks_mkdocs_to_refuse_what_is_missing():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert settings["strict"]
    assert {*settings["validation"].values()} == {"warn"}


def test_the_site_of_the_docs_is_built(tmp_path):
    mkdocs = ROOT / ".venv-docs" / "bin" / "mkdocs"
    if not mkdocs.exists():
        pytest.skip("mkdocs has an environment of its own: make docs")
    build = [mkdocs, "build", "--site-dir", tmp_path / "site"]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(build, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    start = (tmp_path / "site" / "index.html").read_text()
    assert "people's judgement into a better language model" in start


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_docs_is_understood(command):
    name, *arguments = shlex.split(command)
    parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
    parser.called_from_command_line = False  # a word it does not know raises, and does not exit
    parser.parse_args(arguments)


def test_each_test_that_the_docs_name_exists():
    named = {
        tuple(each)
        for file in DOCS
        for each in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", file.read_text())
    }
    assert len(named) > 20
    gone = [each for each in named if f"def {each[1]}(" not in (ROOT / each[0]).read_text()]
    assert not gone
