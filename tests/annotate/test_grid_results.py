"""What a grid shows once it is answered, and what is made of it."""

import csv
import io
import json
import re
import time

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.labelling.queue import next_assignment, rank_grid
from annotate.labels.agreement import wilson
from annotate.models import Completion, Grid, Placement, Policy, Ranking, Task
from annotate.playground.grids import Column
from annotate.playground.outcome import Measured
from tests.annotate.grids import HOME, answer, answer_all, grid

__all__ = ["grid"]


def test_a_column_has_the_mean_of_each_check_with_its_interval(browse, olga, project, live):
    column = {"weights": live.pk}
    grid = Grid.lay_out(
        project=project,
        author=olga,
        prompts=["a", "b", "c", "d"],
        columns=[Column(**column), Column(**column, system_prompt="x")],
        checks="contains(egg)",
        samples=2,
    )
    for cell in grid.cells.filter(column=0).exclude(row=3):
        cell.answer(text="egg" if cell.row or cell.sample else "no", finish_reason="stop")
    first, second = Measured(grid).outcomes()
    [mean] = first.means
    assert (mean.value, mean.rows) == (pytest.approx(2.5 / 3), 3)
    assert (mean.low, mean.high) == pytest.approx(wilson(2.5 / 3, 3))
    assert (first.answered, second.means) == (6, [])
    page = browse(olga).get(f"{HOME}{grid.pk}/").text
    assert "83%" in page


def test_rows_are_sorted_and_filtered(browse, olga, grid):
    Grid.objects.update(checks="length(1-3)")
    grid.refresh_from_db()
    answer(grid, 0, 0, "one two three four")
    answer(grid, 0, 1, "one two")
    answer(grid, 1, 0, "rice")

    def order(**asked):
        page = browse(olga).get(f"{HOME}{grid.pk}/", asked).text
        return [int(each) for each in re.findall(r'name="row" value="(\d+)"', page)]

    assert order() == [0, 1]
    assert order(sort="length", column=0, down="on") == [1, 0]
    assert order(sort="length", column=1, down="on") == [1, 0]
    assert order(show="failing") == order(show="differing") == [0]
    assert order(show="unanswered") == [1]
    assert order(words="FOUR") == [0] and order(words="what is") == [1]
    assert order(show="nonsense", sort="x", column="99", page="99") == [0, 1]
    empty = browse(olga).get(f"{HOME}{grid.pk}/", {"words": "zebra"}).text
    assert "No matching rows." in empty and "Show all 2" in empty


def test_the_progress_brings_the_cells_that_were_answered_meanwhile(browse, olga, grid):
    answer(grid, 0, 0, "An answer.")
    asked = {"rows": "0,1", "open": "cell-0-0,cell-0-1"}
    page = browse(olga).get(f"{HOME}{grid.pk}/progress/", asked).text
    assert "1 of 4 answered" in page and "An answer." in page
    assert 'id="cell-0-0"' in page and 'id="cell-1-0"' not in page
    grid.cells.cancel()
    # What somebody is typing meanwhile stays: the page is not loaded anew.
    last = browse(olga).get(f"{HOME}{grid.pk}/progress/", asked).text
    assert "1 of 4 answered." in last and "hx-get" not in last
    assert 'id="measures-0"' in last and 'id="measures-1"' in last
    assert "1 of 4 answered." not in browse(olga).get(f"{HOME}{grid.pk}/").text


def test_a_grid_is_exported(browse, olga, grid):
    Grid.objects.update(checks="contains(egg)")
    grid.refresh_from_db()
    answer(grid, 0, 0, '=1+1, "egg"')
    body = browse(olga).get(f"{HOME}{grid.pk}/answers.csv").getvalue().decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(body)))
    assert len(rows) == 4
    assert (rows[0]["score contains(egg)"], rows[1]["score contains(egg)"]) == ("1.0", "")
    assert json.loads(rows[0]["answers"]) == ['=1+1, "egg"']
    lines = browse(olga).get(f"{HOME}{grid.pk}/answers.jsonl").getvalue().decode().splitlines()
    first = json.loads(lines[0])
    assert (first["row"], first["column"], first["scores"]) == (1, 1, {"contains(egg)": 1.0})
    assert first["messages"] == [{"role": "user", "content": "How long do I boil an egg?"}]
    words = ("system_prompt", "prompt_format", "temperature", "max_new_tokens", "seed")
    assert [first[name] for name in words] == ["Be brief.", "", 0.5, 64, 0]
    assert json.loads(lines[1])["prompt_format"].startswith('"""{prompt}"""')
    assert browse(olga).get(f"{HOME}{grid.pk}/answers.xlsx").status_code == 404


def test_people_write_about_the_rows_that_are_ticked(browse, olga, project, grid):
    browse(olga).post(f"{HOME}{grid.pk}/write/", {"row": ["1"]})
    assert [task.prompt.text for task in Task.objects.all()] == ["What is rice?"]
    browse(olga).post(f"{HOME}{grid.pk}/write/")
    assert project.prompts.count() == 2, "a prompt is stored once"


def test_without_a_tick_the_rows_shown_are_meant(browse, olga, project, grid):
    client = browse(olga)
    page = client.get(f"{HOME}{grid.pk}/", {"words": "rice"}).text
    assert "the 1 shown" in page
    reply = client.post(f"{HOME}{grid.pk}/write/?words=rice")
    assert [task.prompt.text for task in Task.objects.all()] == ["What is rice?"]
    assert reply.headers["Location"] == f"{HOME}{grid.pk}/?words=rice"


@pytest.mark.parametrize("use", ["rank/", "columns/0/save/"])
def test_a_refusal_leaves_a_page_that_works(browse, olga, grid, use):
    client = browse(olga)
    page = client.post(f"{HOME}{grid.pk}/{use}?show=failing", {"name": ""})
    assert page.status_code == 422
    assert f'<form method="get" action="{HOME}{grid.pk}/"' in page.text


def test_a_name_that_is_taken_is_named(browse, olga, grid):
    client = browse(olga)
    page = client.post(f"{HOME}{grid.pk}/columns/0/save/", {"name": "cook"}).text
    assert "There is a policy “cook” already: choose another name." in page


def test_without_a_right_answer_there_is_no_score(browse, olga, grid):
    Grid.objects.update(checks="exact, readable")
    grid.refresh_from_db()
    answer(grid, 0, 0, "An answer with some words.")
    assert grid.cells.get(row=0, column=0).scores == {"readable": 1.0}
    assert (
        "exact"
        not in browse(olga).get(f"{HOME}{grid.pk}/?show=failing").text.partition("<tbody")[2]
    )


def test_a_cell_shows_all_that_was_sent(browse, olga, grid):
    answer(grid, 0, 1, "An answer.")
    page = browse(olga).get(f"{HOME}{grid.pk}/cells/0/1/").text
    assert "Sent to the model" in page and "Answer as JSON." in page


def test_people_rank_the_rows_that_are_ticked(browse, olga, grid):
    grid.save_column(0, name="brief")
    grid.save_column(1, name="JSON")
    answer_all(grid)
    browse(olga).post(f"{HOME}{grid.pk}/rank/", {"row": ["1"]})
    assert [task.prompt.text for task in Task.objects.all()] == ["What is rice?"]


def test_two_columns_are_compared_word_by_word(browse, olga, grid):
    answer(grid, 0, 0, "Boil it for eight minutes.")
    answer(grid, 0, 1, "Boil it for ten minutes.")
    page = browse(olga).get(f"{HOME}{grid.pk}/diff/").text
    assert "Boil it for <del>eight</del><ins>ten</ins> minutes." in page
    assert page.count("An answer is missing.") == 1
    page = browse(olga).get(f"{HOME}{grid.pk}/diff/", {"a": "1", "b": "0", "page": "9"}).text
    assert "<del>ten</del><ins>eight</ins>" in page and "Column 2 → Column 1" in page
    page = browse(olga).get(f"{HOME}{grid.pk}/diff/", {"a": "7", "b": "x"}).text
    assert "<del>eight</del><ins>ten</ins>" in page


def test_a_large_grid_is_shown_a_page_at_a_time(browse, olga, project, live):
    """200 × 4 answers of 700 letters: the whole page within 200 kB, by few queries."""
    columns = [Column(live.pk, system_prompt=f"{n}") for n in range(4)]
    grid = Grid.lay_out(
        project=project,
        author=olga,
        prompts=[f"Prompt {n}: " + "why " * 60 for n in range(200)],
        columns=columns,
        checks="readable, length(1-500), contains(egg)",
    )
    text = "An egg is boiled for **eight** minutes in water. " * 16
    scores = {"readable": 1.0, "length": 1.0, "contains": 1.0}
    grid.cells.update(
        state="answered", text=text, scores=scores, completion_tokens=150, total_ms=900, first_ms=90
    )
    client = browse(olga)
    client.get(f"{HOME}{grid.pk}/")
    with CaptureQueriesContext(connection) as queries:
        began = time.perf_counter()
        page = client.get(f"{HOME}{grid.pk}/", {"sort": "contains", "page": "2"})
        seconds = time.perf_counter() - began
    assert len(page.content) < 200_000
    assert len(queries) <= 20
    assert page.text.count('class="cell"') == 80
    print(f"{len(page.content)} bytes, {len(queries)} queries, {seconds * 1000:.0f} ms")


def test_a_column_becomes_a_policy_once(browse, olga, grid, live):
    client, save = browse(olga), f"{HOME}{grid.pk}/columns/0/save/"
    assert client.post(save, {"name": "cook"}).status_code == 422, "that name is taken"
    assert client.post(save, {"name": " "}).status_code == 422
    client.post(save, {"name": "brief cook"})
    client.post(save, {"name": "another name"})
    policy = Policy.objects.get(name="brief cook")
    assert (policy.parent, policy.model_name, policy.system_prompt) == (live, "cook-1", "Be brief.")
    assert Policy.objects.count() == 2
    assert Grid.objects.get().policy(0) == policy


def test_people_rank_the_answers_of_saved_columns(browse, olga, grid):
    client, rank = browse(olga), f"{HOME}{grid.pk}/rank/"
    assert b"Save every column" in client.post(rank).content
    for number, name in enumerate(["brief", "JSON"]):
        grid.save_column(number, name=name)
    assert b"No prompt has two different answers" in client.post(rank).content
    for row, column, text in (
        (0, 0, "Answer 0 0"),
        (0, 1, "Answer 0 1"),
        (1, 0, "a"),
        (1, 1, "a "),
    ):
        answer(grid, row, column, text)
    client.post(rank)
    client.post(rank)
    task = Task.objects.get()
    assert [c.text for c in task.completions.order_by("pk")] == ["Answer 0 0", "Answer 0 1"]
    assert {c.policy.name for c in task.completions.all()} == {"brief", "JSON"}
    assert all(c.sampling["grid"] == grid.pk and c.template_hash for c in task.completions.all())
    assert Completion.objects.count() == 2


def test_a_half_answered_grid_is_ranked_again_when_more_is_answered(browse, olga, project, live):
    plain = {"weights": live.pk, "temperature": 0.5, "max_new_tokens": 64}
    columns = [Column(**plain, system_prompt=words) for words in ("Be brief.", "Rhyme.", "Shout.")]
    asked = ["What is an egg?", "What is rice?"]
    grid = Grid.lay_out(project=project, author=olga, prompts=asked, columns=columns)
    for number in range(3):
        grid.save_column(number, name=f"column {number}")

    def rank_after(*cells: tuple[int, int, str]) -> list[list[str]]:
        """The texts of the open tasks, after these cells were answered and all was sent."""
        for row, column, text in cells:
            answer(grid, row, column, text)
        said = browse(olga).post(f"{HOME}{grid.pk}/rank/", follow=True).content.decode()
        assert ("Labelers already have" in said) == (not cells)
        return [
            [c.text for c in task.completions.order_by("pk")]
            for task in Task.objects.open().order_by("pk")
        ]

    assert rank_after((0, 0, "a"), (0, 1, "b")) == [["a", "b"]]
    assert rank_after() == [["a", "b"]]
    assert rank_after((1, 0, "x"), (1, 2, "z")) == [["a", "b"], ["x", "z"]]
    assert rank_after((0, 2, "c")) == [["x", "z"], ["a", "b", "c"]]
    assert rank_after() == [["x", "z"], ["a", "b", "c"]]
    assert Completion.objects.count() == 5, "an answer is stored once, however often it is sent"


def test_what_was_ranked_half_stays_ranked(project, alice, grid):
    grid.save_column(0, name="brief")
    grid.save_column(1, name="JSON")
    for column, text in enumerate(("a", "b")):
        answer(grid, 0, column, text)
    assert rank_grid(grid) == 1
    half = next_assignment(alice, project)
    for column, text in enumerate(("x", "y")):
        answer(grid, 1, column, text)
    assert rank_grid(grid) == 1
    placements = [Placement(completion_id=pk, place=n) for n, pk in enumerate(half.shown_order, 1)]
    assert not Ranking.record(assignment=half, placements=placements).late
    assert next_assignment(alice, project).task.prompt.text == "What is rice?"
