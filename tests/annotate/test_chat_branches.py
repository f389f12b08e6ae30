"""Edited questions, answers that failed, and what no longer fits into the window."""

import json
import re
from importlib import import_module

import pytest
from django.apps import apps
from django.db import connection
from django.test import Client
from django.urls import reverse

from annotate.models import (
    Completion,
    Conversation,
    Feedback,
    Message,
    Policy,
    Preference,
    Prompt,
    User,
)
from tests.chats import HTMX, QUESTION, Browse, ask, go_on, page_of, pending
from tests.model_server import ModelServer

GOOSE = "How do I boil a goose's egg?"


def edit(client: Client, question: Message, text: str, **headers: object) -> Message:
    """Sends another version of a question; the answer to it."""
    reply = client.post(
        reverse("chat_edit", args=["cooking", question.pk]), {"text": text}, **headers
    )
    assert reply.status_code in (200, 302), reply.content.decode()
    return Message.objects.filter(role="assistant").latest("pk")


def to_version(client: Client, question: Message) -> None:
    client.post(reverse("chat_version", args=["cooking", question.pk]))


def regenerate(client: Client, answer: Message) -> Message:
    client.post(reverse("chat_regenerate", args=["cooking", answer.pk]))
    return Message.objects.filter(role="assistant").latest("pk")


def shown(chat: Conversation) -> list[str]:
    return [turn.question.text for turn in Conversation.objects.get(pk=chat.pk).turns()]


def test_an_edited_question_begins_a_branch_and_the_other_stays(
    live: Policy, gus: User, browse: Browse
) -> None:
    client = browse(gus)
    first = ask(client)
    chat = first.conversation
    go_on(client, chat, "And how hot?")
    edited = edit(client, first.answers, GOOSE)
    assert edited.asked == [{"role": "user", "content": GOOSE}]
    assert shown(chat) == [GOOSE]
    assert ">2/2<" in page_of(client, chat)
    go_on(client, chat, "With salt?")
    assert shown(chat) == [GOOSE, "With salt?"]

    to_version(client, first.answers)
    assert shown(chat) == [QUESTION, "And how hot?"]
    third = go_on(client, chat, "Thanks")
    assert [each["content"] for each in third.asked if each["role"] == "user"] == [
        *(QUESTION, "And how hot?", "Thanks"),
    ]
    to_version(client, edited.answers)
    assert shown(chat) == [GOOSE, "With salt?"]


def follows_in(page: str) -> str:
    return re.findall(r'name="follows" value="(\d*)"', page)[0]


def test_a_follow_up_goes_to_the_branch_it_was_written_under(
    live: Policy, gus: User, browse: Browse
) -> None:
    client = browse(gus)
    first = ask(client)
    chat = first.conversation
    second = go_on(client, chat, "And how hot?")
    follows = follows_in(page_of(client, chat))
    assert follows == str(second.answers_id)
    edited = edit(client, first.answers, GOOSE)  # in another tab
    send = reverse("chat_send", args=["cooking", chat.pk])
    client.post(send, {"text": "With salt?", "follows": follows})
    assert shown(chat) == [QUESTION, "And how hot?", "With salt?"]
    third = Message.objects.filter(role="assistant").latest("pk")
    assert [each["content"] for each in third.asked if each["role"] == "user"] == shown(chat)
    client.post(send, {"text": "And a duck's?", "follows": edited.answers_id})
    assert shown(chat) == [GOOSE, "And a duck's?"]


def test_a_follow_up_of_no_question_of_the_chat_follows_the_last(
    live: Policy, gus: User, browse: Browse
) -> None:
    client = browse(gus)
    other, first = ask(client, "Another chat"), ask(client)
    send = reverse("chat_send", args=["cooking", first.conversation_id])
    for follows in (other.answers_id, first.pk, ""):
        client.post(send, {"text": "Thanks", "follows": follows})
    assert shown(first.conversation) == [QUESTION, "Thanks", "Thanks", "Thanks"]


def test_a_question_in_the_middle_has_versions_of_its_own(
    live: Policy, gus: User, browse: Browse
) -> None:
    client = browse(gus)
    chat = ask(client).conversation
    second = go_on(client, chat, "And how hot?")
    again = edit(client, second.answers, "And how long?")
    assert [each["content"] for each in again.asked] == [
        *(QUESTION, "Boil it for **eight** minutes.", "And how long?"),
    ]
    thrice = edit(client, again.answers, "And where?")
    turns = chat.turns()
    assert [(turn.version, len(turn.versions)) for turn in turns] == [(1, 1), (3, 3)]
    assert {each.follows for each in turns[1].versions} == {turns[0].question}
    assert thrice.answers in turns[1].versions


def test_drafts_of_two_versions_are_never_compared(live: Policy, gus: User, browse: Browse) -> None:
    client = browse(gus)
    first = ask(client)
    edited = edit(client, first.answers, GOOSE)
    assert edited.compared_with is None
    again = regenerate(client, edited)
    assert again.compared_with == edited
    assert [turn.drafts for turn in first.conversation.turns()] == [[edited, again]]


def test_each_version_becomes_data_of_its_own_and_deletion_takes_all(
    live: Policy, gus: User, browse: Browse
) -> None:
    client = browse(gus)
    first = ask(client)
    Feedback.give(message=first, user=gus, thumb_up=True).harvest()
    edited = edit(client, first.answers, GOOSE)
    assert Completion.objects.count() == 1  # an edit alone is no data
    Feedback.give(message=edited, user=gus, thumb_up=False).harvest()
    asked = {prompt.messages[0]["content"] for prompt in Prompt.objects.all()}
    assert asked == {QUESTION, GOOSE}
    to_version(client, first.answers)
    client.post(reverse("chat_delete", args=["cooking", first.conversation_id]))
    for model in (Conversation, Message, Feedback, Completion, Prompt):
        assert not model.objects.exists(), model  # type: ignore[attr-defined]


def test_switching_the_chat_off_takes_all_branches_back(
    live: Policy, gus: User, browse: Browse
) -> None:
    client = browse(gus)
    first = ask(client)
    for answer in (first, edit(client, first.answers, GOOSE)):
        Feedback.give(message=answer, user=gus, thumb_up=True).harvest()
    client.post(reverse("chat_settings", args=["cooking", first.conversation_id]), {})
    assert not Completion.objects.exists()


def test_an_edit_by_script_brings_all_turns(live: Policy, gus: User, browse: Browse) -> None:
    client = browse(gus)
    first = ask(client)
    address = reverse("chat_edit", args=["cooking", first.answers_id])
    page = client.post(address, {"text": GOOSE}, headers=HTMX).content.decode()
    assert "data-stream" in page and GOOSE in page and "<html" not in page


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_a_refused_edit_keeps_what_was_typed(
    live: Policy, gus: User, browse: Browse, headers: dict[str, str]
) -> None:
    client = browse(gus)
    answer = pending(gus)
    address = reverse("chat_edit", args=["cooking", answer.answers_id])
    reply = client.post(address, {"text": "A goose"}, headers=headers)
    assert reply.status_code == 422
    assert "A goose</textarea>" in reply.content.decode()
    assert "still being written" in reply.content.decode()
    assert answer.conversation.messages.count() == 2


def test_an_answer_is_no_question(live: Policy, gus: User, browse: Browse) -> None:
    answer = ask(browse(gus))
    for name in ("chat_edit", "chat_version"):
        reply = browse(gus).post(reverse(name, args=["cooking", answer.pk]), {"text": "x"})
        assert reply.status_code == 404


def test_an_answer_that_failed_is_no_draft(
    live: Policy, gus: User, browse: Browse, model_server: ModelServer
) -> None:
    client = browse(gus)
    first = ask(client)
    model_server.status = 500
    failed = regenerate(client, first)
    page = page_of(client, first.conversation)
    assert "A new answer failed." in page and "Retry" in page
    assert "Boil it for" in page and "/2<" not in page
    model_server.status, model_server.says = 200, ["Ask your mother."]
    retried = regenerate(client, failed)
    assert retried.compared_with == first
    page = page_of(client, first.conversation)
    assert ">2/2<" in page and "Compared with" in page and "failed" not in page
    Preference.give(draft=retried, user=gus, verdict="better").harvest()
    assert {each.text for each in Completion.objects.all()} == {first.text, retried.text}


def test_a_first_answer_that_failed_is_retried_and_forgotten(
    live: Policy, gus: User, browse: Browse, model_server: ModelServer
) -> None:
    client = browse(gus)
    model_server.breaks_after = 1
    failed = ask(client)
    assert failed.text == "Boil it "
    page = page_of(client, failed.conversation)
    assert "The text so far is kept." in page and "Boil it" in page
    assert "Retry" in page and "Good answer" not in page and "Regenerate" not in page
    Feedback.give(message=failed, user=gus, thumb_up=True).harvest()
    assert not Completion.objects.exists()
    model_server.breaks_after = None
    retried = regenerate(client, failed)
    assert retried.compared_with is None
    page = page_of(client, failed.conversation)
    assert "Compared with" not in page and "/2<" not in page and "Good answer" in page


def test_of_two_blind_drafts_the_one_that_did_not_fail_is_shown(live: Policy, gus: User) -> None:
    live.project.two_drafts_percent = 100
    live.project.save()
    first = pending(gus)
    second = first.rivals.get()
    for each, state in ((first, "failed"), (second, "done")):
        each.begin()
        each.end(state=state, text="Half" if state == "failed" else "Whole", finish_reason="stop")
    [turn] = first.conversation.turns()
    assert (turn.pair, turn.shown, turn.failed) == ([], second, None)


@pytest.fixture
def narrow(live: Policy, settings, tmp_path) -> Policy:
    """The live policy, with room for about two turns."""
    settings.DATA_DIR = tmp_path
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 200}))
    live.folder, live.max_new_tokens = ".", 40
    live.system_prompt, live.few_shot = "", []
    live.save()
    return live


def test_the_oldest_turns_are_left_out_and_it_says_so(
    narrow: Policy, gus: User, browse: Browse, model_server: ModelServer
) -> None:
    client = browse(gus)
    chat = ask(client, "First " + "x" * 120).conversation
    assert "no longer fit" not in page_of(client, chat)
    go_on(client, chat, "Second " + "x" * 120)
    third = go_on(client, chat, "Third " + "x" * 120)
    sent = [each["content"] for each in model_server.asked[-1]["messages"]]
    assert [text.split()[0] for text in sent] == ["Second", "Boil", "Third"]
    assert third.left_out == 2
    # What the model was given is what it is judged and taught by.
    assert [each["content"] for each in third.asked] == sent
    page = re.sub(r"\s+", " ", page_of(client, chat))
    assert page.count("2 earlier messages no longer fit and are not sent.") == 1
    assert "First " in page  # nothing is lost to the guest


def test_a_question_too_long_by_itself_is_refused_in_words(
    narrow: Policy, gus: User, browse: Browse, model_server: ModelServer
) -> None:
    client = browse(gus)
    chat = ask(client, "First").conversation
    answer = go_on(client, chat, "x" * 3000)
    assert answer.left_out == 2
    assert (answer.state, "more than the model can read" in answer.failure) == ("failed", True)
    assert len(model_server.asked) == 1


def test_of_a_model_elsewhere_all_is_sent(
    live: Policy, gus: User, browse: Browse, model_server: ModelServer
) -> None:
    client = browse(gus)
    chat = ask(client, "x" * 7000).conversation
    answer = go_on(client, chat, "y" * 7000)
    assert (answer.left_out, len(answer.asked)) == (0, 3)


def test_reasons_alone_are_saved_and_leave_the_words(
    live: Policy, gus: User, browse: Browse
) -> None:
    client = browse(gus)
    answer = ask(client)
    address = reverse("chat_reasons", args=["cooking", answer.pk])
    assert client.post(address, {"reasons": "too_long"}).status_code == 400
    thumb = Feedback.give(message=answer, user=gus, thumb_up=False, note="No", wanted_answer="Eh")
    assert client.post(address, {"reasons": ["too_long", "style"]}).content == b"Saved"
    thumb.refresh_from_db()
    assert (thumb.reasons, thumb.note, thumb.wanted_answer) == (["too_long", "style"], "No", "Eh")
    assert client.post(address, {"reasons": "nonsense"}).status_code == 400
    client.post(address)
    thumb.refresh_from_db()
    assert (thumb.reasons, thumb.note) == ([], "No")


def test_chats_from_before_there_were_branches_are_one_and_are_found(
    live: Policy, gus: User, browse: Browse
) -> None:
    client = browse(gus)
    chat = ask(client).conversation
    asked = [QUESTION, "And how hot?", "With salt?"]
    for text in asked[1:]:
        go_on(client, chat, text)
    ask(client, "Another chat")
    Message.objects.update(follows=None)
    Conversation.objects.update(folded="")
    migration = import_module("annotate.migrations.0025_keep_chats_at_hand")
    with connection.cursor() as cursor:
        cursor.execute(migration.FOLLOW)
    migration.fold_chats(apps, None)
    assert shown(chat) == asked
    assert [*Conversation.objects.matching("salt minutes")] == [chat]
