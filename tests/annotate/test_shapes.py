"""Shapes of others: what each is taken for, what comes in, and what is skipped, by reason. Nothing
that judges is dropped."""

import json

import pytest

from annotate.exchange.choices import Choices
from annotate.exchange.columns import LEFT_OUT
from annotate.exchange.importing import ImportFailed
from annotate.exchange.shapes import BY_NAME, shape_of
from annotate.models import Completion, Demonstration, Feedback, Prompt, Ranking
from tests.annotate.conftest import rows
from tests.annotate.shape_rows import ASKED, DATA, FIELDS, GPT, HUMAN, SHAPES, TREE, assistant, user

pytestmark = pytest.mark.django_db


def rankings() -> dict:
    return {
        label.prompt.text: {p.completion.text: p.place for p in label.placed}
        for label in Ranking.objects.all()
    }


@pytest.mark.parametrize("given", SHAPES.values(), ids=SHAPES)
def test_a_shape_is_recognised_and_says_the_same_as_our_own_rows(given, bring):
    name, lines, ranked, said, thumbs = (*given, *[{}] * (5 - len(given)))
    assert shape_of(lines) is BY_NAME[name] or {"question", "chosen_messages"} & lines[0].keys()
    bring(lines)
    assert rankings() == ranked
    assert dict(Demonstration.objects.values_list("prompt__text", "text")) == said
    found = Feedback.objects.values_list("completion__prompt__text", "completion__text", "thumb_up")
    assert {(asked, text): up for asked, text, up in found} == thumbs


def test_each_shape_has_an_example():
    assert {given[0] for given in SHAPES.values()} == set(BY_NAME) - {"pku_saferlhf_safety"}


SKIPPED = {
    "the pair parts earlier": (
        {"chosen": "\n\nHuman: Hm?\n\nAssistant: A", "rejected": "\n\nHuman: So?\n\nAssistant: B"},
        "differ before their last turn",
    ),
    "the pair is alike": (
        {"chosen": "\n\nHuman: A?\n\nAssistant: A", "rejected": "\n\nHuman: A?\n\nAssistant: A"},
        "the same text",
    ),
    "weight 0": ({"messages": [ASKED, assistant("Bad.", weight=0)]}, "weight 0"),
    "a tool": (
        {"conversations": [HUMAN, {"from": "function_call", "value": "{}"}, GPT]},
        "a tool is called",
    ),
    "a tool in a part": (
        {"messages": [ASKED, assistant([{"type": "tool_call", "value": "{}"}])]},
        "a tool is called",
    ),
    "reasoning in a part": (
        {"messages": [ASKED, assistant([{"type": "reasoning", "value": "Hm."}])]},
        "reasoning apart from its text",
    ),
    "an image in a column": (
        {"messages": [user("<image>Who is it?"), assistant("Ann.")], "images": ["ann.jpg"]},
        "comes with an image",
    ),
    "equal scores": (
        {"prompt": "Q?", "chosen": "A", "rejected": "B", "score_chosen": 5, "score_rejected": 5.0},
        "the same score",
    ),
    "scores the other way round": (
        {"prompt": "Q?", "chosen": "A", "rejected": "B", "score_chosen": "3", "score_rejected": 4},
        "the rejected answer has the higher score",
    ),
    "no answer": ({"conversations": [HUMAN]}, "has no answer"),
    "an unfinished task": ({"data": DATA, "annotations": []}, "without a finished annotation"),
    "an unfinished record": (
        {"fields": FIELDS, "responses": {"order": None}},
        "without a submitted answer",
    ),
    "one response": ({"prompt": "Why?", "response": "x", "helpfulness": 3}, "nothing to compare"),
}


@pytest.mark.parametrize("line, why", SKIPPED.values(), ids=SKIPPED)
def test_what_says_nothing_is_skipped_and_counted_by_reason(line, why, bring):
    good = next(
        lines
        for name, lines, *_ in SHAPES.values()
        if shape_of(lines) is shape_of([line]) and BY_NAME[name] is shape_of([line])
    )
    done = bring([line, *good] if "helpfulness" not in line else [*good, line | {"prompt": "Q"}])
    assert done.skipped.total() == 1 and why in str(done)
    before = rows()
    with pytest.raises(ImportFailed, match=why):
        bring([line])
    assert rows() == before


@pytest.mark.parametrize("column", [{"images": []}, {"image": None}, {"video": ""}])
def test_an_empty_column_of_images_skips_nothing(column, bring):
    done = bring([{"prompt": "Why?", "completion": "So.", **column}])
    assert not done.skipped and Demonstration.objects.count() == 1


def test_a_pair_is_imported_against_its_scores_where_they_are_left_out(bring):
    line = {"prompt": "Why?", "chosen": "So.", "rejected": "No.",
            "score_chosen": 1, "score_rejected": 2}  # fmt: skip
    columns = dict.fromkeys(("score_chosen", "score_rejected"), LEFT_OUT)
    bring([line], choices=Choices(shape="ours", columns=columns))
    places = {p.completion.text: p.place for p in Ranking.objects.get().placements.all()}
    assert places == {"So.": 1, "No.": 2}


def test_texts_of_rows_with_images_come_in_where_their_column_is_left_out(bring):
    line = {"prompt": "Why?", "completion": "So.", "images": ["a.jpg"]}
    done = bring([line], choices=Choices(shape="ours", columns={"images": LEFT_OUT}))
    assert "images" in str(done) and Demonstration.objects.count() == 1


def test_a_conversation_is_its_last_answer_or_each(bring):
    line = {"messages": [user("1"), assistant("a", weight=0), user("2"), assistant("b"), user("3")]}
    line["messages"].append(assistant("c"))
    bring([line])
    assert [d.text for d in Demonstration.objects.all()] == ["c"]
    done = bring([line], choices=Choices(shape="ours", each_answer=True))
    assert {d.text for d in Demonstration.objects.all()} == {"b", "c"}
    assert "Skipped 1: its answer has weight 0" in str(done)


@pytest.mark.parametrize(
    "line, name",
    [
        ({"prompt": "Why?", "completion": "So.", "weight": 0}, "weight"),
        ({"prompt": "Why?", "completion": "So.", "rating": 2}, "rating"),
        ({"prompt": "Why?", "response_a": "So.", "response_b": "No.", "vote": "a"}, "vote"),
        ({"question": "Why?", "answer": "So.", "isGood": False}, "isGood"),
        ({"prompt": "Why?", "label": True}, "label"),
        ({"instruction": "Why?", "output": "So.", "quality_score": 1}, "quality_score"),
        (
            {
                "data": {"prompt": "Why?"},
                "annotations": [
                    {
                        "result": [
                            {"from_name": "stars", "value": {"rating": 4}},
                            {"from_name": "a", "value": {"text": "So."}},
                        ]
                    }
                ],
            },
            "stars (a result)",
        ),
    ],
)
def test_what_judges_and_is_not_read_stops_the_import_until_it_is_left_out(line, name, bring):
    before = rows()
    with pytest.raises(ImportFailed, match="looks like a judgement") as failed:
        bring([line])
    assert failed.value.problems[0].sentence.startswith(f"“{name}”")
    with pytest.raises(ImportFailed, match="looks like a judgement"):
        bring([line], leave_out_bad=True)
    assert rows() == before
    done = bring([line], columns={name: "", "question": "prompt", "answer": "completion"})
    assert name in done.unread and f"Not imported: {', '.join(sorted(done.unread))}" in str(done)


def test_every_column_that_is_not_read_is_named(bring):
    done = bring([{"prompt": "Why?", "completion": "So.", "id": 1, "lang": "en", "empty": None}])
    assert list(done.unread) == ["id", "lang"]


def test_asked_for_one_kind_a_tree_gives_that_one(bring):
    done = bring([{"message_tree_id": "t", "prompt": TREE}], kind="rankings")
    assert Ranking.objects.exists() and not Demonstration.objects.exists()
    assert "Skipped 1: demonstrations, and only rankings were asked for" in str(done)


def test_a_judging_model_is_no_person(bring):
    bring(SHAPES["AlpacaEval"][1])
    assert Ranking.objects.get().labeler.is_simulated


@pytest.mark.parametrize(
    "winner, places",
    [
        ("answer_b", {"Tea": 2, "Milk": 1}),
        ("A", {"Tea": 1, "Milk": 2}),
        ("model_b", {"Tea": 2, "Milk": 1}),
        ("1", {"Tea": 1, "Milk": 2}),
        ("tie", {"Tea": 1, "Milk": 1}),
    ],
)
def test_a_winner_is_found_among_columns(winner, places, bring):
    chosen = {"q": "prompt", "answer_a": "completions", "answer_b": "completions", "won": "winner"}
    bring(
        f"q,answer_a,answer_b,won\nWhich?,Tea,Milk,{winner}\n".encode(),
        format="csv",
        columns=chosen,
    )
    assert rankings() == {"Which?": places}


def test_a_winner_counted_from_0_must_be_said_to_be(bring):
    chosen = {"q": "prompt", "a": "completions", "b": "completions", "won": "winner"}
    lines = [{"q": "Which?", "a": "Tea", "b": "Milk", "won": 0}]
    with pytest.raises(ImportFailed, match="counted from 0"):
        bring(lines, columns=chosen)
    bring(lines, columns=chosen | {"won": "winner_from_0"})
    assert rankings() == {"Which?": {"Tea": 1, "Milk": 2}}


def test_bad_lines_are_left_out_if_asked_for_and_counted(bring):
    lines = [{"prompt": "One?"}, b"{", {"prompt": ""}, {"prompt": "Two?"}]
    before = rows()
    with pytest.raises(ImportFailed) as failed:
        bring(lines)
    assert failed.value.can_leave_out and rows() == before
    done = bring(lines, leave_out_bad=True)
    assert Prompt.objects.count() == 2 and "Left out: 2 with problems" in str(done)


def test_a_label_that_cannot_be_stored_is_left_out_with_the_bad_lines(bring):
    thumb = {"prompt": "Why?", "completion": "So.", "label": True}
    done = bring([thumb, {**thumb, "label": False}], leave_out_bad=True)
    assert Feedback.objects.get().thumb_up and done.left_out == 1
    assert Completion.objects.count() == 1


def test_a_table_may_hold_conversations_as_json(bring):
    cell = json.dumps([HUMAN, GPT]).replace('"', '""')
    bring(f'id,conversations\n1,"{cell}"\n'.encode(), format="csv")
    assert Demonstration.objects.get().text == "Because."
