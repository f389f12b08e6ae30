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

pytestmark = pytest.mark.django_db


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str, **more) -> dict:
    return {"role": "assistant", "content": text, **more}


ASKED, BETTER, WORSE = user("Why?"), assistant("Because."), assistant("No.")
HUMAN, GPT = {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}
TREE = {
    "message_id": "t",
    "role": "prompter",
    "text": "Why?",
    "replies": [
        {"message_id": "a", "user_id": "u1", "role": "assistant", "text": "No.", "rank": 1},
        {"message_id": "b", "user_id": "u2", "role": "assistant", "text": "Because.", "rank": 0},
    ],
}
TREE_MESSAGES = [
    {**{k: v for k, v in TREE.items() if k != "replies"}, "parent_id": None},
    *({**each, "parent_id": "t"} for each in TREE["replies"]),
]
TREE_MESSAGES = [{"user_id": "u0", "message_tree_id": "t", **each} for each in TREE_MESSAGES]
DATA = {"prompt": "Why?", "one": "Because.", "two": "No."}
SELECTED = {"type": "pairwise", "to_name": "one,two", "value": {"selected": "left"}}
FIELDS = {"prompt": "Why?", "response-1": "No.", "response-2": "Because."}
ORDER = [{"value": "response-2", "rank": 1}, {"value": "response-1", "rank": 2}]

RANKED = {"Why?": {"Because.": 1, "No.": 2}}
SAID = {"Why?": "Because."}
THUMBS = {("Why?", "Because."): True}

# shape → (lines, rankings, demonstrations, thumbs)
SHAPES = {
    "ours, plain": ("ours", [{"prompt": "Why?", "chosen": "Because.", "rejected": "No."}], RANKED),
    "ours, without a prompt": (
        "ours",
        [{"chosen": [ASKED, BETTER], "rejected": [ASKED, WORSE]}],
        RANKED,
    ),
    "UltraFeedback": (
        "ours",
        [
            {
                "prompt": "Why?",
                "prompt_id": "x",
                "chosen": [ASKED, BETTER],
                "rejected": [ASKED, WORSE],
                "messages": [ASKED, BETTER],
                "score_chosen": 8.5,
                "score_rejected": 3.0,
            }
        ],
        RANKED,
    ),
    "Orca's pairs": (
        "ours",
        [{"system": "", "question": "Why?", "chosen": "Because.", "rejected": "No."}],
        RANKED,
    ),
    "a winner by letter": (
        "ours",
        [{"prompt": "Why?", "completions": ["No.", "Because."], "winner": "B"}],
        RANKED,
    ),
    "a winner by number": (
        "ours",
        [{"prompt": "Why?", "completions": ["No.", "Because."], "winner": 2}],
        RANKED,
    ),
    "a winner by name": (
        "ours",
        [
            {
                "prompt": "Why?",
                "completions": ["No.", "Because."],
                "policies": ["x", "y"],
                "winner": "y",
            }
        ],
        RANKED,
    ),
    "HH-RLHF": (
        "hh_rlhf",
        [
            {
                "chosen": "\n\nHuman: Why?\n\nAssistant: Because.",
                "rejected": "\n\nHuman: Why?\n\nAssistant: No.",
            }
        ],
        RANKED,
    ),
    "OpenAI's preferences": (
        "openai_preferences",
        [
            {
                "input": {"messages": [ASKED], "tools": [], "parallel_tool_calls": True},
                "preferred_output": [BETTER],
                "non_preferred_output": [WORSE],
            }
        ],
        RANKED,
    ),
    "ShareGPT's pairs": (
        "sharegpt",
        [{"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": "No."}}],
        RANKED,
    ),
    "Alpaca's pairs": (
        "alpaca",
        [{"instruction": "Why?", "input": "", "chosen": "Because.", "rejected": "No."}],
        RANKED,
    ),
    "HelpSteer 2": (
        "helpsteer",
        [
            {"prompt": "Why?", "response": "No.", "helpfulness": 1, "verbosity": 4},
            {"prompt": "Why?", "response": "Because.", "helpfulness": 3, "verbosity": 1},
        ],
        RANKED,
    ),
    "HelpSteer 3": (
        "helpsteer3",
        [
            {
                "context": [ASKED],
                "response1": "Because.",
                "response2": "No.",
                "overall_preference": -2,
                "individual_preference": [{"score": -2}],
            }
        ],
        RANKED,
    ),
    "PKU-SafeRLHF": (
        "pku_saferlhf",
        [
            {
                "prompt": "Why?",
                "response_0": "No.",
                "response_1": "Because.",
                "better_response_id": 1,
                "safer_response_id": 0,
                "is_response_0_safe": True,
                "is_response_1_safe": False,
            }
        ],
        RANKED,
    ),
    "SHP": (
        "shp",
        [
            {
                "history": "Why?",
                "human_ref_A": "No.",
                "human_ref_B": "Because.",
                "labels": 0,
                "score_A": 2,
                "score_B": 9,
            }
        ],
        RANKED,
    ),
    "Chatbot Arena": (
        "arena",
        [
            {
                "model_a": "x",
                "model_b": "y",
                "winner": "model_b",
                "judge": "anna",
                "turn": 1,
                "conversation_a": [ASKED, WORSE],
                "conversation_b": [ASKED, BETTER],
            }
        ],
        RANKED,
    ),
    "Chatbot Arena on Kaggle": (
        "arena",
        [
            {
                "model_a": "x",
                "model_b": "y",
                "prompt": '["Why?"]',
                "response_a": '["Because."]',
                "response_b": '["No."]',
                "winner_model_a": 1,
                "winner_model_b": 0,
                "winner_tie": 0,
            }
        ],
        RANKED,
    ),
    "AlpacaEval": (
        "alpaca_eval",
        [
            {
                "instruction": "Why?",
                "output_1": "No.",
                "output_2": "Because.",
                "preference": 1.9,
                "generator_1": "x",
                "generator_2": "y",
                "annotator": "gpt",
            }
        ],
        RANKED,
    ),
    "OpenAssistant": (
        "oasst",
        [{"message_tree_id": "t", "tree_state": "x", "prompt": TREE}],
        RANKED,
        SAID,
    ),
    "OpenAssistant, from its first message": (
        "oasst",
        [TREE | {"parent_id": None, "lang": "en", "rank": None, "labels": None}],
        RANKED,
        SAID,
    ),
    "OpenAssistant, flat": ("oasst_messages", TREE_MESSAGES, RANKED, SAID),
    "Label Studio": (
        "label_studio",
        [{"id": 1, "data": DATA, "annotations": [{"lead_time": "3.2", "result": [SELECTED]}]}],
        RANKED,
    ),
    "Label Studio, JSON-MIN": (
        "label_studio_min",
        [
            {
                "id": 1,
                **DATA,
                "preference": "left",
                "annotator": 1,
                "annotation_id": 2,
                "lead_time": 3.5,
            }
        ],
        RANKED,
    ),
    "Argilla": (
        "argilla",
        [
            {
                "id": "1",
                "fields": FIELDS,
                "responses": {
                    "order": [{"value": ORDER, "user_id": "u"}],
                    "why": [{"value": "It is.", "user_id": "u"}],
                },
            }
        ],
        RANKED,
    ),
    "Argilla, flat": (
        "argilla_flat",
        [
            {
                "id": "1",
                "status": "completed",
                **FIELDS,
                "order.responses": [["response-2", "response-1"]],
                "order.responses.users": ["u"],
                "order.responses.status": ["submitted"],
                "order.suggestion": None,
            }
        ],
        RANKED,
    ),
    "Argilla 1, flat": (
        "argilla_flat",
        [
            {
                **FIELDS,
                "order": [
                    {
                        "user_id": "u",
                        "status": "submitted",
                        "value": {"rank": [1, 2], "value": ["response-2", "response-1"]},
                    }
                ],
                "order-suggestion": None,
            }
        ],
        RANKED,
    ),
    "messages": ("ours", [{"messages": [ASKED, BETTER]}], {}, SAID),
    "messages with extras": (
        "ours",
        [
            {
                "messages": [
                    {"role": "developer", "content": ""},
                    {"role": "user", "content": [{"type": "text", "text": "Why?"}], "name": "tom"},
                    assistant("Because.", weight=1, tool_calls=None),
                ]
            }
        ],
        {},
        SAID,
    ),
    "LLaMA-Factory's messages": (
        "ours",
        [
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "value": "Why?"}]},
                    assistant("Because.", loss_weight=1.0),
                ]
            }
        ],
        {},
        SAID,
    ),
    "LLaMA-Factory's pairs": (
        "ours",
        [{"chosen_messages": [ASKED, BETTER], "rejected_messages": [ASKED, WORSE]}],
        RANKED,
    ),
    "ShareGPT": ("sharegpt", [{"conversations": [HUMAN, GPT], "id": "x"}], {}, SAID),
    "Alpaca": ("alpaca", [{"instruction": "Why?", "input": "", "output": "Because."}], {}, SAID),
    "Dolly": (
        "dolly",
        [{"instruction": "Why?", "context": "", "response": "Because.", "category": "qa"}],
        {},
        SAID,
    ),
    "GSM8K": (
        "gsm8k",
        [{"question": "Why?", "answer": "So.\n#### 42"}],
        {},
        {"Why?": "So.\n#### 42"},
    ),
    "Label Studio, a written answer": (
        "label_studio",
        [
            {
                "data": {"prompt": "Why?"},
                "annotations": [
                    {
                        "result": [
                            {"type": "textarea", "from_name": "a", "value": {"text": ["Because."]}}
                        ]
                    }
                ],
            }
        ],
        {},
        SAID,
    ),
    "prompt and response": ("ours", [{"prompt": "Why?", "response": "Because."}], {}, SAID),
    "KTO": ("ours", [{"prompt": "Why?", "completion": "Because.", "label": True}], {}, {}, THUMBS),
    "KTO with messages": ("ours", [{"messages": [ASKED, BETTER], "label": True}], {}, {}, THUMBS),
    "ShareGPT's KTO": (
        "sharegpt",
        [{"conversations": [HUMAN, GPT], "label": True}],
        {},
        {},
        THUMBS,
    ),
}


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
