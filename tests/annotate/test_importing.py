"""Import: what each shape brings, what each mistake is told, and that nothing stays half done."""

import io
import json
import re

import pyarrow
import pyarrow.parquet
import pytest

from annotate.importing import Imported, ImportFailed, import_labels
from annotate.models import (
    Completion,
    Demonstration,
    Feedback,
    Membership,
    Placement,
    Policy,
    Prompt,
    Ranking,
    User,
)

pytestmark = pytest.mark.django_db
HELLO = [{"role": "user", "content": "Hello?"}]
HI = [{"role": "assistant", "content": "Hi!"}]


@pytest.fixture
def bring(project, olga):
    """Imports lines, each an object or the bytes of a line, or one blob."""

    def bring(lines: list | bytes, **options) -> Imported:
        if isinstance(lines, list):
            lines = b"\n".join(
                line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines
            )
        return import_labels(io.BytesIO(lines), project=project, by=olga, **options)

    return bring


def rows() -> dict[str, int]:
    kinds = (Prompt, Completion, Policy, Demonstration, Ranking, Placement, Feedback, User)
    return {kind.__name__: kind.objects.count() for kind in kinds}


def ranking(**changes):
    line = {"prompt": "Which?", "completions": ["a", "b", "c"], "ranks": [1, 2, 2]}
    return {**line, **changes}


# --- the shapes


@pytest.mark.parametrize(
    "line",
    [
        {"prompt": "Hello?"},
        {"prompt": HELLO},
        {"messages": HELLO},
        b"prompt-in-csv",
    ],
)
def test_a_prompt_comes_in_each_of_its_shapes(line, bring):
    if isinstance(line, bytes):
        bring(b"prompt,source,tags\nHello?,book,short; polite\n", format="csv")
        assert Prompt.objects.get().tags == ["short", "polite"]
    else:
        bring([line])
    assert Prompt.objects.get().messages == HELLO


@pytest.mark.parametrize(
    "line",
    [
        {"prompt": "Hello?", "completion": "Hi!"},
        {"prompt": HELLO, "completion": HI},
        {"messages": HELLO + HI},
    ],
)
def test_a_demonstration_comes_in_each_of_its_shapes(line, bring, olga):
    done = bring([line], source="handbook.jsonl")
    demonstration = Demonstration.objects.get()
    assert (demonstration.text, demonstration.prompt.messages) == ("Hi!", HELLO)
    assert (demonstration.labeler, demonstration.source) == (olga, "handbook.jsonl")
    assert done.counts == [("prompts", 1, 0), ("demonstrations", 1, 0)]


def test_a_ranking_keeps_its_ties_and_makes_its_places_dense(bring):
    bring([ranking(completions=["a", "b", "c", "d"], ranks=[4, 2, 2, 7])])
    placed = {p.completion.text: p.place for p in Placement.objects.select_related("completion")}
    assert placed == {"a": 2, "b": 1, "c": 1, "d": 3}
    assert Policy.objects.get().origin == Policy.Origin.EXTERNAL


@pytest.mark.parametrize(
    "line",
    [
        {"prompt": "Hello?", "chosen": "Hi!", "rejected": "What?", "margin": 3},
        {"chosen": HELLO + HI, "rejected": [*HELLO, {**HI[0], "content": "What?"}], "margin": 3},
    ],
)
def test_a_preference_becomes_a_ranking_of_two(line, bring):
    bring([line])
    assert Ranking.objects.get().strength == 3
    best, worst = Placement.objects.select_related("completion")
    assert (best.completion.text, best.place) == ("Hi!", 1)
    assert (worst.completion.text, worst.place) == ("What?", 2)


def test_a_thumb_becomes_feedback_on_an_imported_completion(bring, olga):
    bring([{"prompt": HELLO, "completion": HI, "label": False, "reasons": ["too_short"]}])
    thumb = Feedback.objects.get()
    assert (thumb.thumb_up, thumb.reasons, thumb.user) == (False, ["too_short"], olga)
    assert thumb.completion.source == Completion.Source.IMPORTED


@pytest.mark.parametrize("references", [True, False])
def test_completions_name_their_policies_and_references_count_when_asked(references, bring):
    said = [{"model": "davinci", "content": "Hi!"}, {"model": "curie", "content": ""}]
    bring([{"prompt": HELLO, "reference": "Hey.", "completions": said}], references=references)
    assert {c.policy.name: c.text for c in Completion.objects.all()} == {
        "davinci": "Hi!",
        "curie": "",
    }
    assert Demonstration.objects.count() == references


def test_asked_for_prompts_it_takes_those_of_any_file(bring):
    bring([{"prompt": "Hello?", "completion": "Hi!"}, {"messages": HELLO + HI}], kind="prompts")
    assert rows()["Prompt"] == 1
    assert rows()["Demonstration"] == 0


# --- formats and exports of other tools


def parquet(rows: list[dict], **options) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "line, brought",
    [
        ({"prompt": HELLO}, "Prompt"),
        ({"prompt": HELLO, "completion": HI}, "Demonstration"),
        ({"messages": HELLO + HI}, "Demonstration"),
        ({"chosen": HELLO + HI, "rejected": [*HELLO, {**HI[0], "content": "No."}]}, "Ranking"),
        (ranking(ratings=[7, None, 1]), "Ranking"),
        ({"prompt": "Hello?", "completion": "Hi!", "label": True}, "Feedback"),
    ],
)
@pytest.mark.parametrize("format", ["parquet", "json"])
def test_every_shape_comes_as_parquet_and_as_one_json_list_too(line, brought, format, bring):
    rows_of_two = [line, {**line, "source": "again"}]
    blob = parquet(rows_of_two) if format == "parquet" else json.dumps(rows_of_two, indent=2)
    bring(blob if format == "parquet" else blob.encode(), format=format)
    assert rows()[brought] == 1


def test_a_list_is_read_element_by_element_however_it_is_cut(bring, monkeypatch):
    monkeypatch.setattr("annotate.readers.CHUNK_CHARACTERS", 7)
    lines = [{"prompt": f'Frage „{n}“, [{{]}} \\ " ?'} for n in range(20)]
    bring(json.dumps(lines, indent=1, ensure_ascii=False).encode())
    assert Prompt.objects.count() == 20


@pytest.mark.parametrize(
    "content, line, sentence",
    [
        (b'[{"prompt": "a"},\n {"prompt": NaN}]', 2, "NaN"),
        (b'[{"prompt": "a"},\n {"prompt": "b"', 2, "Not valid JSON"),
        (b'[{"prompt": "a"}', 1, "has no end"),
        (b'[{"prompt": "a"},\n\n"b"]', 3, "one JSON object"),
        (b'[{"prompt": "\xff"}]', 1, "UTF-8"),
        (b"[" * 100_000, 1, "Nested too deeply|Not valid JSON|no end|one JSON object"),
        (b'[{"prompt": "' + b"x" * (5 * 2**20) + b'"}]', 1, "Longer than 4 MB|32,000"),
    ],
)
def test_a_bad_list_is_told_where(content, line, sentence, bring):
    with pytest.raises(ImportFailed) as failed:
        bring(content)
    problem = failed.value.problems[0]
    assert problem.line == line and re.search(sentence, problem.sentence)
    assert not Prompt.objects.exists()


def test_bad_parquet_is_told_so_and_a_bad_row_is_numbered(bring):
    with pytest.raises(ImportFailed, match="Not valid Parquet"):
        bring(b"PAR1 but not really PAR1", format="parquet")
    good = [{"prompt": f"Question {n}?"} for n in range(150)]
    with pytest.raises(ImportFailed, match="Line 101: .*no text"):
        bring(parquet([*good[:100], {"prompt": " "}, *good[100:]]), format="parquet")
    assert not Prompt.objects.exists()


def test_parquet_that_swells_is_refused(bring, monkeypatch):
    monkeypatch.setattr("annotate.readers.LARGEST_ROW_GROUP", 1000)
    with pytest.raises(ImportFailed, match="smaller row groups"):
        bring(parquet([{"prompt": "x" * 5000}]), format="parquet")


def placed() -> dict[str, int]:
    rows = Placement.objects.select_related("completion")
    return {each.completion.text: each.place for each in rows}


def studio(value: dict, data: dict, **result) -> dict:
    done = {"completed_by": {"email": "ann@example.org"}, "lead_time": 12.5}
    results = [{"value": value, **result}]
    skipped = {"was_cancelled": True, "result": results}
    return {"id": 1, "data": data, "annotations": [{**done, "result": results}, skipped]}


ITEMS = [{"id": n, "title": f"Answer {n}", "body": f"Body {n}"} for n in "xyz"]


@pytest.mark.parametrize(
    "task, places",
    [
        (
            studio({"ranker": {"rank": ["z", "x", "y"]}}, {"prompt": "Why?", "items": ITEMS}),
            {"Body z": 1, "Body x": 2, "Body y": 3},
        ),
        (
            studio(
                {"ranker": {"good": ["y", "x"], "bad": ["z"], "_": []}},
                {"prompt": "Why?", "items": ITEMS},
            ),
            {"Body y": 1, "Body x": 1, "Body z": 2},
        ),
        (
            studio(
                {"selected": "right"},
                {"prompt": "Why?", "answer1": "No.", "answer2": "Yes."},
                type="pairwise",
                to_name="answer1,answer2",
            ),
            {"No.": 2, "Yes.": 1},
        ),
    ],
)
def test_label_studio_rankings_and_choices_come_in(task, places, bring):
    bring(json.dumps([task]).encode())
    assert placed() == places
    label = Ranking.objects.get()
    assert (label.labeler.labeler_name, label.active_seconds) == ("ann@example.org", 12)


FIELDS = {"prompt": "Why?", "response-1": "No.", "response-2": "Yes."}
BY_RANK = [{"value": "response-1", "rank": 2}, {"value": "response-2", "rank": 1}]


@pytest.mark.parametrize(
    "responses",
    [
        {"order": [{"value": BY_RANK, "user_id": "u1"}]},
        {"better": [{"value": "response-2", "user_id": "u1", "status": "submitted"}]},
        [{"user_id": "u1", "status": "submitted", "values": {"order": {"value": BY_RANK}}}],
    ],
)
def test_argilla_rankings_and_choices_come_in(responses, bring):
    bring([{"id": "r", "fields": FIELDS, "responses": responses}])
    assert placed() == {"No.": 2, "Yes.": 1}
    assert Ranking.objects.get().labeler.labeler_name == "u1"


def test_an_argilla_text_becomes_a_demonstration_and_a_discarded_one_nothing(bring):
    given = [{"value": "Because.", "user_id": "u1"}]
    bring([{"fields": {"prompt": "Why?"}, "responses": {"answer": given}}])
    assert Demonstration.objects.get().text == "Because."
    discarded = {"answer": [{**given[0], "status": "discarded"}]}
    with pytest.raises(ImportFailed, match="no submitted"):
        bring([{"fields": {"prompt": "Who?"}, "responses": discarded}])


def test_an_unknown_answer_of_another_tool_is_named(bring):
    with pytest.raises(ImportFailed, match="names “q”"):
        bring([studio({"ranker": {"rank": ["q"]}}, {"prompt": "Why?", "items": ITEMS})])


# --- who said it


def test_a_labeler_of_the_project_keeps_the_label(bring, alice):
    bring([ranking(labeler="alice")])
    assert Ranking.objects.get().labeler == alice


def test_an_unknown_labeler_becomes_somebody_who_cannot_sign_in(bring, project, mallory):
    bring([ranking(labeler="mallory"), ranking(labeler="mallory", prompt="And now?")])
    labeler = Ranking.objects.all()[0].labeler
    assert labeler != mallory
    assert (labeler.labeler_name, labeler.is_active) == ("mallory", False)
    assert not labeler.has_usable_password()
    assert project.memberships.get(user=labeler).state == Membership.State.PAUSED
    assert Ranking.objects.by(labeler).count() == 2


def test_a_simulated_labeler_stays_simulated_and_never_turns_into_a_person(bring, project):
    bring([ranking(labeler="sim-anna", simulated=True)])
    assert Ranking.objects.get().labeler.is_simulated
    with pytest.raises(ImportFailed, match="Rename one of the two"):
        bring([ranking(labeler="sim-anna", prompt="Who?")])


# --- twice is once


@pytest.mark.parametrize(
    "line",
    [
        {"prompt": "Hello?"},
        {"prompt": "Hello?", "completion": "Hi!"},
        ranking(),
        ranking(outcome="all_bad", ranks=[None, None, None]),
        {"prompt": "Hello?", "chosen": "Hi!", "rejected": "What?"},
        {"prompt": "Hello?", "completion": "Hi!", "label": True},
        {"prompt": "Hello?", "completions": [{"model": "m", "content": "Hi!"}]},
    ],
)
def test_what_comes_twice_is_there_once(line, bring):
    bring([line, line])
    before = rows()
    done = bring([line])
    assert rows() == before
    assert not done.new.total()
    assert done.known.total()


def test_another_opinion_of_the_same_completions_is_a_new_ranking(bring):
    bring([ranking(), ranking(ranks=[2, 1, 1]), ranking(labeler="bob")])
    assert rows()["Ranking"] == 3
    assert rows()["Completion"] == 3


def test_a_dry_run_counts_and_leaves_nothing(bring):
    before = rows()
    done = bring([ranking(labeler="bob")], dry_run=True)
    assert done.new == {"prompts": 1, "completions": 3, "rankings": 1}
    assert rows() == before


# --- mistakes

GOOD = {"prompt": "A good line."}
LONG = "x" * 50_001
BAD = {
    "malformed JSON": (b'{"prompt": "Hello"', "Not valid JSON"),
    "a number too long": (b'{"prompt": ' + b"9" * 5000 + b"}", "Not valid JSON"),
    "no object": ([1, 2], "one JSON object"),
    "no known shape": ({"question": "Hello?"}, "known shapes"),
    "bad UTF-8": (b'{"prompt": "\xff"}', "UTF-8"),
    "half a character": (b'{"prompt": "\\ud800"}', "half a character"),
    "NUL": (b'{"prompt": "a\\u0000"}', "NUL"),
    "NaN": (b'{"prompt": "a", "score": NaN}', "NaN"),
    "deep nesting": (b'{"prompt": ' + b"[" * 100_000 + b"}", "Nested too deeply"),
    "a line too long": (b'{"prompt": "' + b"x" * (5 * 2**20) + b'"}', "Longer than 4 MB"),
    "a prompt too long": ({"prompt": LONG}, "50,001 characters, and at most 32,000"),
    "an empty prompt": ({"prompt": " "}, "no text"),
    "no messages": ({"prompt": []}, "has none"),
    "a message that is none": ({"prompt": ["Hello"]}, "a role and a content"),
    "an unknown role": ({"prompt": [{"role": "bot", "content": "x"}]}, "role must be one of"),
    "the answer as prompt": ({"prompt": HI}, "come from the user"),
    "a system message late": ({"prompt": [{"role": "system", "content": "x"}] * 2}, "only come"),
    "tags that are no list": ({"prompt": "a", "tags": "b"}, "tags"),
    "a tag too long": ({"prompt": "a", "tags": ["b" * 51]}, "at most 50"),
    "a number as source": ({"prompt": "a", "source": 0}, "must be a text"),
}
BAD_LABELS = {
    "an empty completion": ({"prompt": "a", "completion": ""}, "is empty"),
    "a completion of the user": ({"prompt": "a", "completion": HELLO}, "assistant's message"),
    "a completion too long": ({"prompt": "a", "completion": LONG}, "50,001 characters"),
    "no prompt": ({"completion": "a"}, "has none"),
    "a ranking that misses a completion": (ranking(ranks=[1, 2]), "3 completions but 2 in “ranks”"),
    "an unranked completion": (ranking(ranks=[1, 2, None]), "misses a completion"),
    "a rank that is no number": (ranking(ranks=[1, 2, "3"]), "whole number"),
    "half a rank": (ranking(ranks=[1, 2, 2.5]), "whole number"),
    "an endless rank": (json.dumps(ranking()).replace("2]", "1e999]").encode(), "whole number"),
    "one completion": (ranking(completions=["a"], ranks=[1]), "2 to 9"),
    "ten completions": (ranking(completions=list("abcdefghij"), ranks=[1] * 10), "2 to 9"),
    "a twin": (ranking(completions=["a", "b", "a "]), "1 and 3 are the same"),
    "a rating of 8": (ranking(ratings=[8, 1, 1]), "between 1 and 7"),
    "an unknown flag": (ranking(flags=[["ugly"], [], []]), "must be one of"),
    "a shown order of others": (ranking(shown_order=[0, 1, 3]), "each position"),
    "a strength among three": (ranking(strength=2), "two completions"),
    "a margin of another scale": (
        {"prompt": "a", "chosen": "b", "rejected": "c", "margin": 0.7},
        "another scale",
    ),
    "chosen and rejected alike": ({"prompt": "a", "chosen": "b", "rejected": "b"}, "the same text"),
    "different prompts": ({"chosen": HELLO + HI, "rejected": HI + HI}, "begin with the same"),
    "a thumb of 1": ({"prompt": "a", "completion": "b", "label": 1}, "true or false"),
    "a completion of nobody": ({"prompt": "a", "completions": ["b"]}, "“ranks” is missing"),
    "no completion": ({"prompt": "a", "completions": []}, "is empty"),
    "a share of 2": ({"prompt": "a", "completion": "b", "pasted_share": 2}, "between 0 and 1"),
    "a labeler too long": (ranking(labeler="x" * 91), "at most 90"),
}


@pytest.mark.parametrize("bad, sentence", BAD.values(), ids=BAD)
def test_a_bad_line_is_named_and_nothing_is_left(bad, sentence, bring):
    before = rows()
    with pytest.raises(ImportFailed) as failed:
        bring([GOOD] * 6 + [bad] + [GOOD] * 3)
    [problem] = failed.value.problems
    assert (problem.line, failed.value.lines) == (7, 10)
    assert sentence in problem.sentence
    assert rows() == before


@pytest.mark.parametrize("bad, sentence", BAD_LABELS.values(), ids=BAD_LABELS)
def test_a_bad_label_is_named_and_nothing_is_left(bad, sentence, bring):
    before = rows()
    with pytest.raises(ImportFailed) as failed:
        bring([bad])
    [problem] = failed.value.problems
    assert sentence in problem.sentence
    assert rows() == before


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_an_empty_file_is_called_empty(content, bring):
    with pytest.raises(ImportFailed, match="the file is empty"):
        bring(content)


def test_kinds_may_not_mix(bring):
    with pytest.raises(ImportFailed, match="Line 2: This line holds demonstrations"):
        bring([GOOD, {"prompt": "a", "completion": "b"}])


def test_contradictory_thumbs_are_refused(bring):
    thumb = {"prompt": "a", "completion": "b", "label": True}
    with pytest.raises(ImportFailed, match="Line 2: olga gave this answer the other thumb"):
        bring([thumb, {**thumb, "label": False}])
    assert not Feedback.objects.exists()


def test_the_first_twenty_mistakes_are_shown_and_the_others_counted(bring):
    with pytest.raises(ImportFailed) as failed:
        bring([{"prompt": ""}] * 32)
    assert len(failed.value.problems) == 20
    assert str(failed.value).endswith("…and 12 more")


def test_a_mistake_far_down_undoes_the_batches_before_it(bring, monkeypatch):
    monkeypatch.setattr("annotate.importing.BATCH", 10)
    with pytest.raises(ImportFailed, match="Line 96"):
        bring([{"prompt": f"Question {n}?"} for n in range(95)] + [{"prompt": ""}])
    assert not Prompt.objects.exists()


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b'prompt\n"open', "Not valid CSV"),
        (b"prompt\na,b\n", "More cells"),
        (b"prompt\n\xff\n", "UTF-8"),
        (b"question\na\n", "known shapes"),
    ],
)
def test_bad_csv_is_told_so(content, sentence, bring):
    with pytest.raises(ImportFailed, match=sentence):
        bring(content, format="csv")
    assert not Prompt.objects.exists()


def test_ten_thousand_lines_come_in_whole(bring):
    lines = [{"prompt": f"Question {n}?", "completion": f"Answer {n}."} for n in range(10_000)]
    bring(lines)
    assert rows()["Demonstration"] == 10_000


def test_long_prompts_that_begin_alike_are_told_of(bring):
    same = "Sum up this text in three words, please. " * 5
    asked = [f"{same}{n}" for n in range(3)] + [same[:199], same[:198], "Why?", same[::-1]]
    found = bring([{"prompt": each} for each in asked])
    assert found.alike == 3
    assert "3 of the new prompts begin alike for 200 characters" in str(found)
    assert bring([{"prompt": each} for each in asked]).alike == 0  # none of them is new
