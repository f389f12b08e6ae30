"""What calls for a review."""

import pytest

from annotate.models import Placement, Task
from tests.annotate.answering import doubts, rank, write

Doubt = Task.Doubt


def test_agreement_calls_for_none(project, alice, bob, rank_task):
    rank_task(overlap=2)
    rank(alice, project, [0, 1, 2])
    rank(bob, project, [0, 1, 2])
    assert doubts() == []


def test_low_agreement_calls_for_one_when_all_answers_are_in(project, alice, bob, rank_task):
    rank_task(overlap=2)
    rank(alice, project, [0, 1, 2])
    assert doubts() == []
    rank(bob, project, [2, 1, 0])
    assert doubts() == [[Doubt.LOW_AGREEMENT]]


@pytest.mark.parametrize(
    ("percent", "is_low"), [(33, False), (34, True)], ids=["reached", "below by one"]
)
def test_the_project_says_what_low_is(project, alice, bob, rank_task, percent, is_low):
    project.low_agreement_percent = percent
    project.save()
    rank_task(overlap=2)
    rank(alice, project, [0, 1, 2])
    rank(bob, project, [2, 0, 1])  # one of three comparisons alike
    assert doubts() == ([[Doubt.LOW_AGREEMENT]] if is_low else [])


def test_flags_and_all_bad_call_for_one(project, alice, bob, rank_task):
    rank_task()
    rank(alice, project, [0, 1, 2], flags=["hallucination"])
    rank_task()
    rank(bob, project, [[0, 1, 2]], outcome="all_bad")
    assert doubts() == [[Doubt.FLAGGED], [Doubt.ALL_BAD]]


def test_flags_may_be_left_to_themselves(project, alice, rank_task):
    project.review_flags = False
    project.save()
    rank_task()
    rank(alice, project, [0, 1, 2], flags=["opinion"])
    assert doubts() == []


@pytest.mark.parametrize(("seconds", "is_fast"), [(24, True), (25, False), (0, False)])
def test_less_than_a_quarter_of_the_median_time_is_too_fast(
    project, alice, write_task, seconds, is_fast
):
    for _ in range(20):
        write_task()
        write(alice, project, active_seconds=100)
    write_task()
    write(alice, project, active_seconds=seconds)
    assert doubts() == ([[Doubt.TOO_FAST]] if is_fast else [])


def test_a_random_share_is_reviewed(project, alice, write_task):
    project.random_review_percent = 30
    project.save()
    for _ in range(60):
        write_task()
        write(alice, project)
    assert 6 <= len(doubts()) <= 32
    assert all(each == [Doubt.RANDOM] for each in doubts())


def test_doubts_about_one_task_meet_in_one_review(project, alice, bob, rank_task):
    rank_task(overlap=2)
    first = rank(alice, project, [0, 1, 2])
    rank(bob, project, [2, 1, 0])
    placements = [Placement(completion_id=p.completion_id, place=p.place) for p in first.placed]
    placements[0].flags = ["opinion"]
    first.revise(revision_no=1, placements=placements)
    assert doubts() == [[Doubt.FLAGGED, Doubt.LOW_AGREEMENT]]
