"""Exports whose first rows say less than later ones are loaded by `datasets` in each format, and
TRL's trainers take them as they are. benchmarks/exports.py does the same with more than 10 MB."""

import json

import pytest

from annotate.exchange.exports.exporting import lines
from benchmarks.exports import FORMATS, TRAINERS, fill, loaded, one_step
from rlhf.learning.models import base

pytestmark = pytest.mark.django_db
KINDS = sorted({*TRAINERS.values(), "rankings"})
CHUNK = {"jsonl": 8000, "csv": 8}  # bytes; rows: what the loader looks at first
ROWS = 60


@pytest.fixture
def grown(project, olga):
    """A project of which only the last labels have tags, versions, comments."""
    fill(project, olga, ROWS)
    return project


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_late_loads_in_each_format(kind, format, grown, tmp_path):
    suffix = format.rpartition(" ")[2]
    options = {"chunksize": CHUNK[suffix]} if suffix in CHUNK else {}
    found = loaded(grown, kind, format, tmp_path, **options)
    exported = [json.loads(line) for line in lines(grown, kind)]
    assert len(found) == len(exported)
    for name in {"source", "comment", "tags", "guideline_version", "ratings"} & exported[0].keys():
        here = [as_cell(line[name]) if "csv" in format else line[name] for line in exported]
        assert sorted(map(json.dumps, found[name])) == sorted(map(json.dumps, here))


def as_cell(value):
    """As a table has it: an empty text is nothing, and a number may have to stand beside that."""
    if isinstance(value, list):
        return json.dumps(value)
    return float(value) if isinstance(value, int) else value or None


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    place = tmp_path_factory.mktemp("base")
    corpus = place / "corpus.jsonl"
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "It is so."}]
    corpus.write_text(json.dumps({"prompt": turns[:1], "completion": turns[1:]}) + "\n")
    before, base.PRETRAIN_STEPS = base.PRETRAIN_STEPS, 2
    base.prepare("tiny", place / "tiny", corpus)
    base.PRETRAIN_STEPS = before
    return place / "tiny"


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_trainer_takes_a_step_on_what_the_page_exports(trainer, grown, tiny, tmp_path):
    rows = loaded(grown, TRAINERS[trainer], "jsonl", tmp_path, chunksize=CHUNK["jsonl"])
    loss = one_step(trainer, rows, tiny, tmp_path / "out")
    assert loss == loss  # a number
