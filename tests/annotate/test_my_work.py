"""What a labeler finds of their own work, and what awaits them at home."""

import uuid
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotate.labelling.queue import next_assignment
from annotate.models import Assignment, Demonstration, Placement, Ranking, Review, Task
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
        "saved",
        "revision 2",
        "skipped: Unsafe to answer",
        "used in a round",
        "late, kept as extra",
        "expired, draft saved",
        "undone",
        "in progress",
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
    assert titles(alice) == ["All done"]
    write_task()
    rank_task()
    rank_task()
    assert [(item.title, item.count) for item in to_do(alice.memberships.get())] == [
        ("Rank answers", "2"),
        ("Write answers", "1"),
    ]
    work = next_assignment(alice, project)
    first, *rest = to_do(alice.memberships.get())
    assert (first.title, first.count) == ("Continue ranking", "2")
    assert [item.title for item in rest] == ["Write answers"]
    work.save_draft(draft={"reason": "B"}, active_seconds=1)
    expire(work)
    assert titles(alice) == ["Rank answers", "Write answers", "Finish drafts"]


def opened(browse, labeler, title):
    """The assignment that a card of Home opens."""
    [card] = [card for card in to_do(labeler.memberships.get()) if card.title == title]
    client = browse(labeler)
    page = client.get("/p/cooking/").content.decode()
    address = f"{reverse(card.url_name, args=['cooking'])}{card.query}"
    assert f'href="{address}"' in page
    reply = client.get(address, follow=True)
    assert reply.status_code == 200
    return reply


@pytest.mark.parametrize(("title", "kind"), [("Write answers", "write"), ("Rank answers", "rank")])
def test_a_card_opens_the_kind_it_names_and_goes_on_with_it(
    browse, alice, project, write_task, rank_task, title, kind
):
    for _ in range(2):
        rank_task()
        write_task()
    other = {"write": "rank", "rank": "write"}[kind]
    next_assignment(alice, project, only=other)  # begun, and yet not what was asked for
    reply = opened(browse, alice, title)
    work = reply.context["work"]
    assert work.task.kind == kind
    answered = {
        "write": {"text": "Boil it."},
        "rank": {f"place_{pk}": n for n, pk in enumerate(work.shown_order, 1)},
    }[kind]
    address = f"/p/cooking/label/{work.pk}/?only={kind}"
    assert f'action="{address}"' in reply.content.decode()
    submit = {**answered, "idempotency_key": str(uuid.uuid4()), "active_seconds": 1}
    reply = browse(alice).post(address, submit, follow=True)
    work.refresh_from_db()
    assert work.is_submitted
    assert reply.context["work"].task.kind == kind
    skip = {"skip-reason": "unclear"}
    address = f"/p/cooking/label/{reply.context['work'].pk}/skip/?only={kind}"
    reply = browse(alice).post(address, skip, follow=True)
    done = {"write": "written", "rank": "ranked"}[kind]
    said = f"Nothing is left to be {done}."
    assert said in reply.content.decode(), "what is gone is said, and then comes what else waits"
    assert reply.context["work"].task.kind == other


def test_an_undo_stays_with_the_kind_that_was_asked_for(
    browse, alice, project, write_task, rank_task
):
    for _ in range(2):
        write_task()
        rank_task()
    client = browse(alice)
    begun = client.get("/p/cooking/label/?only=write", follow=True).context["work"]
    sent = {"text": "Boil it.", "idempotency_key": str(uuid.uuid4()), "active_seconds": 1}
    reply = client.post(f"/p/cooking/label/{begun.pk}/?only=write", sent, follow=True)
    undo = f"/p/cooking/label/{begun.pk}/undo/?only=write"
    assert f'action="{undo}"' in reply.text
    reply = client.post(undo, follow=True)
    assert reply.context["work"] == begun
    assert f'action="/p/cooking/label/{begun.pk}/?only=write"' in reply.text


def test_the_card_of_returned_answers_opens_them_wherever_they_are(
    browse, alice, rita, project, write_task
):
    for _ in range(60):
        write_task()
    for _ in range(57):
        answer(next_assignment(alice, project))
    oldest, second = Assignment.objects.order_by("pk")[:2]
    for work in (oldest, second):
        with transaction.atomic():
            review = Review.objects.create(
                demonstration=work.label,
                reviewer=rita,
                verdict="sent_back",
                comment="Say how long.",
            )
            work.label.send_back(review)
    Assignment.objects.filter(pk=oldest.pk).update(leased_until=Now())  # long ago, too
    next_assignment(alice, project, only="write")
    reply = opened(browse, alice, "Fix returned answers")
    assert reply.context["work"] == oldest
    assert "Say how long." in reply.content.decode()
    assert f"/label/{oldest.pk}/" not in browse(alice).get(MY_WORK).content.decode(), "not page 1"
    assert "2 answers were returned" in browse(alice).get(MY_WORK).content.decode()
    answer(oldest)
    assert opened(browse, alice, "Fix returned answers").context["work"] == second
    answer(second)
    assert "Fix returned answers" not in titles(alice)
    reply = browse(alice).get("/p/cooking/label/?only=returned", follow=True)
    assert "No returned answers left." in reply.content.decode()
    assert "returned by" not in browse(alice).get(MY_WORK).content.decode()


def test_the_card_of_drafts_opens_them_wherever_they_are(browse, alice, project, write_task):
    for _ in range(30):
        write_task()
    draft = next_assignment(alice, project)
    draft.save_draft(draft={"text": "Half an egg"}, active_seconds=1)
    expire(draft)
    Task.objects.filter(pk=draft.task_id).update(priority=-1)
    for _ in range(26):
        answer(next_assignment(alice, project))
    reply = opened(browse, alice, "Finish drafts")
    assert reply.context["work"] == draft
    assert "Half an egg" in reply.content.decode()


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
    assert titles(olga)[-3:] == ["Create tasks", "Launch a round", "Choose a live policy"]


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
