"""Bad answers arrive with their context: in the labeler's task, and in the feedback inbox."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate import jobs
from annotate.chat.inbox import trends
from annotate.labelling.queue import next_assignment
from annotate.models import (
    Completion,
    Conversation,
    Demonstration,
    Feedback,
    Message,
    Policy,
    Project,
    Task,
    User,
)
from feedback_site import bell
from tests.model_server import ModelServer

Browse = Callable[[User], Client]
Bad = Callable[..., Feedback]
QUESTION = "How do I boil an egg?"
INBOX = "/p/cooking/feedback/"


@pytest.fixture(autouse=True)
def rings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was rung for."""
    heard: list[tuple[Any, ...]] = []
    monkeypatch.setattr(bell, "enqueue_on_commit", lambda *ring: heard.append(ring))
    return heard


@pytest.fixture
def bad(live: Policy, gus: User) -> Bad:
    """Asks, is answered badly, and says so."""

    def make(
        text: str = "How do I boil an egg?", *, thumb_up: bool = False, **why: Any
    ) -> Feedback:
        answer = Conversation.start(project=live.project, guest=gus, text=text)
        answer.begin()
        answer.end(state="done", text=f"Eight hours: {text}", finish_reason="stop")
        thumb = Feedback.give(message=answer, user=gus, thumb_up=thumb_up, **why)
        thumb.harvest()
        return thumb

    return make


@pytest.fixture
def words() -> dict[str, Any]:
    return {
        "reasons": ["not_correct"],
        "note": "Far too long.",
        "wanted_answer": "**Eight** minutes.",
    }


def set_up(project: Project, **settings: Any) -> None:
    for name, value in settings.items():
        setattr(project, name, value)
    project.save()


def test_the_writer_sees_the_bad_answer_and_what_the_guest_said(
    bad: Bad, words: dict[str, Any], alice: User, project: Project, browse: Browse
) -> None:
    bad(**words)
    work = next_assignment(alice, project)
    assert work and work.task.kind == "write"
    page = browse(alice).get(reverse("assignment", args=["cooking", work.pk])).content.decode()
    for said in ("Eight hours:", "Not correct", "Far too long.", "<strong>Eight</strong> minutes."):
        assert said in page
    assert "The guest wanted" in page


def test_it_comes_before_other_writing_by_the_projects_priority(
    bad: Bad, write_task: Callable[..., Task], alice: User, project: Project
) -> None:
    for _ in range(3):
        write_task()
    urgent = bad().message
    assert urgent
    work = next_assignment(alice, project)
    assert work and work.task.prompt.text == "How do I boil an egg?"
    set_up(project, thumbs_down_priority=-5)
    bad("Another?")
    assert Task.objects.of_batch("chat").get(prompt__text="Another?").priority == 0


def test_an_open_writing_task_learns_of_the_complaint(
    bad: Bad, new_prompt: Callable[..., Any], project: Project
) -> None:
    waiting = Task.objects.create(project=project, prompt=new_prompt(), kind="write", batch="old")
    thumb = bad()
    task = Task.objects.get(kind="write")
    assert (task.pk, task.priority) == (waiting.pk, 10)
    assert [each.text[:11] for each in task.completions.all()] == ["Eight hours"]
    thumb.retract()
    thumb.harvest()
    assert not Task.objects.get(pk=waiting.pk).completions.exists()


@pytest.mark.parametrize("work", ["none", "rank"])
def test_a_project_may_choose_what_a_bad_answer_asks(
    bad: Bad, project: Project, work: str, rings: list[tuple[Any, ...]]
) -> None:
    set_up(project, thumbs_down_work=work)
    bad()
    assert not Task.objects.exists()
    rung = [name for _, name, _ in rings if name.endswith("rank_beside_drafts")]
    assert len(rung) == (work == "rank")


def test_it_is_ranked_beside_new_drafts(
    bad: Bad,
    words: dict[str, Any],
    alice: User,
    project: Project,
    browse: Browse,
    model_server: ModelServer,
) -> None:
    set_up(project, thumbs_down_work="rank", thumbs_down_priority=7)
    thumb = bad(**words)
    model_server.says = ["Eight minutes."]
    assert thumb.answer
    for _ in range(2):  # a job may run twice
        jobs.rank_beside_drafts(thumb.answer.pk)
    task = Task.objects.get(kind="rank")
    assert (task.priority, task.completions.count()) == (7, 2)
    work = next_assignment(alice, project)
    assert work
    page = browse(alice).get(reverse("assignment", args=["cooking", work.pk])).content.decode()
    assert "not satisfied with one of these answers" in page
    assert "The bad answer" not in page, "which one it was would bias the ranking"
    assert "Far too long." in page


def test_without_a_model_server_people_are_asked_to_write(
    bad: Bad, project: Project, model_server: ModelServer
) -> None:
    set_up(project, thumbs_down_work="rank")
    model_server.status = 500
    thumb = bad()
    assert thumb.answer
    jobs.rank_beside_drafts(thumb.answer.pk)
    assert Task.objects.get().kind == "write"


def test_a_thumb_taken_back_takes_its_ranking_and_the_drafts_back(
    bad: Bad, project: Project, model_server: ModelServer
) -> None:
    set_up(project, thumbs_down_work="rank")
    thumb = bad()
    model_server.says = ["Eight minutes."]
    assert thumb.answer
    jobs.rank_beside_drafts(thumb.answer.pk)
    thumb.retract()
    thumb.harvest()
    assert not Task.objects.exists()
    assert Completion.objects.get() == thumb.answer


def test_a_deleted_chat_leaves_no_draft_and_no_task(
    bad: Bad, project: Project, model_server: ModelServer
) -> None:
    set_up(project, thumbs_down_work="rank")
    thumb = bad(wanted_answer="Eight.")
    assert thumb.answer and thumb.message
    jobs.rank_beside_drafts(thumb.answer.pk)
    thumb.message.conversation.erase()
    assert not Task.objects.exists()
    assert not Completion.objects.exists()
    assert not Demonstration.objects.exists()


def test_an_ordinary_ranking_tells_nothing_of_complaints(
    bad: Bad, words: dict[str, Any], alice: User, project: Project, browse: Browse
) -> None:
    thumb = bad(**words)
    Task.objects.of_kind("write").delete()
    answer = thumb.answer
    assert answer
    other = answer.prompt.completions.create(policy=answer.policy, text="Other", source="sampled")
    task = Task.objects.create(project=project, prompt=answer.prompt, kind="rank")
    task.completions.set([answer, other])
    work = next_assignment(alice, project)
    assert work
    page = browse(alice).get(reverse("assignment", args=["cooking", work.pk])).content.decode()
    assert "Far too long." not in page


# The inbox


def test_the_inbox_shows_what_guests_said(
    bad: Bad, words: dict[str, Any], rita: User, browse: Browse
) -> None:
    bad(**words)
    bad("Is rice good?", thumb_up=True)
    page = browse(rita).get(INBOX).content.decode()
    for said in ("How do I boil an egg?", "Not correct", "Far too long.", "Eight</strong> minutes"):
        assert said in page
    assert "Is rice good?" not in page
    assert "Is rice good?" in browse(rita).get(INBOX, {"thumb": ""}).content.decode()


def test_a_row_says_that_it_is_not_used_yet_and_came_through_the_api(
    bad: Bad, rita: User, project: Project, gus: User, browse: Browse
) -> None:
    bad()
    page = browse(rita).get(INBOX).content.decode()
    assert "not used yet" not in page and "through the API" not in page
    set_up(project, new_guest_days=7)
    Conversation.objects.update(via_api=True)
    page = browse(rita).get(INBOX).content.decode()
    assert "new guest: not used yet" in page and "through the API" in page
    gus.memberships.get().vouch()
    assert "not used yet" not in browse(rita).get(INBOX).content.decode()


def test_a_private_chat_is_not_in_the_inbox(bad: Bad, rita: User, browse: Browse) -> None:
    thumb = bad()
    assert thumb.message
    thumb.message.conversation.allow_improving(allowed=False)
    assert "How do I boil an egg?" not in browse(rita).get(INBOX).content.decode()


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"words": "too long"}, True),
        ({"words": "boil"}, True),
        ({"words": "rice"}, False),
        ({"reason": "not_correct"}, True),
        ({"reason": "harmful"}, False),
        ({"tag": "eggs"}, True),
        ({"tag": "rice"}, False),
        ({"since": "2020-01-01"}, True),
        ({"until": "2020-01-01"}, False),
        ({"state": "queued"}, True),
        ({"state": "waiting"}, False),
        ({"state": "dismissed"}, False),
        ({"policy": "0"}, True),  # not there: the page says so, and shows all
    ],
)
def test_the_inbox_is_filtered(
    bad: Bad,
    words: dict[str, Any],
    rita: User,
    browse: Browse,
    asked: dict[str, str],
    found: bool,
) -> None:
    thumb = bad(**words)
    assert thumb.answer
    thumb.answer.prompt.tags = ["eggs"]
    thumb.answer.prompt.save()
    page = browse(rita).get(INBOX, asked).content.decode()
    assert ("Far too long." in page) is found


def test_many_are_queued_at_once(bad: Bad, rita: User, project: Project, browse: Browse) -> None:
    set_up(project, thumbs_down_work="none")
    thumbs = [bad(f"Question {number}") for number in range(3)]
    chosen = [each.pk for each in thumbs[:2]]
    reply = browse(rita).post(INBOX, {"act": "queue", "work": "write", "chosen": chosen})
    assert reply.status_code == 302
    assert Task.objects.filter(kind="write").count() == 2


def test_what_is_dismissed_trains_nothing_and_can_be_restored(
    bad: Bad, words: dict[str, Any], rita: User, browse: Browse
) -> None:
    thumb = bad(**words)
    client = browse(rita)
    reply = client.post(INBOX, {"act": "dismiss", "chosen": [thumb.pk]})
    assert reply.status_code == 422
    assert "Say in a few words why" in reply.content.decode()
    client.post(INBOX, {"act": "dismiss", "why": "The guest is wrong.", "chosen": [thumb.pk]})
    thumb.refresh_from_db()
    thumb.harvest()
    assert not Feedback.objects.all().undismissed().exists()
    assert not Task.objects.exists()
    assert not Demonstration.objects.exists()
    assert "dismissed" in thumb.why_it_does_not_count
    assert "Far too long." not in client.get(INBOX).content.decode()
    page = client.get(INBOX, {"state": "dismissed"}).content.decode()
    assert "The guest is wrong." in page
    assert 'value="restore"' in page and 'value="queue"' not in page
    client.post(INBOX, {"act": "restore", "chosen": [thumb.pk]})
    thumb.refresh_from_db()
    thumb.harvest()
    assert Task.objects.filter(kind="write").exists()


def test_what_cannot_be_queued_is_said(bad: Bad, rita: User, browse: Browse) -> None:
    chosen = [bad("One?").pk, bad("Two?", thumb_up=True).pk]
    sent = {"act": "queue", "work": "write", "chosen": chosen}
    page = browse(rita).post(INBOX, sent, follow=True).content.decode()
    assert "1 of 2 queued." in page
    assert "Only bad answers that may become data can be queued." in page


def test_nothing_chosen_is_said(bad: Bad, rita: User, browse: Browse) -> None:
    bad()
    reply = browse(rita).post(INBOX, {"act": "queue", "work": "write"})
    assert "Choose at least one" in reply.content.decode()


def test_thumbs_of_another_project_cannot_be_touched(
    bad: Bad, mallory: User, browse: Browse
) -> None:
    thumb = bad()
    address = INBOX.replace("cooking", "elsewhere")
    said = {"act": "dismiss", "why": "Mine.", "chosen": [thumb.pk]}
    assert browse(mallory).post(address, said).status_code == 422
    thumb.refresh_from_db()
    assert thumb.dismissed_at is None


def test_from_a_thumb_to_the_lineage_and_the_labels(
    bad: Bad, olga: User, rita: User, browse: Browse
) -> None:
    thumb = bad()
    assert thumb.message and thumb.answer
    page = browse(olga).get(INBOX).content.decode()
    assert f'href="/p/cooking/policies/{thumb.message.policy_id}/"' in page
    assert f'href="/p/cooking/prompts/{thumb.answer.prompt_id}/"' in page
    assert "/policies/" not in browse(rita).get(INBOX).content.decode().split("<main")[1]


def test_the_share_of_thumbs_up_has_an_interval(bad: Bad, rita: User, browse: Browse) -> None:
    for number in range(4):
        bad(f"Question {number}", thumb_up=number > 0)
    page = browse(rita).get(INBOX).content.decode()
    assert "75%" in page.replace("75 %", "75%")
    assert "cook" in page.split("By policy")[1]


def test_each_end_user_of_a_product_is_a_guest(bad: Bad, project: Project) -> None:
    for number in range(6):
        given = bad(f"Question {number}", thumb_up=number > 0)
        assert given.message
        chat = Conversation.objects.filter(pk=given.message.conversation_id)
        chat.update(via_api=True, end_user=f"digest {number // 2}")
    [trend] = trends(project)
    assert (trend.share.trials, trend.share.clusters) == (6, 3)


def test_the_trend_shows_each_week(bad: Bad, rita: User, browse: Browse) -> None:
    old = bad("Old", thumb_up=True)
    Feedback.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(weeks=2))
    bad("New")
    page = browse(rita).get(INBOX).content.decode()
    assert page.count('<rect class="interval"') == 2
    assert Message.objects.count() == 4
