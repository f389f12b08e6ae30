"""Rows that cannot be learnt are named with their line and reason, by rendering all of them."""

import json
import re
import subprocess
import sys

import pytest

from rlhf.learning.algorithms.check_rows import check_file
from rlhf.learning.models.folders import renderer
from rlhf.learning.models.render import Renderer
from tests.learning.conftest import ROOT, asking, write_rows

GOOD = {"prompt": asking("fig"), "completion": "sweet"}
REFUSING = (
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@pytest.fixture(scope="module")
def refusing(data_dir, tmp_path_factory):
    tokenizer = renderer(data_dir / "base").tokenizer
    tokenizer.chat_template = REFUSING
    folder = tmp_path_factory.mktemp("refusing")
    tokenizer.save_pretrained(folder)
    return Renderer(folder, 512)


def check(render, tmp_path, *rows, room=8):
    write_rows(tmp_path / "rows.jsonl", list(rows))
    return check_file(render, tmp_path / "rows.jsonl", room)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"id": 77, "prompt": asking("fig") * 2, "completion": "a"},
            "line 2, demonstration 77: .*must alternate",
        ),
        ({**GOOD, "id": "e5", "completion": " "}, "line 2, row e5: completion is empty"),
        ({"prompt": asking("fig"), "completion": "a\ud83d"}, "half a character"),
        ({"prompt": asking("fig " * 600), "completion": "a"}, "over the model's context"),
        ({"prompt": asking("fig"), "completions": ["a", "b"], "ranks": [1, float("nan")]}, "NaN"),
        (
            {
                "prompt": asking("fig"),
                "completion": "",
                "label": True,
                "finish_reasons": ["length"],
            },
            "nothing to learn",
        ),
        ({"text": " "}, "text must be a text that is not empty"),
    ],
)
def test_a_row_that_cannot_be_learnt_is_named(refusing, tmp_path, row, reason):
    found = check(refusing, tmp_path, GOOD, row, GOOD)
    assert (found.rows, found.bad) == (3, 1)
    [said] = found.reasons
    assert said.startswith("line 2")
    assert re.search(reason, said)


def test_comparisons_of_answers_that_are_alike_after_the_cut_are_counted(refusing, tmp_path):
    long = "sweet " * 30
    rows = [
        {"id": "p1", "prompt": asking("fig"), "chosen": long + "yes", "rejected": long + "no"},
        {"id": "p2", "prompt": asking("fig"), "completions": ["a", "a", "b"], "ranks": [1, 2, 3]},
    ]
    found = check(refusing, tmp_path, *rows)
    assert (found.comparisons, found.alike, found.bad) == (4, 2, 0)
    assert found.with_alike == ["line 1, ranking p1", "line 2, ranking p2"]
    assert check(refusing, tmp_path, *rows, room=64).alike == 1


def test_a_system_message_that_goes_into_the_users_is_counted(refusing, tmp_path, data_dir):
    row = {**GOOD, "prompt": [{"role": "system", "content": "Be brief."}, *asking("fig")]}
    assert check(refusing, tmp_path, row, GOOD).folded == 1
    plain = renderer(data_dir / "base")
    assert check(plain, tmp_path, row, GOOD).folded == 0


def test_it_is_asked_over_a_pipe(data_dir, tmp_path):
    write_rows(tmp_path / "rows.jsonl", [GOOD, {**GOOD, "completion": ""}])
    files = [{"path": str(tmp_path / "rows.jsonl"), "room": 8}]
    asked = {"folder": str(data_dir / "base"), "day": "2026-02-03", "files": files}
    answers = []
    for folder in (asked["folder"], str(tmp_path)):
        ended = subprocess.run(
            [sys.executable, "-m", "rlhf.learning.algorithms.check_rows"],
            input=json.dumps({**asked, "folder": folder}),
            capture_output=True, text=True, check=True, cwd=ROOT,
        )  # fmt: skip
        answers.append(json.loads(ended.stdout))
    read, refused = answers
    assert read["refused"] == "" and read["files"][0]["bad"] == 1
    assert "not a model folder" in refused["refused"] and refused["files"] == []
