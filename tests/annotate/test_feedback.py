"""Thumbs: given, explained, taken back; and how they become labels."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate import jobs
from annotate.chat import messages as message_models
from annotate.models import (
    Assignment,
    Completion,
    Conversation,
    Demonstration,
    Feedback,
    Message,
    Policy,
    Prompt,
    Task,
    User,
)
from feedback_site import bell

Browse = Callable[[User], Client]
HTMX = {"HX-Request": "true"}
QUESTION = "How do I boil an egg?"


@pytest.fixture(autouse=True)
def rings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was rung for."""
    heard: list[tuple[Any, ...]] = []
    monkeypatch.setattr(bell, "_enqueue", lambda *ring: heard.append(ring))
    return heard


@pytest.fixture
def new_answer(live: Policy) -> Callable[..., Message]:
    """Makes a chat with one finished answer."""

    def make(guest: User, text: str = QUESTION, **fields: Any) -> Message:
        answer = Conversation.start(project=live.project, guest=guest, text=text)
        answer.begin()
        answer.end(state=fields.pop("state", "done"), text="Eight minutes.", finish_reason="stop")
        Conversation.objects.filter(pk=answer.conversation_id).update(**fields)
        return answer

    return make


@pytest.fixture
def answer(new_answer: Callable[..., Message], gus: User) -> Message:
    return new_answer(gus)


def thumb(client: Client, answer: Message, value: str) -> str:
    address = reverse("chat_thumb", args=["cooking", answer.pk])
    page = client.post(address, {"thumb": value}, headers=HTMX).content.decode()
    return " ".join(page.split())


def test_a_thumb_is_given_and_taken_back(answer: Message, gus: User, browse: Browse) -> None:
    client = browse(gus)
    part = thumb(client, answer, "down")
    assert 'value="none" aria-pressed="true" aria-label="Bad answer"' in part
    assert '<details class="more" open>' in part
    assert answer.feedback.current().get().thumb_up is False

    part = thumb(client, answer, "none")
    assert 'aria-pressed="true"' not in part
    assert "details" not in part
    assert not answer.feedback.current().exists()
    assert answer.feedback.get().retracted_at

    thumb(client, answer, "up")
    assert answer.feedback.get().thumb_up is True


@pytest.mark.parametrize("value", ["up", "down", "none"])
def test_giving_a_thumb_twice_is_giving_it_once(
    answer: Message, gus: User, browse: Browse, value: str
) -> None:
    client = browse(gus)
    pressed = [thumb(client, answer, value).count('aria-pressed="true"') for _ in range(2)]
    assert pressed == ([0, 0] if value == "none" else [1, 1])
    assert answer.feedback.current().count() == (0 if value == "none" else 1)


@pytest.mark.parametrize("value", ["", "sideways", "UP"])
def test_a_thumb_is_up_down_or_none(answer: Message, gus: User, browse: Browse, value: str) -> None:
    address = reverse("chat_thumb", args=["cooking", answer.pk])
    assert browse(gus).post(address, {"thumb": value}).status_code == 400


def test_the_choices_go_with_the_thumb(answer: Message, gus: User, browse: Browse) -> None:
    up, down = (thumb(browse(gus), answer, value) for value in ("up", "down"))
    assert "Well written" in up
    assert "t have refused" not in up
    assert "Show the answer you wanted" not in up
    assert "t have refused" in down
    assert "Well written" not in down
    assert "Show the answer you wanted" in down


def test_reasons_come_without_javascript_too(answer: Message, gus: User, browse: Browse) -> None:
    client = browse(gus)
    client.post(reverse("chat_thumb", args=["cooking", answer.pk]), {"thumb": "down"})
    reply = client.post(
        reverse("chat_feedback", args=["cooking", answer.pk]),
        {"reasons": ["too_short", "harmful"], "note": "More!", "wanted_answer": "Eight to ten."},
    )
    page = client.get(reply["Location"]).content.decode()
    given = answer.feedback.get()
    assert given.reasons == ["harmful", "too_short"]
    assert (given.note, given.wanted_answer) == ("More!", "Eight to ten.")
    assert 'value="harmful" checked' in page
    assert ">Eight to ten.</textarea>" in page


def test_nothing_is_needed_to_explain(answer: Message, gus: User, browse: Browse) -> None:
    thumb(browse(gus), answer, "up")
    reply = browse(gus).post(reverse("chat_feedback", args=["cooking", answer.pk]), headers=HTMX)
    assert "Thanks for the feedback" in reply.content.decode()


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ({"note": "x" * 2001}, "at most 2000 characters"),
        ({"wanted_answer": "x" * 8001}, "at most 8000 characters"),
    ],
)
def test_what_is_too_long_is_said_and_not_lost(
    answer: Message, gus: User, browse: Browse, sent: dict[str, str], sentence: str
) -> None:
    thumb(browse(gus), answer, "down")
    address = reverse("chat_feedback", args=["cooking", answer.pk])
    reply = browse(gus).post(address, sent, headers=HTMX)
    assert reply.status_code == 422
    assert sentence in reply.content.decode()
    assert next(iter(sent.values())) in reply.content.decode()
    assert answer.feedback.get().note == ""


def test_explaining_a_thumb_that_was_taken_back_brings_it_not_back(
    answer: Message, gus: User, browse: Browse
) -> None:
    thumb(browse(gus), answer, "down")
    thumb(browse(gus), answer, "none")
    browse(gus).post(reverse("chat_feedback", args=["cooking", answer.pk]), {"note": "Late"})
    assert answer.feedback.get().note == ""


def test_changing_ones_mind_drops_what_explained_the_other(answer: Message, gus: User) -> None:
    given = Feedback.give(message=answer, user=gus, thumb_up=False)
    given.explain(reasons=["harmful", "other"], note="Hm.", wanted_answer="Ten.")
    again = Feedback.give(message=answer, user=gus, thumb_up=True)
    assert again.pk == given.pk
    assert (again.reasons, again.note, again.wanted_answer) == ([], "", "")


def test_reasons_of_the_other_thumb_are_not_kept(answer: Message, gus: User) -> None:
    given = Feedback.give(message=answer, user=gus, thumb_up=True)
    given.explain(reasons=["correct", "harmful", "nonsense"], wanted_answer="Ten.")
    assert (given.reasons, given.wanted_answer) == (["correct"], "")


@pytest.mark.django_db(transaction=True)
def test_twenty_clicks_at_once_make_one_thumb(answer: Message, gus: User) -> None:
    def click(number: int) -> None:
        try:
            Feedback.give(message=answer, user=gus, thumb_up=number % 2 == 0)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as clicks:
        list(clicks.map(click, range(20)))
    assert answer.feedback.count() == 1


def test_the_bell_is_rung_after_the_commit(
    answer: Message,
    gus: User,
    rings: list[tuple[Any, ...]],
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        given = Feedback.give(message=answer, user=gus, thumb_up=True)
        assert rings == []
    assert rings == [("label", "annotate.jobs.harvest", given.pk)]


def test_a_good_answer_becomes_data(answer: Message, gus: User) -> None:
    given = Feedback.give(message=answer, user=gus, thumb_up=True)
    jobs.harvest(given.pk)
    answer.refresh_from_db()
    completion = answer.completion
    assert completion
    assert completion.prompt.messages == [{"role": "user", "content": QUESTION}]
    assert (completion.prompt.source, completion.source) == ("chat", "chat")
    assert completion.text == "Eight minutes."
    assert (completion.policy, completion.template_hash) == (answer.policy, answer.template_hash)
    assert not Task.objects.exists()


def test_a_bad_answer_asks_labelers_for_a_better_one(
    new_answer: Callable[..., Message], gus: User, alice: User
) -> None:
    for guest in (gus, alice):
        given = Feedback.give(message=new_answer(guest), user=guest, thumb_up=False)
        for _ in range(2):  # a job may run twice
            jobs.harvest(given.pk)
    task = Task.objects.get()
    assert (task.kind, task.prompt.text) == ("write", QUESTION)
    assert Completion.objects.count() == 2
    assert Prompt.objects.count() == 1


def test_a_thumb_taken_back_takes_its_task_back(answer: Message, gus: User) -> None:
    given = Feedback.give(message=answer, user=gus, thumb_up=False)
    jobs.harvest(given.pk)
    given.retract()
    jobs.harvest(given.pk)
    assert not Task.objects.exists()
    assert not Feedback.objects.trainable().exists()


def test_a_task_stays_while_another_guest_wants_it(
    new_answer: Callable[..., Message], gus: User, alice: User
) -> None:
    first, second = (
        Feedback.give(message=new_answer(guest), user=guest, thumb_up=False)
        for guest in (gus, alice)
    )
    for given in (first, second):
        jobs.harvest(given.pk)
    first.retract()
    jobs.harvest(first.pk)
    assert Task.objects.count() == 1


def test_a_task_stays_while_somebody_works_on_it(answer: Message, gus: User, alice: User) -> None:
    given = Feedback.give(message=answer, user=gus, thumb_up=False)
    jobs.harvest(given.pk)
    Assignment.objects.create(task=Task.objects.get(), labeler=alice, leased_until=timezone.now())
    given.retract()
    jobs.harvest(given.pk)
    assert Task.objects.exists()


def test_a_thumb_taken_back_in_time_leaves_no_trace(answer: Message, gus: User) -> None:
    given = Feedback.give(message=answer, user=gus, thumb_up=False)
    given.retract()
    jobs.harvest(given.pk)
    assert not Prompt.objects.exists()


@pytest.mark.parametrize("fields", [{"improves_model": False}, {"state": "stopped"}])
def test_what_may_not_or_is_not_whole_stays_in_the_chat(
    new_answer: Callable[..., Message], gus: User, fields: dict[str, Any]
) -> None:
    given = Feedback.give(message=new_answer(gus, **fields), user=gus, thumb_up=False)
    jobs.harvest(given.pk)
    assert not Prompt.objects.exists()
    assert not Task.objects.exists()


def test_one_guest_does_not_fill_the_data(
    new_answer: Callable[..., Message], gus: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_models, "COUNTED_A_DAY", 2)
    for number in range(3):
        message = new_answer(gus, f"Question {number}")
        given = Feedback.give(message=message, user=gus, thumb_up=True)
        jobs.harvest(given.pk)
        assert bool(given.why_it_does_not_count) is (number == 2)
    assert Completion.objects.count() == 2
    Message.objects.update(created_at=timezone.now() - timedelta(days=1))
    given = Feedback.give(message=new_answer(gus, "Tomorrow?"), user=gus, thumb_up=True)
    jobs.harvest(given.pk)
    assert Completion.objects.count() == 3


def test_an_operator_reads_what_guests_said_of_an_answer(
    answer: Message, gus: User, olga: User, browse: Browse
) -> None:
    words = {"reasons": ["not_correct"], "note": "Too hard.", "wanted_answer": "**Six** minutes."}
    given = Feedback.give(message=answer, user=gus, thumb_up=False, **words)
    jobs.harvest(given.pk)
    address = f"/p/cooking/prompts/{Prompt.objects.get().pk}/"
    page = browse(olga).get(address).content.decode()
    for said in ("Not correct", "Too hard.", "<strong>Six</strong> minutes."):
        assert said in page
    given.retract()
    assert "Too hard." not in browse(olga).get(address).content.decode()


def test_switching_off_takes_the_chat_back(answer: Message, gus: User) -> None:
    given = Feedback.give(message=answer, user=gus, thumb_up=False)
    jobs.harvest(given.pk)
    Conversation.objects.get().allow_improving(allowed=False)
    for model in (Prompt, Completion, Task):
        assert not model.objects.exists()  # type: ignore[attr-defined]
    assert not Feedback.objects.trainable().exists()
    Conversation.objects.get().allow_improving(allowed=True)
    Feedback.objects.update(updated_at=timezone.now() - timedelta(minutes=2))
    assert jobs.harvest_waiting() == 1
    assert Task.objects.exists()


@pytest.fixture
def worked_on(answer: Message, gus: User, alice: User) -> Prompt:
    """What Gus asked, with an answer by Alice."""
    jobs.harvest(Feedback.give(message=answer, user=gus, thumb_up=False).pk)
    prompt = Prompt.objects.get()
    Demonstration.objects.create(prompt=prompt, labeler=alice, text="Eight to ten minutes.")
    return prompt


def test_what_people_have_worked_on_outlives_the_chat_out_of_use(worked_on: Prompt) -> None:
    asked_at = worked_on.created_at
    Conversation.objects.get().erase()
    assert Prompt.objects.get() == worked_on
    assert not Prompt.objects.active().exists()
    assert not Prompt.objects.active(asked_at).exists()  # nor for a round of that day
    assert Prompt.objects.restore() == 0
    assert not Task.objects.filter(closed_at=None).exists()
    assert Demonstration.objects.exists()
    assert not Completion.objects.exists()  # the guest's part of it has gone
    assert not Message.objects.exists()


def test_what_is_asked_again_is_in_use_again(
    worked_on: Prompt, new_answer: Callable[..., Message], gus: User
) -> None:
    conversation = Conversation.objects.get()
    conversation.allow_improving(allowed=False)
    assert not Prompt.objects.active().exists()
    again = new_answer(gus)
    jobs.harvest(Feedback.give(message=again, user=gus, thumb_up=True).pk)
    assert Prompt.objects.active().get() == worked_on
    conversation.erase()
    assert Prompt.objects.active().get() == worked_on, "another chat asks it too"


def test_an_imported_prompt_outlives_the_chat(
    new_prompt: Callable[..., Prompt], answer: Message, gus: User
) -> None:
    imported = new_prompt(QUESTION)
    jobs.harvest(Feedback.give(message=answer, user=gus, thumb_up=True).pk)
    assert Completion.objects.get().prompt == imported
    Conversation.objects.get().erase()
    assert Prompt.objects.get() == imported


def test_the_sweeper_finds_the_thumbs_the_bell_missed(answer: Message, gus: User) -> None:
    given = Feedback.give(message=answer, user=gus, thumb_up=False)
    assert jobs.harvest_waiting() == 0  # the bell has its minute
    Feedback.objects.update(updated_at=timezone.now() - timedelta(minutes=2))
    assert jobs.harvest_waiting() == 1
    assert Task.objects.exists()
    assert jobs.harvest_waiting() == 0
    given.explain(note="Really.")
    Feedback.objects.update(updated_at=timezone.now() - timedelta(minutes=2))
    assert jobs.harvest_waiting() == 1


def test_thumbs_that_always_fail_hold_up_no_other(
    new_answer: Callable[..., Message], gus: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "BATCH", 2)
    given = [Feedback.give(message=new_answer(gus), user=gus, thumb_up=True).pk for _ in range(3)]
    harvest = Feedback.harvest

    def fails(said: Feedback) -> None:
        if said.pk != given[2]:
            raise ValueError("always")
        harvest(said)

    monkeypatch.setattr(Feedback, "harvest", fails)
    now = timezone.now()
    for minutes, pk in zip((4, 3, 2), given, strict=True):
        Feedback.objects.filter(pk=pk).update(updated_at=now - timedelta(minutes=minutes))
    assert jobs.harvest_waiting() == 0
    assert jobs.harvest_waiting() == 1
    assert Feedback.objects.get(pk=given[2]).harvested_at


def test_the_job_of_a_deleted_chat_does_nothing(answer: Message, gus: User) -> None:
    given = Feedback.give(message=answer, user=gus, thumb_up=False)
    Conversation.objects.get().erase()
    jobs.harvest(given.pk)
    assert not Prompt.objects.exists()


def test_a_thumb_that_cannot_become_a_label_holds_up_no_other_work(
    new_answer: Callable[..., Message], gus: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, whole = new_answer(gus), new_answer(gus)
    for each in (broken, whole):
        Feedback.give(message=each, user=gus, thumb_up=True)
    Feedback.objects.update(updated_at=timezone.now() - timedelta(hours=1))
    harvest = Feedback.harvest

    def fail_at_the_first(thumb: Feedback) -> None:
        if thumb.message_id == broken.pk:
            raise ValueError("no prompt")
        harvest(thumb)

    monkeypatch.setattr(Feedback, "harvest", fail_at_the_first)
    monkeypatch.setattr(jobs.mail, "send_waiting", lambda: 5)
    assert jobs.look() == 1 + 5
    assert jobs.look() == 5, "the broken one keeps no worker busy"
