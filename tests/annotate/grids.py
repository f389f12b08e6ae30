"""Grids of the playground, and answers in them, for the tests of several files."""

import itertools

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from annotate.models import Grid
from annotate.playground.grids import Column

HOME = "/p/cooking/playground/"
EGG = "Boil it for **eight** minutes."


def filled_in(policy, **changes):
    form = {"prompts": "How long do I boil an egg?\n---\nWhat is\n\nrice?"}
    for i, words in enumerate(["", "Be brief."]):
        form |= {
            f"c{i}-weights": policy.pk,
            f"c{i}-system_prompt": words,
            f"c{i}-temperature": 0.5,
            f"c{i}-max_new_tokens": 64,
        }
    return form | changes


def csv_file(content):
    body = content if isinstance(content, bytes) else content.encode()
    return SimpleUploadedFile("table.csv", body)


@pytest.fixture
def grid(project, olga, live):
    plain = {"weights": live.pk, "temperature": 0.5, "max_new_tokens": 64}
    return Grid.lay_out(
        project=project,
        author=olga,
        prompts=["How long do I boil an egg?", "What is rice?"],
        columns=[
            Column(**plain, system_prompt="Be brief."),
            Column(**plain, prompt_format='"""{prompt}"""\nAnswer as JSON.'),
        ],
    )


def answer(grid, row, column, text):
    """As a worker would."""
    cell = grid.cells.get(row=row, column=column, sample=0)
    assert cell.answer(text=text, finish_reason="stop")


def answer_all(grid):
    for row, column in itertools.product(range(2), range(2)):
        answer(grid, row, column, f"Answer {row} {column}")
