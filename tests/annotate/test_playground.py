"""Ways of prompting side by side: from a form to answers, to a policy, to the labelers."""

import itertools

import pytest

from annotate.labelling.queue import next_assignment, rank_grid
from annotate.models import Completion, Grid, Placement, Policy, Ranking, Task
from annotate.playground.grids import Column
from rlhf.learning.contract.hyperparameters import SampledPolicy
from rlhf.learning.contract.records import Prompt as LearningPrompt
from rlhf.learning.generation.sample import template

HOME = "/p/cooking/playground/"


def filled_in(policy, **changes):
    form = {"prompts": "How long do I boil an egg?\n\nWhat is\nrice?"}
    for i, words in enumerate(["", "Be brief."]):
        form |= {
            f"c{i}-weights": policy.pk,
            f"c{i}-system_prompt": words,
            f"c{i}-temperature": 0.5,
            f"c{i}-max_new_tokens": 64,
        }
    return form | changes


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


def answer_all(grid):
    for row, column in itertools.product(range(2), range(2)):
        grid.answer(row, column, text=f"Answer {row} {column}", finish_reason="stop")


def test_a_grid_is_laid_out_and_its_cells_ask_the_model_server(browse, olga, live, model_server):
    client = browse(olga)
    assert b"You are a cook." in client.get(HOME).content, "the live policy is where one begins"
    reply = client.post(
        HOME,
        filled_in(
            live,
            **{
                "c1-few_shot": "User: Hello\nAssistant: Hungry?\nYes?",
                "c1-prompt_format": "<{prompt}>",
            },
        ),
    )
    grid = Grid.objects.get()
    assert reply.headers["Location"] == f"{HOME}{grid.pk}/"
    assert grid.prompts == ["How long do I boil an egg?", "What is\nrice?"]
    client.post(f"{HOME}{grid.pk}/cells/1/1/")
    assert model_server.asked[-1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hungry?\nYes?"},
        {"role": "user", "content": "<What is\nrice?>"},
    ]
    assert model_server.asked[-1]["temperature"] == 0.5
    page = client.get(f"{HOME}{grid.pk}/").content.decode()
    assert "Boil it for <strong>eight</strong> minutes." in page
    again = client.get(f"{HOME}?grid={grid.pk}").content.decode()
    assert "Hungry?" in again and "&lt;{prompt}&gt;" in again


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"prompts": " \n\n "}, "Write at least one prompt."),
        ({"prompts": "\n\n".join("abcdefghijklm")}, "That is 13 prompts. Use at most 12."),
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


def test_a_server_that_does_not_answer_leaves_the_cell_open(browse, olga, grid, model_server):
    model_server.status = 503
    cell = f"{HOME}{grid.pk}/cells/0/0/"
    reply = browse(olga).post(cell, headers={"HX-Request": "true"}).content.decode()
    assert 'role="alert"' in reply and "Try again" in reply
    assert "load" not in reply, "the page must not ask for ever"
    assert not grid.cells.exists()


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
    answer_all(grid)
    grid.answer(1, 1, text="Answer 1 0", finish_reason="stop")
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
            grid.answer(row, column, text=text, finish_reason="stop")
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
        grid.answer(0, column, text=text, finish_reason="stop")
    assert rank_grid(grid) == 1
    half = next_assignment(alice, project)
    for column, text in enumerate(("x", "y")):
        grid.answer(1, column, text=text, finish_reason="stop")
    assert rank_grid(grid) == 1
    placements = [Placement(completion_id=pk, place=n) for n, pk in enumerate(half.shown_order, 1)]
    assert not Ranking.record(assignment=half, placements=placements).late
    assert next_assignment(alice, project).task.prompt.text == "What is rice?"


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
