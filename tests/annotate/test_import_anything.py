"""Whatever is in a file: the wizard and the command answer in words, and a refused file leaves
nothing. Long form, with as many mutated rows as are asked for:

    MUTATED_ROWS=200000 pytest tests/annotate/test_import_anything.py -k long -p no:randomly
"""

import copy
import csv
import io
import json
import os
import random
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotate.models import Project, Upload
from tests.annotate.conftest import rows
from tests.annotate.shape_rows import SHAPES

pytestmark = pytest.mark.django_db
NUMBERS = count()
FORMATS = ("jsonl", "json", "csv")
ROWS_A_FILE = 1000
MUTATED_ROWS = int(os.environ.get("MUTATED_ROWS", 0))
ODD = [
        *(None, True, False, 0, -1, 1.5, 10**30, 1e999, "", " ", "x", "\0", "\ud83d", "'=1", "1"),
        *([], {}, [None], [[]], [{}], [1, "a"], {"a": None}, {"value": 1}, "[{", "[1]"),
        "x" * 60_000,
        *([{"role": None, "content": []}], {"text": 1}, {"rank": [1]}, "tie", "left", "\r\n", "é"),
    ]  # fmt: skip
EXAMPLES = [lines for _, lines, *_ in SHAPES.values()]
OURS = [
    [{"prompt": "Which?", "completions": ["a", "b"], "ranks": [1, 2], "ratings": [1, 7],
      "flags": [[], ["opinion"]], "policies": ["x", "y"], "finish_reasons": ["stop", ""],
      "outcome": "ranked", "strength": 2, "shown_order": [1, 0], "labeler": "ann",
      "guideline_version": 1, "active_seconds": 3, "pasted_share": 0.5, "comment": "c",
      "reason": "r", "source": "s", "tags": ["t"], "simulated": False}],
    [{"prompt": "Why?", "completion": "a", "label": True, "reasons": ["too_short"], "note": "n",
      "wanted_answer": "w"}],
    [{"prompt": "Why?", "split_key": "", "written": "plain", "archived": False}],
    [{"prompt": "Why?", "completions": [{"model": "m", "content": "c"}], "reference": "r"}],
]  # fmt: skip


def places(value, at=()):
    """The way to each value inside."""
    yield at
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*at, key))


Choose = Callable[[Sequence[Any]], Any]


def mutant_of(lines: list, choose: Choose) -> list:
    """The lines, of which something is changed, gone, or has another name."""
    lines = copy.deepcopy(lines)
    for _ in range(choose([1, 2, 3])):
        *way, last = choose([each for each in places(lines) if each] or [(0,)])
        inside = lines
        for key in way:
            inside = inside[key]
        match choose(["change", "change", "drop", "rename"]):
            case "change":
                inside[last] = copy.deepcopy(choose(ODD))
            case "drop" if isinstance(inside, dict):
                del inside[last]
            case "rename" if isinstance(inside, dict):
                inside[choose(["\ud83d", "\0", "", "x" * 300, "label"])] = 1
        if not lines or not all(isinstance(line, dict) for line in lines):
            break
    return lines


@st.composite
def mutated(draw) -> list:
    """Lines of a shape, mutated."""

    def choose(values: Sequence[Any]) -> Any:
        return draw(st.sampled_from(values))

    return mutant_of(choose(EXAMPLES + OURS), choose)


def text_of(lines: list, format: str) -> bytes:
    if format == "jsonl":
        return "\n".join(map(json.dumps, lines)).encode()
    if format == "json":
        return json.dumps(lines, indent=1).encode()
    objects = [line for line in lines if isinstance(line, dict)] or [{}]
    names = [name.encode("utf-8", "replace").decode() for name in objects[0]]
    cells = [
        [v if isinstance(v, str) else json.dumps(v) for v in line.values()] for line in objects
    ]
    table = io.StringIO()
    csv.writer(table).writerows([names, *cells])
    return table.getvalue().encode("utf-8", "replace")


def all_of_it(content: bytes, name: str, at, project: Project) -> None:
    """The wizard's every page, and then the command."""
    start = f"/p/{project.slug}/prompts/import/"
    file = io.BytesIO(content)
    file.name = name
    reply = at.post(start, {"file": file})
    assert reply.status_code in (302, 422)
    if reply.status_code == 302:
        here = reply["location"]
        page = at.get(here)
        assert page.status_code == 200
        sent = {"shape": "hh_rlhf", "look": ""}
        for act in ({"check": ""}, sent, {"check": ""}, {"shape": "ours", "look": ""}):
            assert at.post(here, act).status_code in (200, 302, 422)
        assert at.get(f"{here}problems.csv").status_code == 200
        assert at.get(start).status_code == 200
        before = rows()
        brought = at.post(here, {"import": ""})
        assert brought.status_code in (302, 422)
        if brought.status_code == 422:
            assert rows() == before
            assert at.post(here, {"import": "without_bad"}).status_code in (302, 422)
            assert at.post(here, {"discard": ""}).status_code in (302, 404)
        assert not Upload.objects.exists()


def in_every_way(content: bytes, name: str, at, by, folder: Path) -> None:
    """Into a project of its own: by the wizard, and then by the command."""
    with transaction.atomic():
        project = Project.objects.create(name="P", slug=f"any{next(NUMBERS)}")
        project.memberships.create(user=by, role="operator")
        path = folder / name
        path.write_bytes(content)
        all_of_it(content, name, at, project)
        before = rows()
        try:
            call_command(
                "import_labels", str(path), "--project", project.slug, stdout=io.StringIO()
            )
        except CommandError:
            assert rows() == before
        transaction.set_rollback(True)


@pytest.mark.parametrize("format", FORMATS)
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(lines=mutated())
def test_no_row_breaks_the_wizard_or_the_command(format, lines, browse, olga, tmp_path):
    in_every_way(text_of(lines, format), f"x.{format}", browse(olga), olga, tmp_path)


@pytest.mark.parametrize("seed", range(max(3, MUTATED_ROWS // ROWS_A_FILE)))
def test_no_long_file_of_mutated_rows_breaks_them(seed, browse, olga, tmp_path):
    """Of one shape each: among rows that are fine, and with as few good ones as it may be."""
    choose = random.Random(seed).choice
    example, format = choose(EXAMPLES + OURS), FORMATS[seed % 3]
    lines = list(example)
    while len(lines) < (ROWS_A_FILE if MUTATED_ROWS else 40):
        lines += mutant_of(example, choose) if len(lines) % 5 else example
    in_every_way(text_of(lines, format), f"x.{format}", browse(olga), olga, tmp_path)


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.tsv", "x.csv.gz", "x.parquet"])
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(content=st.binary(min_size=1, max_size=60))
def test_no_bytes_break_the_wizard(name, content, browse, olga, project):
    start = b"PAR1" if name.endswith("parquet") else b"\x1f\x8b\x08" if ".gz" in name else b""
    with transaction.atomic():
        all_of_it(start + content, name, browse(olga), project)
        transaction.set_rollback(True)
