"""The leads' dashboard and the page of gold tasks."""

from datetime import timedelta

import pytest
from django.utils import timezone

from annotate.labelling.queue import next_assignment
from annotate.models import Assignment, Demonstration, Placement, Ranking, Task
from annotate.quality import progress

PROGRESS, GOLD = "/p/cooking/progress/", "/p/cooking/gold/"


def rank(labeler, project):
    work = next_assignment(labeler, project)
    placed = [Placement(completion_id=pk, place=n) for n, pk in enumerate(work.shown_order, 1)]
    return Ranking.record(assignment=work, placements=placed)


def test_it_tells_what_is_done_what_is_left_and_when_it_ends(project, alice, bob, write_task):
    for _ in range(3):
        write_task(overlap=2)
    for labeler in (alice, bob, alice):
        Demonstration.record(assignment=next_assignment(labeler, project), text="Boil it.")
    [writing] = progress.progress(project)
    assert (writing.kind, writing.wanted, writing.answered, writing.left) == ("write", 6, 3, 3)
    assert (writing.pace, writing.days_left) == (3, 1)
    assert (writing.finish - Assignment.objects.latest("pk").ended_at).days in (0, 1)
    [(_, answers)] = progress.throughput(project)
    assert answers == 3


def test_nobody_waits_for_a_task_that_is_closed(project, alice, bob, write_task):
    for _ in range(2):
        write_task(overlap=2)
    Demonstration.record(assignment=next_assignment(alice, project), text="Boil it.")
    Task.objects.update(closed_at=timezone.now())
    [writing] = progress.progress(project)
    assert (writing.wanted, writing.answered, writing.left) == (1, 1, 0)


@pytest.mark.parametrize(
    ("days_ago", "pace", "days_left"),
    [
        ([0, 0, 0, 0], 4, 2),
        ([0, 0, 3, 3], 2, 4),
        ([1, 3, 5, 6], 1, 8),
        ([6, 6, 6, 6], 4, 2),
        ([0, 0, 7, 20], 2, 4),  # older than the week: they say nothing of the pace
        ([7, 7, 20, 20], 0, None),
    ],
)
def test_the_forecast_divides_by_the_days_worked(
    project, alice, bob, write_task, browse, rita, days_ago, pace, days_left
):
    for _ in range(12):
        write_task()
    for ago in days_ago:
        work = next_assignment(alice, project)
        Demonstration.record(assignment=work, text="Boil it.")
        Assignment.objects.filter(pk=work.pk).update(ended_at=timezone.now() - timedelta(days=ago))
    [writing] = progress.progress(project)
    assert (writing.answered, writing.left) == (4, 8)
    assert (writing.pace, writing.days_left) == (pace, days_left)
    page = browse(rita).get(PROGRESS).content.decode()
    assert (f"done in {days_left} days of work" in page) == (days_left is not None)


def test_it_tells_what_holds_the_queue_up(project, alice, bob, write_task):
    for _ in range(3):
        write_task()
    next_assignment(alice, project).skip(reason="unclear")
    next_assignment(bob, project)
    health = progress.queue_health(project)
    assert (health["open tasks"], health["in progress"], health["skipped"]) == (3, 1, 1)
    assert progress.skip_reasons(project) == [("The prompt is unclear", 1)]


def test_leads_read_what_labelers_have_to_say(browse, project, alice, bob, rita, olga, write_task):
    for _ in range(3):
        write_task()
    next_assignment(bob, project).skip(reason="unclear", note="Which pan is <meant>?")
    next_assignment(bob, project).skip(reason="unclear")  # has nothing to say
    for comment in ("Odd prompt.", ""):
        work = next_assignment(alice, project)
        Demonstration.record(assignment=work, text="Boil it.", comment=comment)
    said = [(each.who, each.about, each.text) for each in progress.remarks(project)]
    assert said == [
        ("alice", "a demonstration", "Odd prompt."),
        ("bob", "a skip: The prompt is unclear", "Which pan is <meant>?"),
    ]
    page = browse(rita).get(PROGRESS).content.decode()
    assert "Which pan is &lt;meant&gt;?" in page and "/prompts/" not in page
    assert "/p/cooking/prompts/" in browse(olga).get(PROGRESS).content.decode()


def test_the_page_shows_agreement(browse, project, alice, bob, rita, rank_task):
    assert "No tasks yet" in browse(rita).get(PROGRESS).content.decode()
    rank_task(overlap=2)
    rank(alice, project)
    rank(bob, project)
    page = browse(rita).get(PROGRESS).content.decode()
    assert "Krippendorff" in page and "Guideline v1" not in page and "2 of 2 answers" in page
    assert page.count('<rect class="bar"') == progress.SHOWN_DAYS
    project.publish_guideline(text="Be shorter still.", author=None)
    rank_task(overlap=2)
    rank(alice, project)
    rank(bob, project)
    page = browse(rita).get(PROGRESS).content.decode()
    assert "Guideline v1" in page and "Guideline v2" in page


def test_a_lead_makes_gold_of_an_own_ranking_uses_it_for_practice_and_retires_it(
    browse, project, rita, rank_task
):
    rank_task()
    own = rank(rita, project)
    client = browse(rita)
    assert "Use as gold" in client.get(GOLD).content.decode()
    states = []
    for act in ("gold", "practice", "gold", "retire"):
        client.post(GOLD, {"ranking": own.pk, "act": act})
        task = Task.objects.get(gold=own)
        states.append((task.is_practice, task.closed_at is None))
    assert states == [(False, True), (True, True), (False, True), (False, False)]


def test_leads_only_and_nothing_of_another_project(
    browse, project, alice, rita, mallory, rank_task
):
    rank_task()
    own = rank(rita, project)
    for address in (PROGRESS, GOLD):
        assert browse(alice).get(address).status_code == 403
        assert browse(mallory).get(address).status_code == 404
    theirs = browse(mallory).post("/p/elsewhere/gold/", {"ranking": own.pk, "act": "gold"})
    missing = browse(mallory).post("/p/elsewhere/gold/", {"ranking": "nonsense", "act": "gold"})
    assert theirs.status_code == missing.status_code == 404
    assert not Task.objects.exclude(gold=None).exists()
