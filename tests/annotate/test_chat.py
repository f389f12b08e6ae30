"""A guest's way through the chat, with a model server over real HTTP."""

import re
from collections.abc import Iterator

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from annotate.chat import streaming as chat
from annotate.chat.conversations import StillAnswering
from annotate.models import Completion, Conversation, Feedback, Message, Policy, Prompt, User
from annotate.views.chat import history
from annotate.views.chat.talk import of_answer, of_conversation, of_question
from tests.chats import HTMX, QUESTION, Browse, ask, go_on, id_in, page_of, pending
from tests.model_server import ModelServer


def test_it_answers_without_javascript(live: Policy, gus: User, browse: Browse) -> None:
    answer = ask(browse(gus))
    page = page_of(browse(gus), answer.conversation)
    assert "How do I boil an egg?" in page
    assert "Boil it for <strong>eight</strong> minutes.</p>" in page
    assert 'aria-pressed="false"' in page


def test_an_answer_keeps_what_it_was_made_of(
    live: Policy, gus: User, browse: Browse, model_server: ModelServer
) -> None:
    answer = ask(browse(gus))
    assert answer.policy == live
    assert answer.template_hash == live.template_hash
    assert answer.asked == [{"role": "user", "content": QUESTION}]
    assert [message["content"] for message in answer.context] == [
        *("You are a cook.", "Hello", "Hungry?", QUESTION),
    ]
    assert model_server.asked[0]["messages"] == answer.context
    assert answer.sampling == {"temperature": 0.5, "max_tokens": 64}
    assert (answer.state, answer.finish_reason) == ("done", "stop")
    assert answer.first_token_ms is not None
    assert answer.total_ms >= answer.first_token_ms


def test_the_conversation_goes_along(
    live: Policy, gus: User, browse: Browse, model_server: ModelServer
) -> None:
    first = ask(browse(gus))
    second = go_on(browse(gus), first.conversation, "And a goose's?")
    assert [message["content"] for message in second.asked] == [
        QUESTION,
        "Boil it for **eight** minutes.",
        "And a goose's?",
    ]


def test_a_turn_without_an_answer_stays_out_of_the_context(
    live: Policy, gus: User, browse: Browse, model_server: ModelServer
) -> None:
    model_server.status = 500
    first = ask(browse(gus))
    model_server.status = 200
    second = go_on(browse(gus), first.conversation, "Hello?")
    assert second.asked == [{"role": "user", "content": "Hello?"}]


def test_one_answer_at_a_time(live: Policy, gus: User, browse: Browse) -> None:
    answer = pending(gus)
    send = reverse("chat_send", args=["cooking", answer.conversation.pk])
    reply = browse(gus).post(send, {"text": "Hurry up"}, headers=HTMX)
    assert reply.status_code == 422
    assert reply["HX-Retarget"] == "#composer"
    assert "still being written" in reply.content.decode()
    assert "Hurry up" in reply.content.decode()  # nothing typed is lost
    assert answer.conversation.messages.count() == 2
    with pytest.raises(StillAnswering):
        answer.conversation.ask_again(instead_of=answer)
    with pytest.raises(IntegrityError), transaction.atomic():
        answer.conversation.messages.create(role="assistant", state="streaming")


def test_only_one_may_write_an_answer(live: Policy, gus: User) -> None:
    answer = pending(gus)
    assert [answer.begin(), answer.begin(), answer.begin()] == [True, False, False]


def test_a_running_answer_ends_on_the_policy_it_began_with(
    live: Policy, gus: User, browse: Browse, model_server: ModelServer
) -> None:
    answer = pending(gus)
    newer = Policy.objects.create(
        project=live.project, name="chef", model_name="chef-1", origin="base"
    )
    newer.go_live()
    async_to_sync(chat.write_whole)(answer)
    later = go_on(browse(gus), answer.conversation, "Who are you?")
    assert [request["model"] for request in model_server.asked] == ["cook-1", "chef-1"]
    assert (answer.policy, later.policy) == (live, newer)


def test_regenerating_keeps_both_drafts(
    live: Policy, gus: User, browse: Browse, model_server: ModelServer
) -> None:
    client = browse(gus)
    first = ask(client)
    model_server.says = ["Ask ", "your mother."]
    client.post(reverse("chat_regenerate", args=["cooking", first.pk]))
    second = first.conversation.messages.order_by("-id").first()
    assert second.answers == first.answers
    page = page_of(client, first.conversation)
    assert "Ask your mother." in page
    assert ">2/2<" in page
    assert "Boil it" not in page

    client.post(reverse("chat_show", args=["cooking", first.pk]))
    page = page_of(client, first.conversation)
    assert ">1/2<" in page
    assert "Boil it" in page
    third = go_on(client, first.conversation, "Thanks")
    assert third.asked[1]["content"] == "Boil it for **eight** minutes."


def test_a_draft_knows_what_was_said_before_it_only(
    live: Policy, gus: User, browse: Browse
) -> None:
    client = browse(gus)
    first = ask(client)
    go_on(client, first.conversation, "And a goose's?")
    client.post(reverse("chat_regenerate", args=["cooking", first.pk]))
    again = first.conversation.messages.order_by("-id").first()
    assert again.asked == [{"role": "user", "content": QUESTION}]


@pytest.mark.parametrize("text", ["", "   ", "x" * 8001])
def test_it_refuses_what_is_no_question(live: Policy, gus: User, browse: Browse, text: str) -> None:
    reply = browse(gus).post("/p/cooking/chat/new/", {"text": text})
    assert reply.status_code == 422
    assert not Conversation.objects.exists()
    assert text.strip() in reply.content.decode()


def test_without_a_live_policy_it_says_what_to_do(
    model_server: ModelServer, gus: User, olga: User, browse: Browse
) -> None:
    assert "has to promote a policy first" in browse(gus).get("/p/cooking/chat/").content.decode()
    assert "Open <em>Policies</em>" in browse(olga).get("/p/cooking/chat/").content.decode()
    reply = browse(gus).post("/p/cooking/chat/new/", {"text": QUESTION})
    assert reply.status_code == 422
    assert not Conversation.objects.exists()


def test_the_newest_chat_opens_first(live: Policy, gus: User, browse: Browse) -> None:
    client = browse(gus)
    assert b"New chat" in client.get("/p/cooking/chat/").content
    ask(client)
    newest = ask(client, "What is umami?").conversation
    assert id_in(client.get("/p/cooking/chat/")["Location"]) == newest.pk
    page = page_of(client, newest)
    assert page.index("What is umami?") < page.index(QUESTION)


def test_the_page_costs_the_same_however_long_the_chat(
    live: Policy, gus: User, browse: Browse, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = browse(gus)
    conversation = ask(client).conversation
    address = reverse("chat_conversation", args=["cooking", conversation.pk])
    with django_assert_num_queries(9):
        client.get(address)
    for number in range(4):
        answer = go_on(client, conversation, f"And {number}?")
        Feedback.give(message=answer, user=gus, thumb_up=True)
    with django_assert_num_queries(9):
        client.get(address)


def test_one_click_deletes_no_chat(live: Policy, gus: User, browse: Browse) -> None:
    client = browse(gus)
    chat = ask(client).conversation
    page = client.get(reverse("chat_conversation", args=["cooking", chat.pk])).content.decode()
    [folded] = re.findall(r"<details class=\"stack tight\">(.*?)</details>", page, re.DOTALL)
    assert "Delete this chat…</summary>" in folded and "Delete chat" in folded


def test_deleting_a_chat_deletes_it(live: Policy, gus: User, browse: Browse) -> None:
    client = browse(gus)
    answer = ask(client)
    Feedback.give(message=answer, user=gus, thumb_up=False).harvest()
    assert Completion.objects.exists()
    client.post(reverse("chat_delete", args=["cooking", answer.conversation.pk]))
    for model in (Conversation, Message, Feedback, Completion, Prompt):
        assert not model.objects.exists(), model  # type: ignore[attr-defined]


def test_the_switch_is_the_guests(live: Policy, gus: User, browse: Browse) -> None:
    client = browse(gus)
    reply = client.post("/p/cooking/chat/new/", {"text": QUESTION})  # the box is not ticked
    conversation = Conversation.objects.get(pk=id_in(reply["Location"]))
    assert not conversation.improves_model
    settings = reverse("chat_settings", args=["cooking", conversation.pk])
    for sent, is_on in (({"improves_model": "on"}, True), ({}, False)):
        client.post(settings, sent)
        conversation.refresh_from_db()
        assert conversation.improves_model is is_on


def addresses(answer: int, conversation: int) -> Iterator[str]:
    rest = {"conversation_id": conversation, "message_id": answer, "question_id": answer - 1}
    rest |= {"share_id": 1, "ending": "md", "slug": "cooking"}
    patterns = [*of_conversation, *history.of_conversation, *of_answer, *of_question]
    for pattern in patterns:
        names = {*pattern.pattern.converters, "slug"}
        names.add(
            "message_id" if pattern in of_answer
            else "question_id" if pattern in of_question
            else "conversation_id"
        )  # fmt: skip
        yield reverse(pattern.name, kwargs={name: rest[name] for name in names})


@pytest.mark.parametrize("person", ["mallory", "alice", "olga"])
def test_a_chat_exists_for_its_guest_alone(
    live: Policy, gus: User, browse: Browse, person: str, request: pytest.FixtureRequest
) -> None:
    answer = ask(browse(gus))
    stranger = browse(request.getfixturevalue(person))
    missing = addresses(10**9, 10**9)
    for address, nowhere in zip(addresses(answer.pk, answer.conversation.pk), missing, strict=True):
        for method in (stranger.get, stranger.post):
            reply = method(address, {"thumb": "up", "text": "Hi"})
            assert reply.status_code in (404, 405), address
            assert reply.status_code == method(nowhere).status_code
    assert answer.conversation.messages.count() == 2
    assert not Feedback.objects.exists()


def test_a_stranger_is_sent_to_sign_in(client: Client, db: None) -> None:
    for address in addresses(1, 1):
        assert client.get(address)["Location"].startswith("/sign-in/")
        assert client.post(address).status_code == 401


def test_a_question_is_no_answer(live: Policy, gus: User, browse: Browse) -> None:
    question = ask(browse(gus)).answers
    for name in ("chat_thumb", "chat_regenerate", "chat_stop", "chat_show"):
        reply = browse(gus).post(reverse(name, args=["cooking", question.pk]), {"thumb": "up"})
        assert reply.status_code == 404
