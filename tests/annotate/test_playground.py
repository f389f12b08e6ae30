"""Ways of prompting side by side: from a form to answers, to a policy, to the labelers."""

import itertools
from threading import Thread
from uuid import uuid4

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone

from annotate import jobs
from annotate.chat import inference
from annotate.connections.asked_once import LEASE
from annotate.models import Cell, Grid, Policy, Prompt
from annotate.playground.asking import AT_ONCE
from annotate.playground.grids import Column
from annotate.playground.rows import Row, as_typed, typed
from annotate.playground.rows import filled_in as filled_in_rows
from annotate.views.playground import new_grids
from rlhf.learning.contract.hyperparameters import SampledPolicy
from rlhf.learning.contract.records import Prompt as LearningPrompt
from rlhf.learning.generation.sample import template
from tests.annotate.grids import EGG, HOME, csv_file, filled_in, grid

__all__ = ["grid"]


@pytest.mark.django_db(transaction=True)
def test_a_grid_is_laid_out_and_a_worker_asks_its_cells(browse, olga, live, model_server):
    client = browse(olga)
    assert b"You are a cook." in client.get(HOME).content, "the live policy is where one begins"
    reply = client.post(
        HOME,
        filled_in(
            live,
            **{
                "c1-few_shot": "User: Hello\nAssistant: Hungry?\nYes?",
                "c1-prompt_format": "<{prompt}>",
                "checks": "readable, contains(eight|ten)",
                "seed": 7,
            },
        ),
    )
    grid = Grid.objects.get()
    assert reply.headers["Location"] == f"{HOME}{grid.pk}/"
    assert [row.text for row in grid.rows] == ["How long do I boil an egg?", "What is\n\nrice?"]
    page = client.get(f"{HOME}{grid.pk}/").content.decode()
    assert "0 of 4 answered" in page and "Stop" in page
    model_server.usage = {"prompt_tokens": 9, "completion_tokens": 4}
    assert jobs.look() == 4
    assert jobs.look() == 0
    asked = [each["messages"] for each in model_server.asked]
    assert [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hungry?\nYes?"},
        {"role": "user", "content": "<What is\n\nrice?>"},
    ] in asked
    assert {(each["temperature"], each["seed"]) for each in model_server.asked} == {(0.5, 7)}
    cell = grid.cells.get(row=1, column=1)
    assert (cell.text, cell.prompt_tokens, cell.completion_tokens) == (EGG, 9, 4)
    assert cell.scores == {"readable": 1.0, "contains": 1.0}
    assert 0 <= cell.first_ms <= cell.total_ms
    page = client.get(f"{HOME}{grid.pk}/").content.decode()
    assert EGG in page and "4 tokens" in page and "Stop" not in page
    assert "<strong>eight</strong>" in client.get(f"{HOME}{grid.pk}/cells/1/1/").content.decode()
    again = client.get(f"{HOME}?grid={grid.pk}").content.decode()
    assert "Hungry?" in again and "&lt;{prompt}&gt;" in again


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"prompts": " \n---\n "}, "Write at least one prompt."),
        ({"prompts": "\n---\n".join(["a"] * 201)}, "That is 201 prompts. Use at most 200."),
        ({"prompts": "a\n+++\n"}, "A turn is empty"),
        ({"checks": "contain(a)"}, "there is no check"),
        ({"words": "nobody said this"}, "No prompt of this project contains that."),
        ({"words": '""'}, "There is nothing to search for."),
        ({"samples": "11"}, "less than or equal to 10"),
        ({"table": csv_file("a")}, "at least one line below it"),
        ({"table": csv_file("a,a\n1,2")}, "same name"),
        ({"table": csv_file("a b\n1")}, "cannot be the name of a column"),
        ({"table": csv_file("a,b\n1")}, "Line 2 of the table has 1 cells"),
        ({"table": csv_file("a\n1"), "prompts": ""}, "such as {a}"),
        ({"table": csv_file("a\n1"), "prompts": "{b}"}, "The table lacks the column “b”."),
        ({"table": csv_file("a\n" + "1\n" * 101)}, "That is 202 rows."),
        ({"table": csv_file(b"a\n\xff")}, "not UTF-8"),
        ({"c0-weights": "", "c1-weights": ""}, "Choose the model of at least one column."),
        ({"c0-weights": 999_999}, "Select a valid choice"),
        ({"c0-prompt_format": "no place"}, "Write {prompt} once"),
        ({"c0-prompt_format": "{prompt} {prompt}"}, "Write {prompt} once"),
        ({"c0-few_shot": "Hello"}, "Begin each turn with"),
        ({"c0-few_shot": "User: a\nUser: b"}, "Begin each turn with"),
        ({"c0-few_shot": "User: a"}, "Begin each turn with"),
        ({"c0-few_shot": "User:\nAssistant: b"}, "An example cannot be empty"),
        ({"c0-temperature": "3"}, "less than or equal to 2"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_lost(browse, olga, live, changes, complaint):
    reply = browse(olga).post(HOME, filled_in(live, **changes))
    page = reply.content.decode()
    assert (reply.status_code, Grid.objects.count()) == (422, 0)
    assert complaint in page.replace("&quot;", '"')
    assert "Be brief." in page


@pytest.mark.django_db(transaction=True)
def test_a_server_that_fails_leaves_cells_to_be_asked_again(browse, olga, grid, model_server):
    model_server.status = 500
    assert jobs.look() == 4
    assert set(grid.cells.values_list("state", flat=True)) == {"failed"}
    page = browse(olga).get(f"{HOME}{grid.pk}/").content.decode()
    assert "4 of 4 answers are missing" in page and inference.FAILED in page
    model_server.status = 200
    assert jobs.look() == 0, "nobody asks a second time unbidden"
    browse(olga).post(f"{HOME}{grid.pk}/cells/0/1/")
    assert jobs.look() == 1
    assert grid.cells.get(row=0, column=1).text == EGG
    browse(olga).post(f"{HOME}{grid.pk}/resume/")
    assert jobs.look() == 3
    assert len(model_server.asked) == 8


@pytest.mark.django_db(transaction=True)
def test_a_server_that_is_away_is_not_called_for_every_cell(grid, settings):
    settings.INFERENCE_URL = "http://127.0.0.1:9/v1"
    assert jobs.look() <= AT_ONCE
    assert set(grid.cells.values_list("state", "trouble")) == {("failed", inference.NOT_ANSWERING)}


@pytest.mark.django_db(transaction=True)
def test_a_busy_server_is_asked_later(grid, model_server):
    model_server.fails_first = [503]
    assert jobs.look() == 5
    assert set(grid.cells.values_list("state", flat=True)) == {"answered"}


def test_what_is_stopped_is_not_asked(browse, olga, grid):
    said = browse(olga).post(f"{HOME}{grid.pk}/cancel/", follow=True).content.decode()
    assert "Stopped. 4 answers were not asked for." in said
    assert jobs.look() == 0
    assert set(grid.cells.values_list("state", flat=True)) == {"cancelled"}


def test_a_cell_of_a_dead_worker_is_not_asked_again_by_itself(browse, olga, grid):
    cell = grid.cells.all().claim(uuid4())
    Cell.objects.update(leased_until=timezone.now() - LEASE)
    grid.cells.cancel()
    assert jobs.look() == 0
    cell.refresh_from_db()
    assert cell.state == "interrupted"
    assert "The worker stopped" in browse(olga).get(f"{HOME}{grid.pk}/").content.decode()
    assert cell.answer(text="Late, but here.", finish_reason="stop"), "it was not dead after all"
    grid.cells.update(state="interrupted")
    grid.cells.ask_again()
    assert not cell.answer(text="Too late.", finish_reason="stop"), "somebody else asks it now"


@pytest.mark.django_db(transaction=True)
def test_no_two_workers_claim_the_same_cell(grid):
    claimed = []

    def work():
        while cell := grid.cells.all().claim(uuid4()):
            claimed.append(cell.pk)
        connection.close()

    workers = [Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(claimed) == sorted(grid.cells.values_list("pk", flat=True))


@pytest.mark.django_db(transaction=True)
def test_the_user_goes_on_after_the_models_own_answer(browse, olga, project, live, model_server):
    rows = typed("Think of a word.\n+++\nIs there an E?\n\n+++\nAn A?\n---\nHello\n\n\n there")
    assert [row.text for row in rows][1] == "Hello\n\n\n there", "empty lines stay"
    grid = Grid.lay_out(project=project, author=olga, prompts=rows[:1], columns=[Column(live.pk)])
    assert jobs.look() == 1
    asked = [[turn["content"] for turn in each["messages"]] for each in model_server.asked]
    assert asked[2] == ["Think of a word.", EGG, "Is there an E?", EGG, "An A?"]
    cell = grid.cells.get()
    assert (cell.between, cell.text) == ([EGG, EGG], EGG)
    page = browse(olga).get(f"{HOME}{grid.pk}/cells/0/0/").content.decode()
    assert page.index("Think of a word.") < page.index("Is there an E?") < page.index("An A?")


def guesser(letters):
    """A model that guesses these letters, one an answer, and says nothing else."""

    def guess(request):
        said = sum(turn["role"] == "assistant" for turn in request["messages"])
        return f"I guess the letter {letters[said]}." if said < len(letters) else "Nothing"

    return guess


@pytest.mark.django_db(transaction=True)
def test_a_policy_plays_hangman_against_the_site(browse, olga, live, model_server):
    """It finds “egg” by g and e, and no letter of “rhythm”, which it loses after six."""
    live.few_shot = []
    live.save()
    client = browse(olga)
    asked = {"partner": "hangman", "checks": "length(1-9)", "c1-weights": ""}
    refused = client.post(HOME, filled_in(live, prompts="two words", **asked)).text
    assert "each prompt is a word" in refused
    client.post(HOME, filled_in(live, prompts="egg\n---\nrhythm", **asked))
    grid = Grid.objects.get()
    model_server.says_to = guesser("AGEIOUBC")
    assert jobs.look() == 2
    won, lost = grid.cells.all()
    assert won.scores == {"hangman": 1.0, "length": 1.0}
    said = [f"I guess the letter {each}." for each in "AGE"]
    assert [*won.between, won.text] == said
    assert won.turns[0].startswith("No, there is no “a”.\n_ _ _\nYou may guess wrong 5 more times.")
    assert won.turns[1].startswith("Yes, there is “g”.\n_ g g\n")
    assert (lost.scores["hangman"], len(lost.turns)) == (0.0, 5)
    assert len(model_server.asked) == 9
    page = client.get(f"{HOME}{grid.pk}/cells/0/0/").text
    assert page.index("_ _ _") < page.index("_ g g") < page.index("I guess the letter E.")
    assert 'value="hangman" selected' in client.get(f"{HOME}?grid={grid.pk}").text
    client.post(f"{HOME}?grid={grid.pk}", filled_in(live, prompts="", rows_of="on", **asked))
    assert Grid.objects.latest("pk").asked == grid.asked, "the same words are played again"
    grid.store_prompts()
    assert not Prompt.objects.exclude(reference="").exists(), "a word is no answer to learn from"


@pytest.mark.django_db(transaction=True)
def test_a_policy_plays_the_user(browse, olga, project, live, model_server):
    guest = Policy.objects.create(
        project=project,
        name="guest",
        origin=Policy.Origin.PROMPTED,
        model_name="cook-2",
        system_prompt="You are a hungry guest.",
    )
    said = iter(["And for two?", "END."])
    model_server.says_to = lambda asked: EGG if asked["model"] == "cook-1" else next(said)
    asked = {"prompts": "How long?", "partner": guest.pk, "turns": "5", "c1-weights": ""}
    browse(olga).post(HOME, filled_in(live, **asked))
    assert jobs.look() == 1
    cell = Grid.objects.get().cells.get()
    assert (cell.turns, cell.between, cell.text) == (["And for two?"], [EGG], EGG)
    heard = model_server.asked[-1]["messages"]
    assert [turn["role"] for turn in heard] == ["system", *["user", "assistant"] * 2, "user"]
    assert heard[0]["content"] == "You are a hungry guest."


@pytest.mark.django_db(transaction=True)
def test_an_answer_is_seen_while_it_comes(browse, olga, grid, model_server, monkeypatch):
    monkeypatch.setattr("annotate.playground.asking.TELL_SECONDS", 0.0)
    grid.cells.exclude(row=0, column=0).delete()
    model_server.waits = True
    worker = Thread(target=jobs.look)
    worker.start()
    asked = {"rows": "0", "open": "cell-0-0,cell-0-1"}
    page = ""
    while "Boil it" not in page and worker.is_alive():
        page = browse(olga).get(f"{HOME}{grid.pk}/progress/", asked).text
    assert "Is answering" in page and "eight" not in page
    model_server.go_on.set()
    worker.join()
    assert grid.cells.get().text == EGG
    grid.cells.update(state="interrupted")
    grid.cells.all().ask_again()
    assert grid.cells.get().text == "", "what is asked again begins anew"


def test_a_policy_lends_its_words_and_settings(browse, olga, live, project):
    live.prompt_format = "<{prompt}>"
    live.save(update_fields=["prompt_format"])
    sent = filled_in(live, **{"c1-system_prompt": "", "own": "1"})
    reply = browse(olga).post(HOME, sent)
    assert (reply.status_code, Grid.objects.count()) == (200, 0)
    first, second = reply.context["columns"]
    assert first["system_prompt"].value() == sent["c0-system_prompt"], "the others stay"
    assert second["system_prompt"].value() == "You are a cook."
    assert second["prompt_format"].value() == "<{prompt}>"
    assert second["max_new_tokens"].value() == 64


def test_another_column_begins_like_the_last(browse, olga, live):
    reply = browse(olga).post(HOME, filled_in(live, **{"c1-temperature": 0.1, "another": "1"}))
    *_, last = reply.context["columns"]
    assert (last["weights"].value(), last["temperature"].value()) == (str(live.pk), "0.1")


def test_a_table_outlives_a_form_that_is_shown_again(browse, olga, live):
    client = browse(olga)
    asked = filled_in(live, prompts="How long does {dish} take?")
    shown = client.post(HOME, asked | {"table": csv_file("dish\nrice\nan egg"), "another": "1"})
    assert "The table of" in shown.text and 'name="uses_kept" checked' in shown.text
    kept = {"kept": shown.context["form"].kept_table, "uses_kept": "on"}
    assert client.post(HOME, asked | kept).status_code == 302
    assert [row.text for row in Grid.objects.get().rows] == [
        "How long does rice take?",
        "How long does an egg take?",
    ]
    client.post(HOME, asked | {"kept": kept["kept"]})  # the box is not ticked
    assert [row.text for row in Grid.objects.first().rows] == ["How long does {dish} take?"]


def test_a_name_without_a_table_is_asked_as_it_is_and_said(browse, olga, live):
    page = browse(olga).post(HOME, filled_in(live, prompts="Cook {dish}."), follow=True).text
    assert "“{dish}” was asked as it is" in page


def test_variables_in_the_words_of_a_column_are_refused(browse, olga, live):
    words = {"c1-prompt_format": "In {n} words: {prompt}"}
    asked = filled_in(live, prompts="What is {dish}?", table=csv_file("dish,n\nrice,3"), **words)
    reply = browse(olga).post(HOME, asked)
    assert reply.status_code == 422 and "“{n}” is a column of the table" in reply.text
    assert not Grid.objects.exists()


def test_rows_that_are_asked_again_are_not_filled_in_again(browse, olga, live):
    client = browse(olga)
    table = "dish,reference\nrice,20\neggs,8"
    client.post(HOME, filled_in(live, prompts="Time of {dish}?", table=csv_file(table)))
    first = Grid.objects.get()
    asked = filled_in(live, prompts="Place of {dish}?", table=csv_file(table), rows_of="on")
    assert client.post(f"{HOME}?grid={first.pk}", asked).status_code == 302
    rows = [(row.text, row.reference) for row in Grid.objects.first().rows]
    assert rows == [
        ("Place of rice?", "20"),
        ("Place of eggs?", "8"),
        ("Time of rice?", "20"),
        ("Time of eggs?", "8"),
    ]


def test_right_answers_are_typed_and_come_back_as_they_were(browse, olga, live):
    client = browse(olga)
    client.post(HOME, filled_in(live, prompts="2 + 2?\n== 4\n---\nA\n+++\nB\n== b b\n---\n== x"))
    grid = Grid.objects.get()
    assert [(row.text, row.reference) for row in grid.rows] == [
        ("2 + 2?", "4"),
        ("A\n+++\nB", "b b"),
        ("== x", ""),
    ]
    again = client.get(f"{HOME}?grid={grid.pk}")
    assert again.context["form"]["prompts"].value() == as_typed(grid.rows)


@pytest.mark.parametrize(
    "row", [Row.saying("a", reference="x\ny"), Row.saying("---"), Row.saying("a\n== b")]
)
def test_what_would_not_be_read_back_is_not_typed(row):
    assert not row.is_plain


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_other_programs_are_read(separator):
    table = "dish,minutes\nrice,20".replace(",", separator)
    [row] = filled_in_rows([Row.saying("{dish}: {minutes}?")], table, at_most=9)
    assert row.text == "rice: 20?"


def test_earlier_grids_are_found_by_pages(browse, olga, live, monkeypatch):
    monkeypatch.setattr(new_grids, "EARLIER_SHOWN", 1)
    client = browse(olga)
    for prompt in ("First?", "Second?"):
        client.post(HOME, filled_in(live, prompts=prompt))
    assert "Second?" in client.get(HOME).text and "First?" in client.get(f"{HOME}?page=2").text


def test_rows_come_from_a_table_and_from_the_project(browse, olga, live, project):
    project.prompts.create(
        messages=[*EXAMPLE, {"role": "user", "content": "And an egg?"}], reference="Eight"
    )
    project.prompts.create(messages=[{"role": "user", "content": "Rice?"}])
    table = csv_file('dish,reference\n"Egg, soft",4\nRice,18\n')
    form = filled_in(live, prompts='How long does {dish} take? {"a": 1}', words="egg", table=table)
    assert browse(olga).post(HOME, form).status_code == 302
    rows = Grid.objects.get().rows
    assert [(row.text, row.reference) for row in rows] == [
        ('How long does Egg, soft take? {"a": 1}', "4"),
        ('How long does Rice take? {"a": 1}', "18"),
        ("And an egg?", "Eight"),
    ]
    assert rows[2].messages[:2] == EXAMPLE
    again = browse(olga).get(f"{HOME}?grid={Grid.objects.get().pk}").content.decode()
    assert "The 3 rows of" in again
    form = filled_in(live, prompts="One more", rows_of="on")
    browse(olga).post(f"{HOME}?grid={Grid.objects.get().pk}", form)
    assert len(Grid.objects.first().rows) == 4


def test_more_columns_are_added_without_losing_what_was_written(browse, olga, live):
    page = browse(olga).post(HOME, filled_in(live, another="1"))
    assert (page.status_code, Grid.objects.count()) == (200, 0)
    assert "Column 3" in page.text and "Be brief." in page.text
    many = {f"c{i}-temperature": "0.1" for i in range(10)}
    assert "Add a column" not in browse(olga).post(HOME, {**many, "another": "1"}).text


def test_a_grid_has_no_more_cells_than_can_be_asked(project, olga, live):
    columns = [Column(live.pk)] * 10
    with pytest.raises(ValidationError, match="That is 6,000 answers"):
        Grid.lay_out(project=project, author=olga, prompts=["a"] * 200, columns=columns, samples=3)


@pytest.mark.parametrize("place", ["cells/2/0/", "cells/0/2/", "columns/2/save/"])
def test_a_place_outside_the_grid_is_not_there(browse, olga, grid, place):
    assert browse(olga).post(f"{HOME}{grid.pk}/{place}").status_code == 404


@pytest.mark.parametrize("actor", ["alice", "gus"])
def test_the_playground_is_the_operators(browse, request, project, actor):
    assert browse(request.getfixturevalue(actor)).get(HOME).status_code == 403


def test_a_grid_of_another_project_is_not_there(browse, mallory, grid):
    for address in (f"{HOME}{grid.pk}/", f"/p/elsewhere/playground/{grid.pk}/"):
        assert browse(mallory).get(address).status_code == 404
    assert browse(mallory).get(f"/p/elsewhere/playground/?grid={grid.pk}").status_code == 404


EXAMPLE = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
WORDS = [*itertools.product(("", "Be brief."), ([], EXAMPLE), ("", "<{prompt}>"))]
CONVERSATIONS = [
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello {prompt}"}],
    [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": "Three"},
    ],
]


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_the_sampler_puts_a_prompt_in_the_same_words_as_the_chat(words, conversation):
    """Two programs that may not know each other send the model the same messages."""
    named = dict(zip(("system_prompt", "few_shot", "prompt_format"), words, strict=True))
    asked = LearningPrompt("1", tuple(conversation))
    assert [*template(SampledPolicy(**named), asked)] == Policy(**named).messages_for(conversation)


def test_the_prompt_format_changes_the_template_hash():
    assert Policy(prompt_format="<{prompt}>").template_hash != Policy().template_hash
