"""What a labeler finds of their own work, and what awaits them at home."""

import uuid
from datetime import timedelta

from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from annotate.labelling.queue import next_assignment
from annotate.models import Assignment, Demonstration, Placement, Ranking
from annotate.views.home import to_do

MY_WORK = "/p/cooking/my-work/"


def answer(work, text="Six minutes."):
    if work.task.kind == "write":
        return Demonstration.record(assignment=work, text=text)
    placements = [Placement(completion_id=pk, place=n) for n, pk in enumerate(work.shown_order, 1)]
    return Ranking.record(assignment=work, placements=placements)


def expire(work):
    Assignment.objects.filter(pk=work.pk).update(leased_until=Now() - timedelta(seconds=1))


def test_without_work_the_page_says_where_to_begin(browse, alice):
    assert "Start labelling" in browse(alice).get(MY_WORK).content.decode()


def test_each_state_is_named(browse, alice, bob, project, write_task, rank_task):
    from rlhf.models import Run

    def in_state(make):
        write_task()
        work = next_assignment(alice, project)
        make(work)
        return work

    in_state(answer)
    in_state(lambda work: answer(work).revise(revision_no=1, text="Better"))

    def used(work):
        run = Run.objects.create(project=project, kind=Run.Kind.SFT)
        project.snapshots.create(run=run, sha256="0", counts={}).demonstrations.add(answer(work))

    in_state(used)

    def late(work):
        expire(work)
        next_assignment(bob, project)
        assert answer(work).late

    in_state(late)
    in_state(lambda work: work.skip(reason="unsafe"))

    def draft(work):
        work.save_draft(draft={"text": "Half"}, active_seconds=1)
        expire(work)

    kept = in_state(draft)
    Assignment.objects.filter(pk=kept.pk).update(leased_until=Now() - timedelta(hours=1))
    rank_task()
    retracted = next_assignment(alice, project)
    answer(retracted).retract(draft={})
    html = browse(alice).get(MY_WORK).content.decode()
    for state in (
        "in force",
        "revision 2",
        "skipped: Unsafe to answer",
        "used in a round",
        "late, kept as an extra",
        "time ran out, draft kept",
        "taken back",
        "open now",
    ):
        assert state in html, state


def test_it_lists_only_ones_own(browse, alice, bob, project, write_task):
    write_task()
    answer(next_assignment(bob, project), "Bob's words")
    assert "Bob&#x27;s words" not in browse(alice).get(MY_WORK).content.decode()
    assert "Bob&#x27;s words" in browse(bob).get(MY_WORK).content.decode()


def test_it_filters_by_kind(browse, alice, project, write_task, rank_task):
    for make in (write_task, rank_task):
        make()
        answer(next_assignment(alice, project))
    page = browse(alice).get(MY_WORK, {"kind": "write"}).context["page"]
    assert [work.task.kind for work in page.rows] == ["write"]
    assert len(browse(alice).get(MY_WORK, {"kind": "nonsense"}).context["page"].rows) == 2


def test_it_pages_and_costs_the_same_whatever_it_lists(browse, alice, project, rank_task):
    def queries():
        client = browse(alice)
        with CaptureQueriesContext(connection) as captured:
            client.get(MY_WORK)
        return len(captured)

    def do(count):
        for _ in range(count):
            rank_task()
            answer(next_assignment(alice, project))

    do(2)
    few = queries()
    do(28)
    assert queries() == few
    client = browse(alice)
    onward = client.get(MY_WORK).context["page"].next
    assert len(client.get(MY_WORK, {"after": onward}).context["page"].rows) == 5


def test_what_may_be_edited_says_so(browse, alice, project, write_task):
    write_task()
    work = next_assignment(alice, project)
    answer(work)
    assert "Edit<" in browse(alice).get(MY_WORK).content.decode()
    Assignment.objects.update(ended_at=Now() - timedelta(hours=3))
    assert "View<" in browse(alice).get(MY_WORK).content.decode()


# Home


def titles(user):
    return [item.title for item in to_do(user.memberships.get())]


def test_home_names_what_waits(alice, project, write_task, rank_task):
    assert titles(alice) == ["Nothing waits for you"]
    write_task()
    rank_task()
    rank_task()
    assert [(item.title, item.count) for item in to_do(alice.memberships.get())] == [
        ("Rank answers", "2"),
        ("Write answers", "1"),
    ]
    work = next_assignment(alice, project)
    assert titles(alice) == ["Go on", "Rank answers", "Write answers"]
    work.save_draft(draft={"reason": "B"}, active_seconds=1)
    expire(work)
    assert titles(alice) == ["Rank answers", "Write answers", "Finish drafts"]


def test_home_leads_an_operator_round_the_wheel(olga, project, write_task, rank_task):
    project.guidelines.all().delete()
    first = ["Write the guideline", "Import prompts", "Invite people", "Choose a live policy"]
    assert titles(olga)[-4:] == first
    project.publish_guideline(text="Be brief.", author=olga)
    project.memberships.update(guideline_read=1)
    project.admit(name="alice", role="labeler")
    assert titles(olga)[-2:] == ["Import prompts", "Choose a live policy"]
    write_task()
    rank_task()
    for _ in range(2):
        answer(next_assignment(olga, project))
    assert titles(olga)[-3:] == ["Give people work", "Launch a round", "Choose a live policy"]


def test_the_project_page_shows_it(browse, alice, write_task):
    write_task()
    assert "Write answers" in browse(alice).get("/p/cooking/").content.decode()


def test_one_turn_of_the_browser_costs_the_same_whatever_the_queue_holds(
    browse, alice, project, write_task
):
    client = browse(alice)

    def queries_of_a_turn():
        work = next_assignment(alice, project)
        form = {"text": "Six.", "idempotency_key": str(uuid.uuid4())}
        with CaptureQueriesContext(connection) as captured:
            client.post(f"/p/cooking/label/{work.pk}/", form, follow=True)
        return len(captured)

    for count in (3, 40):
        for _ in range(count):
            write_task()
        if count == 3:
            few = queries_of_a_turn()
    assert queries_of_a_turn() == few
