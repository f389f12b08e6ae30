"""Reviews: who gets them, what a reviewer decides, and what becomes of the labels."""

import re
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from annotate.labelling.queue import next_assignment
from annotate.labels.label import Conflict
from annotate.models import Assignment, Demonstration, Membership, Placement, Ranking, Review, Task
from annotate.text.diff import changes
from annotate.views.home import to_do
from rlhf.data.selection import rankings
from tests.annotate.answering import doubts, rank, write

Doubt = Task.Doubt
REVIEW = "/p/cooking/review/"


# The queue


@pytest.fixture
def disagreement(project, alice, bob, rank_task):
    """Alice and Bob, of the opposite opinion about three completions."""
    rank_task(overlap=2)
    return rank(alice, project, [0, 1, 2]), rank(bob, project, [2, 1, 0])


def test_reviews_go_to_reviewers_who_have_not_answered_themselves(
    project, alice, bob, rita, olga, disagreement
):
    assert next_assignment(alice, project) is None
    members = project.memberships.filter(user=bob)
    members.update(role=Membership.Role.REVIEWER)
    assert next_assignment(bob, project) is None
    assert next_assignment(rita, project).task.kind == Task.Kind.REVIEW
    assert next_assignment(olga, project) is None


def test_home_tells_a_reviewer_of_the_reviews_that_wait(project, rita, olga, disagreement, browse):
    [step] = to_do(rita.memberships.get())
    assert (step.title, step.url_name, step.count) == ("Review answers", "reviews", "1")
    assert f'href="{REVIEW}"' in browse(rita).get("/p/cooking/").text
    next_assignment(rita, project)
    assert [step.title for step in to_do(rita.memberships.get())] == ["Continue"]


# Undo


def places(order):
    return [Placement(completion_id=pk, place=n) for n, pk in enumerate(order, start=1)]


def test_an_undone_answer_leaves_no_review_behind(browse, project, alice, rita, rank_task):
    rank_task()
    undone = rank(alice, project, [[0, 1, 2]], outcome="all_bad")
    undone.retract(draft={})
    assert doubts() == []
    assert next_assignment(rita, project, only="review") is None
    assert "No reviews waiting" in browse(rita).get(REVIEW).content.decode()


def test_the_answer_given_anew_is_looked_over_anew(project, alice, bob, disagreement):
    _, undone = disagreement
    undone.retract(draft={})
    assert doubts() == []
    order = sorted(undone.assignment.shown_order)
    again = Ranking.record(assignment=undone.assignment, placements=places(order))
    assert doubts() == []
    again.retract(draft={})
    Ranking.record(assignment=undone.assignment, placements=places(order[::-1]))
    assert doubts() == [[Doubt.LOW_AGREEMENT]]


def test_a_review_that_somebody_has_opened_stays_and_can_be_ended(
    browse, project, alice, rita, disagreement
):
    work = next_assignment(rita, project)
    disagreement[0].retract(draft={})
    assert act(browse, rita, project, "accept").status_code == 302
    work.refresh_from_db()
    assert work.is_submitted and verdicts() == [("bob", "accepted")]


def test_an_undone_extra_answer_takes_back_its_own_review_only(
    project, alice, bob, rita, write_task
):
    project.random_review_percent = 100
    project.save()
    write_task()
    late = next_assignment(alice, project)
    Assignment.objects.filter(pk=late.pk).update(leased_until=Now() - timedelta(seconds=1))
    write(bob, project)
    extra = Demonstration.record(assignment=late, text="Too late.")
    extra.retract(draft={})
    assert len(doubts()) == 1  # Bob's answer is still to be reviewed
    work = next_assignment(rita, project)
    bobs = Demonstration.objects.current().get()
    Review.record(assignment=work, verdicts={bobs.pk: "accepted"})
    extra = Demonstration.record(assignment=late, text="Too late again.")
    assert len(doubts()) == 2
    extra.retract(draft={})
    assert Task.objects.of_kind("review").open().count() == 0


def test_a_review_is_not_undone_by_half(browse, project, rita, disagreement):
    assert act(browse, rita, project, "own", **own_order(rita, project)).status_code == 302
    own = Ranking.objects.get(labeler=rita)
    page = browse(rita).get("/p/cooking/label/").content.decode()
    assert "/undo/" not in page
    with pytest.raises(ValidationError, match="review"):
        own.retract(draft={})


def own_order(rita, project):
    work = next_assignment(rita, project, only="review")
    return {f"place_{pk}": n for n, pk in enumerate(work.shown_order, start=1)}


# Verdicts


def act(browse, rita, project, verdict, **fields):
    work = next_assignment(rita, project, only="review")
    page = browse(rita).get(f"{REVIEW}{work.pk}/")
    seen = page.context["form"].initial["seen"]
    form = {"verdict": verdict, "seen": seen, "cause": "labeler_error", **fields}
    return browse(rita).post(f"{REVIEW}{work.pk}/", form)


def verdicts():
    return [(review.label.labeler.username, review.verdict) for review in Review.objects.all()]


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ("accept", ["accepted", "accepted"]),
        ("exclude", ["excluded", "excluded"]),
        ("exclude:2", ["accepted", "excluded"]),
        ("pick:1", ["accepted", "excluded"]),
        ("pick:2", ["excluded", "accepted"]),
        ("send_back:1", ["sent_back", "accepted"]),
    ],
)
def test_each_button_has_its_verdicts(browse, project, rita, disagreement, verdict, expected):
    response = act(browse, rita, project, verdict, comment="B makes things up.")
    assert response.status_code == 302
    assert verdicts() == list(zip(["alice", "bob"], expected, strict=True))
    usable = [("alice", "bob")[expected.index(v)] for v in expected if v == "accepted"]
    names = [ranking.labeler.username for ranking in rankings(project)]
    assert len(names) == len(usable)
    review = Task.objects.of_kind("review").get()
    assert review.closed_at is not None


def test_the_reviewers_own_ranking_takes_the_place_of_the_others(
    browse, project, rita, disagreement
):
    work = next_assignment(rita, project)
    own = {f"place_{pk}": place for place, pk in enumerate(sorted(work.shown_order), start=1)}
    assert act(browse, rita, project, "own", **own).status_code == 302
    [left] = rankings(project)
    assert left.labeler == rita and len(left.placed) == 3
    assert verdicts() == [("alice", "excluded"), ("bob", "excluded")]


@pytest.mark.parametrize("chosen", [True, False])
def test_the_reviewers_own_ranking_is_gold_where_the_reviewer_says_so(
    browse, project, rita, disagreement, chosen
):
    work = next_assignment(rita, project)
    page = browse(rita).get(f"{REVIEW}{work.pk}/")
    assert not page.context["form"]["as_gold"].value()
    more = {"as_gold": "on"} if chosen else {}
    act(browse, rita, project, "own", **own_order(rita, project), **more)
    own = Ranking.objects.get(labeler=rita)
    gold = [task.gold for task in Task.objects.exclude(gold=None)]
    assert gold == ([own] if chosen else [])


@pytest.mark.parametrize("verdict", ["own", "pick:1"])
def test_what_cannot_be_gold_is_refused_and_settles_nothing(
    browse, project, rita, disagreement, verdict
):
    ties = dict.fromkeys(own_order(rita, project), 1)
    reply = act(browse, rita, project, verdict, as_gold="on", **ties)
    said = {"own": "has only ties", "pick:1": "Only your own ranking"}[verdict]
    assert reply.status_code == 422 and said in reply.content.decode()
    assert reply.context["form"]["as_gold"].value()
    assert not Review.objects.exists() and not Ranking.objects.filter(labeler=rita).exists()


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        ("send_back:1", [True, False]),
        ("exclude:2", [False, True]),
        ("pick:2", [True, False]),
        ("accept", [True, True]),
        ("exclude", [True, True]),
    ],
)
def test_a_comment_reaches_those_it_is_meant_for(
    browse, project, rita, disagreement, verdict, told
):
    said = {"comment": "You made this up.", "cause": "labeler_error"}
    assert act(browse, rita, project, verdict, **said).status_code == 302
    stored = [(each.comment, each.cause) for each in Review.objects.order_by("ranking")]
    assert stored == [(said["comment"], said["cause"]) if each else ("", "") for each in told]
    pages = [browse(label.labeler).get(f"/p/cooking/label/{label.assignment_id}/").text
             for label in disagreement]  # fmt: skip
    assert [said["comment"] in page for page in pages] == told


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"verdict": "pick:1", "cause": ""}, "Choose a cause"),
        ({"verdict": "send_back:1"}, "what to change"),
        ({"verdict": "own"}, "Choose a tier for"),
        ({"verdict": "pick:3"}, "no L3"),
        ({"verdict": "delete"}, "one of the buttons"),
    ],
)
def test_an_unfinished_verdict_is_refused_with_what_to_do(
    browse, project, rita, disagreement, fields, problem
):
    response = act(browse, rita, project, fields.pop("verdict"), **fields)
    assert response.status_code == 422
    assert problem in response.content.decode()
    assert not Review.objects.exists()


def test_answers_that_changed_meanwhile_are_shown_again(browse, project, rita, disagreement):
    work = next_assignment(rita, project)
    first = disagreement[0]
    placements = [Placement(completion_id=p.completion_id, place=1) for p in first.placed]
    seen = " ".join(str(label.pk) for label in disagreement)
    first.revise(revision_no=1, placements=placements)
    sent = {"verdict": "accept", "comment": "Well seen.", f"place_{placements[0].completion_id}": 2}
    response = browse(rita).post(f"{REVIEW}{work.pk}/", {**sent, "seen": seen})
    assert response.status_code == 409
    assert "have changed since" in response.content.decode()
    assert not Review.objects.exists()
    # What was filled in is kept, and deciding again is about the answers shown now.
    form = response.context["form"]
    assert {name: form[name].value() for name in sent} == {name: str(v) for name, v in sent.items()}
    again = browse(rita).post(f"{REVIEW}{work.pk}/", {**sent, "seen": form["seen"].value()})
    assert again.status_code == 302 and Review.objects.count() == 2


def test_two_clicks_are_one_review(project, rita, disagreement):
    work = next_assignment(rita, project)
    said = {label.pk: "accepted" for label in disagreement}
    Review.record(assignment=work, verdicts=said)
    with pytest.raises(Conflict):
        Review.record(assignment=work, verdicts=said)
    assert Review.objects.count() == 2


def test_a_lost_lease_ends_no_review(project, rita, olga, disagreement):
    work = next_assignment(rita, project)
    Assignment.objects.filter(pk=work.pk).update(leased_until=Now() - timedelta(seconds=1))
    assert next_assignment(olga, project).task == work.task
    with pytest.raises(Conflict, match="somebody else"):
        Review.record(assignment=work, verdicts={each.pk: "accepted" for each in disagreement})
    work.refresh_from_db()
    assert (work.state, Review.objects.count()) == ("leased", 0)


def test_what_a_reviewer_judged_its_labeler_can_no_longer_change(project, rita, disagreement):
    first, second = disagreement
    work = next_assignment(rita, project)
    Review.record(assignment=work, verdicts={first.pk: "excluded", second.pk: "accepted"})
    for label in disagreement:
        placements = [Placement(completion_id=p.completion_id, place=1) for p in label.placed]
        with pytest.raises(ValidationError, match="reviewer has judged"):
            label.revise(revision_no=1, placements=placements)
        with pytest.raises(ValidationError):
            label.retract(draft={})


@pytest.mark.parametrize("verdict", ["accept", "own"])
@pytest.mark.parametrize(("sent", "stored"), [("75", 75), ("-3", 0), ("", 0), ("99999999", 86400)])
def test_the_time_of_a_review_counts(browse, project, rita, disagreement, verdict, sent, stored):
    said = {"active_seconds": sent, **own_order(rita, project)}
    assert act(browse, rita, project, verdict, **said).status_code == 302
    assert Assignment.objects.get(labeler=rita).active_seconds == stored
    assert [own.active_seconds for own in Ranking.objects.filter(labeler=rita)] in ([], [stored])


# Of two


@pytest.fixture
def pair(project, alice, bob, rank_task):
    rank_task(k=2, overlap=2)
    return rank(alice, project, [0, 1], strength=4), rank(bob, project, [1, 0], strength=1)


def test_how_much_better_the_one_of_two_was_said_to_be_is_seen(browse, project, rita, pair):
    work = next_assignment(rita, project)
    page = browse(rita).get(f"{REVIEW}{work.pk}/").text
    assert page.count(">much better</span>") == page.count(">barely better</span>") == 1
    assert "much better" in browse(pair[0].labeler).get("/p/cooking/my-work/").text


def test_a_reviewer_says_by_how_much_too(browse, project, rita, pair):
    tie = dict.fromkeys(own_order(rita, project), 1)
    refused = act(browse, rita, project, "own", **tie, strength=3)
    assert refused.status_code == 422 and "of which one is better" in refused.text
    said = {**own_order(rita, project), "strength": 3}
    assert act(browse, rita, project, "own", **said).status_code == 302
    assert Ranking.objects.get(labeler=rita).strength == 3


# Sent back


def test_sent_back_work_returns_to_its_labeler_and_is_reviewed_again(
    browse, project, alice, bob, rita, write_task
):
    project.random_review_percent = 100
    project.save()
    write_task()
    write(alice, project, "Boil it.")
    assert act(browse, rita, project, "send_back", comment="How long?", score=3).status_code == 302
    assert next_assignment(bob, project) is None  # the place stays alice's

    assert "Fix returned answers" in browse(alice).get("/p/cooking/").content.decode()
    assert "returned by a reviewer" in browse(alice).get("/p/cooking/my-work/").content.decode()
    page = browse(alice).get("/p/cooking/label/", follow=True)
    text = page.content.decode()
    assert "How long?" in text and page.context["form"].initial["text"] == "Boil it."
    project.random_review_percent = 0
    project.save()
    write(alice, project, "Boil it for six minutes.")

    review = next_assignment(rita, project)
    assert review.task.doubts == [Doubt.CORRECTED]
    page = browse(rita).get(f"{REVIEW}{review.pk}/").content.decode()
    assert "Boil it<ins> for six minutes</ins>" in page.replace("\n", "")
    assert "How long?" in page
    assert act(browse, rita, project, "accept", score=7, cause="").status_code == 302
    assert [review.score for review in Review.objects.all()] == [3, 7]


# Demonstrations


@pytest.fixture
def demonstration(project, alice, write_task):
    project.random_review_percent = 100
    project.save()
    write_task()
    return write(alice, project, "Boil the egg.")


def test_a_demonstration_is_scored(browse, project, rita, demonstration):
    response = act(browse, rita, project, "accept")
    assert response.status_code == 422 and "from 1 to 7" in response.content.decode()
    assert act(browse, rita, project, "accept", score=6).status_code == 302
    assert Review.objects.get().score == 6


@pytest.fixture
def two_demonstrations(project, alice, bob, write_task):
    project.random_review_percent = 100
    project.save()
    write_task(overlap=2)
    return write(alice, project, "Boil the egg."), write(bob, project, "Fry the egg.")


@pytest.mark.parametrize(
    ("verdict", "scores", "stored"),
    [
        ("accept", {"score_1": 6, "score_2": 2}, [6, 2]),
        ("pick:2", {"score_2": 7}, [None, 7]),
        ("send_back:1", {"score_2": 5}, [None, 5]),
        ("exclude", {}, [None, None]),
    ],
)
def test_each_of_several_demonstrations_has_its_own_score(
    browse, project, rita, two_demonstrations, verdict, scores, stored
):
    said = {"comment": "How long?", **scores}
    assert act(browse, rita, project, verdict, **said).status_code == 302
    assert [each.score for each in Review.objects.order_by("demonstration")] == stored


def test_an_accepted_demonstration_without_a_score_is_named(
    browse, project, rita, two_demonstrations
):
    reply = act(browse, rita, project, "accept", score_1=6, score=6)
    assert reply.status_code == 422 and list(reply.context["form"].errors) == ["score_2"]
    assert "Score of L2" in reply.text and "from 1 to 7" in reply.text
    assert not Review.objects.exists()


def test_an_edit_shows_its_changes_and_becomes_the_reviewers_demonstration(
    browse, project, rita, demonstration
):
    edit = {"text": "Boil the egg for six minutes.", "score": 4}
    page = act(browse, rita, project, "", preview="", **edit).content.decode()
    assert "Boil the egg<ins> for six minutes</ins>." in page
    assert 'role="alert"' not in page
    assert act(browse, rita, project, "own", **edit).status_code == 302
    own = Demonstration.objects.get(labeler=rita)
    assert own.text == edit["text"]
    assert verdicts() == [("alice", "excluded")]


@pytest.mark.parametrize("verdict", ["accept", "send_back", "exclude"])
def test_a_version_of_the_reviewers_own_is_not_dropped_without_a_word(
    browse, project, rita, demonstration, verdict
):
    said = {"text": "Boil the egg for six minutes.", "score": 4, "comment": "How long?"}
    asked = act(browse, rita, project, verdict, **said)
    assert asked.status_code == 422 and "does not use your version" in asked.text
    assert asked.context["form"]["text"].value() == said["text"]
    assert not Review.objects.exists()
    assert act(browse, rita, project, verdict, **said, leave_out="on").status_code == 302
    assert not Demonstration.objects.filter(labeler=rita).exists()


def test_an_answer_left_as_it_is_asks_nothing(browse, project, rita, demonstration):
    assert "Leave my version out" not in browse(rita).get(f"{REVIEW}next/", follow=True).text
    reply = act(browse, rita, project, "accept", text="Boil the egg.\r\n", score=6)
    assert reply.status_code == 302


@pytest.mark.parametrize(
    ("before", "after"),
    [("", "new"), ("a b c", "a c"), ("one\ntwo", "one\n\ntwo!"), ("x " * 15_000, "y " * 15_000)],
)
def test_a_diff_joins_to_both_texts(before, after):
    pieces = changes(before, after)
    assert "".join(piece for kind, piece in pieces if kind != "new") == before
    assert "".join(piece for kind, piece in pieces if kind != "gone") == after


# Pages


def test_labelers_are_letters_and_disagreement_is_shaded(browse, project, rita, disagreement):
    work = next_assignment(rita, project)
    page = browse(rita).get(f"{REVIEW}{work.pk}/").content.decode()
    assert not re.search(r"\b(alice|bob)\b", page)
    assert ">L1" in page and ">L2" in page
    assert page.count("spread-4") == 4 and page.count("spread-0") == 2


def test_the_list_says_why_and_keeps_what_is_settled(browse, project, rita, disagreement):
    assert "low agreement" in browse(rita).get(REVIEW).content.decode()
    act(browse, rita, project, "accept")
    assert "No reviews waiting" in browse(rita).get(REVIEW).content.decode()
    assert "low agreement" in browse(rita).get(REVIEW, {"state": "settled"}).content.decode()


def test_every_reviewer_may_read_a_past_review(browse, project, rita, olga, disagreement):
    act(browse, rita, project, "pick:1", comment="B makes things up.")
    work = Assignment.objects.get(task__kind="review")
    listed = browse(olga).get(REVIEW, {"state": "settled"}).content.decode()
    assert f'href="{REVIEW}{work.pk}/"' in listed
    assert "accepted" in listed and "excluded" in listed and "rita" in listed
    page = browse(olga).get(f"{REVIEW}{work.pk}/").content.decode()
    said = ["alice", "bob", "rita", "accepted", "excluded", "labeler error", "B makes things up."]
    assert all(each in page for each in [*said, "Answer 0", "Answer 1", "Answer 2"])
    again = browse(olga).post(f"{REVIEW}{work.pk}/", {"verdict": "exclude"})
    assert again.status_code == 200 and Review.objects.count() == 2


def test_the_settled_list_costs_the_same_whatever_it_lists(browse, project, alice, rita, rank_task):
    def queries():
        client = browse(rita)
        with CaptureQueriesContext(connection) as captured:
            client.get(REVIEW, {"state": "settled"})
        return len(captured)

    def settle():
        rank_task()
        rank(alice, project, [[0, 1, 2]], outcome="all_bad")
        act(browse, rita, project, "accept")

    settle()
    few = queries()
    settle()
    settle()
    assert queries() == few


def test_a_labeler_reads_the_verdict_on_their_answer_and_not_whose_it_is(
    browse, project, alice, rita, disagreement
):
    act(browse, rita, project, "exclude:1", comment="Read rule 3 again.")
    page = browse(alice).get(f"/p/cooking/label/{disagreement[0].assignment_id}/").content.decode()
    assert "excluded" in page and "Labeler error" in page and "Read rule 3 again." in page
    assert not re.search(r"\b(rita|bob)\b", page)


def test_the_queue_leads_a_reviewer_to_the_review(browse, project, rita, disagreement):
    page = browse(rita).get("/p/cooking/label/", follow=True)
    assert page.redirect_chain[-1][0].startswith(REVIEW)


def test_a_foreign_review_answers_like_a_missing_one(
    browse, project, alice, rita, olga, mallory, disagreement
):
    work = next_assignment(rita, project)
    for address in (REVIEW, f"{REVIEW}next/", f"{REVIEW}{work.pk}/"):
        assert browse(mallory).get(address).status_code == 404
        assert browse(alice).get(address).status_code == 403
    missing = browse(olga).get(f"{REVIEW}999999/")
    theirs = browse(olga).get(f"{REVIEW}{work.pk}/")
    assert missing.status_code == theirs.status_code == 404
    there = f"/p/elsewhere/review/{work.pk}/"
    assert browse(mallory).get(there).status_code == 404
    assert browse(mallory).post(there, {"verdict": "exclude"}).status_code == 404
