"""Import: what each shape brings, by whom, and that twice is once."""

import pytest

from annotate.exchange.importing import ImportFailed
from annotate.models import (
    Completion,
    Demonstration,
    Feedback,
    Membership,
    Placement,
    Policy,
    Prompt,
    Ranking,
)
from tests.annotate.conftest import HELLO, HI, ranking, rows

pytestmark = pytest.mark.django_db


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


def test_ten_thousand_lines_come_in_whole(bring):
    lines = [{"prompt": f"Question {n}?", "completion": f"Answer {n}."} for n in range(10_000)]
    bring(lines)
    assert rows()["Demonstration"] == 10_000


def test_long_prompts_that_begin_alike_are_told_of(bring):
    same = "Sum up this text in three words, please. " * 5
    asked = [f"{same}{n}" for n in range(3)] + [same[:199], same[:198], "Why?", same[::-1]]
    found = bring([{"prompt": each} for each in asked])
    assert found.alike == 3
    assert "3 of the new prompts start with the same 200 characters" in str(found)
    assert bring([{"prompt": each} for each in asked]).alike == 0  # none of them is new
