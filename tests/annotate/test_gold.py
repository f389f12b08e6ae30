"""Tasks with a known answer: practice, qualification, and hidden among ordinary work."""

import uuid
from contextlib import suppress
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db.models.functions import Now

from annotate.labelling.queue import next_assignment
from annotate.labels.gold import make_gold, qualification_of
from annotate.labels.label import Conflict
from annotate.models import Assignment, Demonstration, Membership, Placement, Ranking, Review, Task
from annotate.quality.labelers import golds, with_gold
from rlhf.data.selection import rankings

Trial = Assignment.Trial
RIGHT, WRONG, HALF = [1, 2, 3], [3, 2, 1], [1, 3, 2]  # of HALF, two comparisons of three


def answer(labeler, project, places):
    work = next_assignment(labeler, project)
    placements = [
        Placement(completion_id=pk, place=place)
        for pk, place in zip(sorted(work.shown_order), places, strict=True)
    ]
    Ranking.record(assignment=work, placements=placements)
    return work


@pytest.fixture
def make_golds(project, rita, rank_task):
    def make(count, is_practice=False):
        for _ in range(count):
            rank_task(batch="for gold")
            work = next_assignment(rita, project)
            placements = [
                Placement(completion_id=pk, place=place)
                for place, pk in enumerate(sorted(work.shown_order), start=1)
            ]
            gold = make_gold(Ranking.record(assignment=work, placements=placements))
            gold.use(is_practice)

    return make


def member(project, user):
    return project.memberships.select_related("project", "user").get(user=user)


# Qualification


@pytest.mark.parametrize(("golds", "is_on"), [(0, False), (9, False), (10, True)])
def test_qualification_begins_with_enough_gold(project, alice, make_golds, golds, is_on):
    make_golds(golds)
    assert bool(qualification_of(member(project, alice))) == is_on


def test_gold_that_was_retired_stays_so_when_an_answer_under_way_comes_in(
    project, alice, make_golds, rank_task
):
    make_golds(10)
    Membership.objects.filter(user=alice).update(qualified_at=Now())
    project.gold_every = 1
    project.save()
    rank_task()
    work = next_assignment(alice, project)
    assert work.trial == Trial.HIDDEN
    work.task.retire()
    placements = [Placement(completion_id=pk, place=1) for pk in work.shown_order]
    Ranking.record(assignment=work, placements=placements).retract(draft={})
    assert not Task.objects.open().filter(pk=work.task_id).exists()


def test_a_new_labeler_ranks_gold_until_qualified_and_then_works(
    project, alice, make_golds, rank_task
):
    make_golds(10)
    ordinary = rank_task()
    for answered in range(10):
        assert qualification_of(member(project, alice)).answered == answered
        assert answer(alice, project, RIGHT).trial == Trial.QUALIFICATION
    assert member(project, alice).qualified_at
    assert next_assignment(alice, project).task == ordinary


@pytest.mark.parametrize(
    ("wrong", "half", "passes"), [(2, 0, True), (3, 0, False), (0, 7, True), (0, 8, False)]
)
def test_three_quarters_of_the_comparisons_pass(project, alice, make_golds, wrong, half, passes):
    make_golds(10)
    for number in range(10):
        places = WRONG if number < wrong else HALF if number < wrong + half else RIGHT
        answer(alice, project, places)
    assert bool(member(project, alice).qualified_at) == passes


def test_ties_and_skips_do_not_pass(project, alice, bob, make_golds, rank_task):
    make_golds(10)
    rank_task()
    for _ in range(10):
        answer(alice, project, [1, 1, 1])
        next_assignment(bob, project).skip(reason="cannot_judge")
    for labeler in (alice, bob):
        assert qualification_of(member(project, labeler)).is_failed
        assert next_assignment(labeler, project) is None


def test_who_did_not_pass_may_be_let_try_again_with_new_gold(project, alice, make_golds, rank_task):
    make_golds(10)
    for _ in range(10):
        answer(alice, project, WRONG)
    make_golds(4)
    member(project, alice).requalify()
    for _ in range(4):
        assert answer(alice, project, RIGHT).trial == Trial.QUALIFICATION
    assert member(project, alice).qualified_at


@pytest.mark.parametrize("role", ["reviewer", "operator"])
def test_reviewers_and_operators_need_not_qualify(project, alice, make_golds, role):
    make_golds(10)
    project.memberships.filter(user=alice).update(role=role)
    assert qualification_of(member(project, alice)) is None


def test_who_worked_here_before_there_was_gold_goes_on(project, alice, make_golds, write_task):
    write_task()
    Demonstration.record(assignment=next_assignment(alice, project), text="Boil it.")
    make_golds(10)
    assert qualification_of(member(project, alice)) is None


def test_practice_comes_first_and_counts_for_nothing(project, alice, make_golds):
    make_golds(2, is_practice=True)
    make_golds(10)
    trials = [answer(alice, project, WRONG).trial for _ in range(2)]
    assert trials == [Trial.PRACTICE] * 2
    assert qualification_of(member(project, alice)).answered == 0
    assert answer(alice, project, RIGHT).trial == Trial.QUALIFICATION


# The first answer counts


def placed(work, places):
    return [
        Placement(completion_id=pk, place=n)
        for pk, n in zip(sorted(work.shown_order), places, strict=True)
    ]


def revise(browse, work):
    work.label.revise(revision_no=1, placements=placed(work, RIGHT))


def retract(browse, work):
    work.label.retract(draft={})


def send_back(browse, work):
    work.label.send_back(None)


def post(address, **more):
    def way(browse, work):
        form = {f"place_{each.completion_id}": each.place for each in placed(work, RIGHT)}
        form |= {"idempotency_key": str(uuid.uuid4()), "skip-reason": "unclear", **more}
        reply = browse(work.labeler).post(f"/p/cooking/label/{work.pk}/{address}", form)
        assert reply.status_code in (200, 302)

    return way


WAYS = {
    "revise": revise,
    "retract": retract,
    "send back": send_back,
    "an edit": post("", revision_no=1),
    "an edit of what is not there": post("", revision_no=2),
    "the page sent again": post(""),
    "undo": post("undo/"),
    "a draft": post("draft/"),
    "skip": post("skip/"),
}


@pytest.mark.parametrize("trial", ["practice", "qualification"])
def test_no_way_changes_an_answer_to_practice_or_qualification(
    browse, project, alice, make_golds, trial
):
    make_golds(1, is_practice=True)
    make_golds(10)
    works = [answer(alice, project, WRONG)]
    if trial == Trial.QUALIFICATION:
        works = [answer(alice, project, WRONG) for _ in range(10)]
        assert qualification_of(member(project, alice)).is_failed
    before = list(Ranking.objects.values_list("pk", flat=True))
    for work in works:
        for name, way in WAYS.items():
            with suppress(ValidationError, Conflict):
                way(browse, Assignment.objects.get(pk=work.pk))
            after = list(Ranking.objects.values_list("pk", flat=True))
            assert after == before and Assignment.objects.get(pk=work.pk).is_submitted, name
    assert not member(project, alice).qualified_at
    page = browse(alice).get(f"/p/cooking/label/{works[0].pk}/").content.decode()
    assert "the first answer counts" in page and "<form id=" not in page
    mine = browse(alice).get("/p/cooking/my-work/").content.decode()
    assert "Edit<" not in mine and "View<" in mine


def test_the_page_of_a_qualification_says_that_it_is_final_and_offers_no_undo(
    browse, project, alice, make_golds
):
    make_golds(10)
    answer(alice, project, RIGHT)
    page = browse(alice).get("/p/cooking/label/", follow=True).content.decode()
    assert "once you submit it." in page and "Saved at" in page and "Undo" not in page


def test_what_was_skipped_while_qualifying_is_not_answered_later(
    browse, project, alice, make_golds
):
    make_golds(10)
    skipped = next_assignment(alice, project)
    skipped.skip(reason="unclear")
    for _ in range(9):
        answer(alice, project, HALF)
    assert qualification_of(member(project, alice)).is_failed
    post("")(browse, skipped)
    with pytest.raises(ValidationError, match="skipped"):
        Ranking.record(assignment=skipped, placements=placed(skipped, RIGHT))
    assert Ranking.objects.by(alice).count() == 9
    assert not member(project, alice).qualified_at


# Hidden gold


@pytest.fixture
def qualified(project, alice):
    Membership.objects.filter(user=alice).update(qualified_at=project.created_at)
    return alice


def test_one_ranking_in_twenty_is_hidden_gold(project, qualified, make_golds, rank_task):
    make_golds(10)
    project.gold_every = 4
    project.save()
    for _ in range(80):
        rank_task()
    trials = [answer(qualified, project, RIGHT).trial for _ in range(70)]
    hidden = trials.count(Trial.HIDDEN)
    assert 5 <= hidden <= 10
    assert "hidden hidden" not in " ".join(trials)


def test_hidden_gold_stands_only_before_rankings(project, qualified, make_golds, write_task):
    make_golds(10)
    project.gold_every = 1
    project.save()
    write_task()
    assert next_assignment(qualified, project).trial == ""
    assert next_assignment(qualified, project).task.kind == Task.Kind.WRITE


def test_nobody_meets_gold_on_a_prompt_they_have_ranked(project, qualified, bob, rank_task):
    project.gold_every = 1
    project.save()
    rank_task(overlap=2)
    answer(qualified, project, RIGHT)
    work = answer(bob, project, RIGHT)
    make_gold(work.label)
    rank_task(overlap=2)
    assert next_assignment(qualified, project).trial == ""
    assert next_assignment(bob, project).trial == ""


def test_a_failed_hidden_gold_is_reviewed_beside_the_right_answer(
    browse, project, qualified, bob, rita, olga, make_golds, rank_task
):
    project.gold_every = 1
    project.save()
    make_golds(1)
    rank_task()
    work = answer(qualified, project, WRONG)
    assert work.trial == Trial.HIDDEN
    review = next_assignment(olga, project, only="review")
    assert (review.task.subject, review.task.doubts) == (work.task, ["gold_failed"])
    page = browse(olga).get(f"/p/cooking/review/{review.pk}/").content.decode()
    assert ">Gold<" in page and page.count("spread-4") == 4
    Review.record(assignment=review, verdicts={work.label.pk: "excluded"}, cause="labeler_error")
    assert next_assignment(olga, project, only="review") is None


@pytest.mark.parametrize(("first", "then"), [(WRONG, RIGHT), (RIGHT, WRONG)])
def test_hidden_gold_measures_the_first_answer_whatever_is_made_of_it(
    project, qualified, make_golds, rank_task, first, then
):
    project.gold_every = 1
    project.save()
    make_golds(1)
    rank_task()
    work = answer(qualified, project, first)
    agreed = 3 if first == RIGHT else 0
    assert with_gold(project) == {qualified.pk: [(agreed, 3)]}
    # Refusing the edit would tell which task was gold.
    work.label.revise(revision_no=1, placements=placed(work, then))
    assert with_gold(project) == {qualified.pk: [(agreed, 3)]}
    assert [share.value for _, share in golds(project)] == [agreed / 3]


def test_hidden_gold_taken_back_within_the_seconds_for_it_is_answered_anew(
    project, qualified, make_golds, rank_task
):
    project.gold_every = 1
    project.save()
    make_golds(1)
    rank_task()
    work = answer(qualified, project, WRONG)
    work.label.retract(draft={})
    assert with_gold(project) == {}
    Ranking.record(assignment=work, placements=placed(work, RIGHT))
    assert with_gold(project) == {qualified.pk: [(3, 3)]}


def test_an_undone_gold_answer_leaves_the_review_to_those_who_failed_too(
    project, qualified, bob, olga, make_golds, rank_task
):
    project.gold_every = 1
    project.save()
    make_golds(1)
    project.memberships.filter(user=bob).update(qualified_at=Now())
    rank_task(overlap=2)
    passed, failed = answer(bob, project, RIGHT), answer(qualified, project, WRONG)
    assert {passed.trial, failed.trial} == {Trial.HIDDEN}
    failed.label.retract(draft={})
    assert next_assignment(olga, project, only="review") is None
    placements = [
        Placement(completion_id=pk, place=n)
        for n, pk in enumerate(sorted(failed.shown_order, reverse=True), start=1)
    ]
    Ranking.record(assignment=failed, placements=placements)
    assert next_assignment(olga, project, only="review").task.doubts == ["gold_failed"]


def test_gold_answers_teach_no_model(project, alice, rita, make_golds):
    make_golds(10)
    answer(alice, project, RIGHT)
    assert {ranking.labeler for ranking in rankings(project)} == {rita}


# Making gold


def test_gold_must_prefer_something(project, rita, rank_task):
    rank_task()
    work = answer(rita, project, [1, 1, 1])
    with pytest.raises(ValidationError, match="has only ties"):
        make_gold(work.label)


def test_a_ranking_is_gold_once(project, rita, rank_task):
    rank_task()
    work = answer(rita, project, RIGHT)
    assert make_gold(work.label) == make_gold(work.label)


# Writers


def test_a_writer_is_reviewed_until_the_scores_are_good(project, alice, rita, write_task):
    project.new_writer_reviews = 2
    project.save()
    reviewed = []
    for score in (5, 6, 7, None):
        write_task()
        Demonstration.record(assignment=next_assignment(alice, project), text="Boil it.")
        review = next_assignment(rita, project, only="review")
        reviewed.append(bool(review))
        if review:
            [label] = Demonstration.objects.filter(reviews=None)
            Review.record(
                assignment=review, verdicts={label.pk: "accepted"}, scores={label.pk: score}
            )
    assert reviewed == [True, True, True, False]


# What a new labeler sees


def test_practice_shows_the_right_answer_afterwards_and_no_other_task_does(
    browse, project, alice, bob, make_golds
):
    make_golds(1, is_practice=True)
    make_golds(10)
    client = browse(alice)
    work = next_assignment(alice, project)
    here = f"/p/cooking/label/{work.pk}/"
    assert client.get(f"{here}practice/").status_code == 404
    form = {"idempotency_key": "7d3ad1a4-2f0d-4d1c-9d35-5c1c9f0e6a11"}
    form |= {f"place_{pk}": n for n, pk in enumerate(sorted(work.shown_order, reverse=True), 1)}
    page = client.post(here, form, follow=True)
    assert page.redirect_chain[0][0] == f"{here}practice/"
    assert "in 0 of 3 comparisons" in " ".join(page.content.decode().split())
    assert browse(bob).get(f"{here}practice/").status_code == 404
    measured = answer(alice, project, RIGHT)
    assert client.get(f"/p/cooking/label/{measured.pk}/practice/").status_code == 404


def test_who_did_not_qualify_is_told(browse, project, alice, make_golds):
    make_golds(10)
    for _ in range(10):
        answer(alice, project, WRONG)
    page = browse(alice).get("/p/cooking/label/").content.decode()
    assert "You haven't qualified yet" in page and "75%" in page
    assert ">0%" not in page and " 0%" not in page


def test_nobody_has_failed_while_the_last_task_is_open(browse, project, alice, make_golds):
    make_golds(10)
    for _ in range(9):
        answer(alice, project, WRONG)
    assert next_assignment(alice, project)
    qualification = qualification_of(member(project, alice))
    assert (qualification.answered, qualification.needed) == (9, 10)
    assert not qualification.is_failed


def test_the_first_page_says_how_far_the_qualification_is(browse, project, alice, make_golds):
    make_golds(10)
    answer(alice, project, RIGHT)

    def first_card():
        return browse(alice).get("/p/cooking/").context["to_do"][0]

    assert (first_card().title, first_card().count) == ("Qualify first", "9")
    for _ in range(9):
        answer(alice, project, WRONG)
    assert first_card().title == "You haven't qualified yet"


def test_the_first_ten_minutes_of_a_labeler_explain_themselves(
    browse, project, make_golds, rank_task
):
    project.qualification_tasks = 2
    project.save()
    make_golds(1, is_practice=True)
    make_golds(2)
    rank_task()
    carol = project.admit(name="carol", role=Membership.Role.LABELER)
    page = browse(carol)

    def rank_next():
        [work] = Assignment.objects.by(carol).leased()
        form = {"idempotency_key": str(uuid.uuid4())}
        form |= {f"place_{pk}": n for n, pk in enumerate(sorted(work.shown_order), start=1)}
        return page.post(f"/p/cooking/label/{work.pk}/", form, follow=True).content.decode()

    assert "Read the guideline" in page.get("/p/cooking/").content.decode()
    shown = page.post("/p/cooking/guideline/", {"version": "1"}, follow=True).content.decode()
    assert "It doesn't count" in shown
    assert "How the reviewers ranked it" in rank_next()
    shown = page.get("/p/cooking/label/", follow=True).content.decode()
    assert "Qualification, task 1 of 2." in shown and "75% agreement" in shown
    assert "Qualification, task 2 of 2." in rank_next()
    shown = rank_next()
    assert "You have qualified." in shown and "Qualification, task" not in shown
    mine = page.get("/p/cooking/my-work/").content.decode()
    assert (mine.count(">practice<"), mine.count(">qualification<")) == (1, 2)


def test_hidden_gold_looks_like_any_other_task(browse, project, alice, qualified, make_golds):
    make_golds(1)
    work = next_assignment(alice, project)
    assert work is None  # gold alone is no work
    task = Task.objects.exclude(gold=None).get()
    hidden = Assignment.objects.create(
        task=task,
        labeler=alice,
        trial=Trial.HIDDEN,
        leased_until=task.created_at + timedelta(days=1),
        shown_order=sorted(task.completions.values_list("pk", flat=True)),
    )
    page = browse(alice)
    shown = page.get(f"/p/cooking/label/{hidden.pk}/").content.decode()
    mine = page.get("/p/cooking/my-work/").content.decode()
    for word in ("Practice.", "Qualification", ">hidden", "gold"):
        assert word not in shown.replace("for gold", "") and word not in mine
