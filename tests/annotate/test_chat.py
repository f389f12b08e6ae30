"""A guest's way through the chat, with a model server over real HTTP."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import IntegrityError, connections, transaction
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from annotate import chat, inference
from annotate.models import Completion, Conversation, Feedback, Message, Policy, Prompt, User
from annotate.models.chat import StillAnswering
from annotate.views.chat import of_answer, of_conversation
from tests.model_server import ModelServer

Browse = Callable[[User], Client]
HTMX = {"HX-Request": "true"}
QUESTION = "How do I boil an egg?"
Result = TypeVar("Result")


def ask(client: Client, text: str = QUESTION, **fields: Any) -> Message:
    """A new chat, without JavaScript: the answer comes whole."""
    reply = client.post("/p/cooking/chat/new/", {"text": text, "improves_model": "on", **fields})
    assert reply.status_code == 302, reply.content.decode()
    return Message.objects.get(role="assistant", conversation=_id_in(reply["Location"]))


def go_on(client: Client, conversation: Conversation, text: str) -> Message:
    client.post(reverse("chat_send", args=["cooking", conversation.pk]), {"text": text})
    return conversation.messages.order_by("-id").first()


def pending(gus: User, text: str = QUESTION) -> Message:
    """An answer nobody has begun to write, as the page asks for it."""
    answer = Conversation.start(project=gus.memberships.get().project, guest=gus, text=text)
    return Message.objects.answers_in(Conversation.objects.all()).get(pk=answer.pk)


def page_of(client: Client, conversation: Conversation) -> str:
    return client.get(
        reverse("chat_conversation", args=["cooking", conversation.pk])
    ).content.decode()


async def seen(answer: Message) -> list[tuple[str, str]]:
    return [event async for event in chat.watch(answer) if event[1]]


def _id_in(address: str) -> int:
    return int(re.findall(r"/chat/(\d+)/", address)[0])


def test_it_answers_without_javascript(live: Policy, gus: User, browse: Browse) -> None:
    answer = ask(browse(gus))
    page = page_of(browse(gus), answer.conversation)
    assert "How do I boil an egg?" in page
    assert "<p>Boil it for <strong>eight</strong> minutes.</p>" in page
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


def test_it_streams_piece_by_piece_and_saves_the_whole(
    live: Policy, gus: User, model_server: ModelServer
) -> None:
    answer = pending(gus)
    events = async_to_sync(seen)(answer)
    assert events == [("more", "Boil it "), ("more", "for **eight** "), ("more", "minutes.")]
    answer.refresh_from_db()
    assert (answer.text, answer.state) == ("Boil it for **eight** minutes.", "done")


def test_with_javascript_the_page_opens_a_stream(live: Policy, gus: User, browse: Browse) -> None:
    conversation = ask(browse(gus)).conversation
    address = reverse("chat_send", args=["cooking", conversation.pk])
    reply = browse(gus).post(address, {"text": "And then?"}, headers=HTMX)
    answer = conversation.messages.get(state="streaming")
    stream = reverse("chat_stream", args=["cooking", answer.pk])
    assert f'data-stream="{stream}"' in reply.content.decode()

    reply = browse(gus).get(stream)
    sent = b"".join(_now(reply.streaming_content)).decode()  # type: ignore[attr-defined]
    assert reply["Content-Type"] == "text/event-stream"
    texts = [json.loads(data) for data in re.findall(r"event: more\ndata: (.*)\n", sent)]
    assert "".join(texts) == "Boil it for **eight** minutes."
    assert sent.endswith("event: done\ndata: {}\n\n")

    turn = browse(gus).get(reverse("chat_turn", args=["cooking", answer.pk]), headers=HTMX)
    assert "<strong>eight</strong>" in turn.content.decode()


def _now(parts: AsyncIterator[bytes]) -> list[bytes]:
    async def collect() -> list[bytes]:
        return [part async for part in parts]

    return async_to_sync(collect)()


def test_the_second_to_look_follows_the_first(
    live: Policy, gus: User, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "BEAT", 0.02)
    model_server.waits = True
    answer = pending(gus)

    async def two_pages() -> tuple[str, str]:
        first = asyncio.create_task(seen(answer))
        await asyncio.sleep(0.2)
        reread = await sync_to_async(Message.objects.get)(pk=answer.pk)
        second = asyncio.create_task(seen(reread))
        await asyncio.sleep(0.1)
        model_server.go_on.set()
        texts = [await first, await second]
        return tuple("".join(text for _, text in events) for events in texts)  # type: ignore

    assert async_to_sync(two_pages)() == ("Boil it for **eight** minutes.",) * 2
    assert len(model_server.asked) == 1


def test_closing_the_page_does_not_stop_the_answer(
    live: Policy, gus: User, model_server: ModelServer
) -> None:
    model_server.waits = True
    answer = pending(gus)

    async def look_and_leave() -> None:
        async with aclosing(chat.watch(answer)) as events:  # type: ignore[type-var]
            async for _, text in events:
                if text:
                    break
        model_server.go_on.set()
        await asyncio.gather(*chat._writing)

    async_to_sync(look_and_leave)()
    answer.refresh_from_db()
    assert (answer.text, answer.state) == ("Boil it for **eight** minutes.", "done")


def test_a_stopped_answer_keeps_what_came(
    live: Policy, gus: User, browse: Browse, model_server: ModelServer, monkeypatch: Any
) -> None:
    monkeypatch.setattr(chat, "BEAT", 0.02)
    model_server.waits = True
    answer = pending(gus)

    async def stop_in_the_middle() -> None:
        watching = asyncio.create_task(seen(answer))
        await asyncio.sleep(0.3)
        stop = reverse("chat_stop", args=["cooking", answer.pk])
        await sync_to_async(browse(gus).post)(stop)
        await asyncio.wait_for(watching, 2)

    client = browse(gus)
    browse = lambda _: client  # noqa: E731 - signed in before the loop begins
    async_to_sync(stop_in_the_middle)()
    answer.refresh_from_db()
    assert (answer.text, answer.state, answer.failure) == ("Boil it ", "stopped", "")
    assert "You stopped this answer." in page_of(client, answer.conversation)


@pytest.mark.parametrize(
    ("trouble", "text", "sentence"),
    [
        ({"breaks_after": 2}, "Boil it for **eight** ", "broke off"),
        ({"breaks_after": 0}, "", "broke off"),
        ({"status": 500}, "", "The model server failed on this"),
        ({"body": "nonsense"}, "", "broke off"),
    ],
)
def test_a_broken_answer_keeps_what_came_and_says_so(
    live: Policy,
    gus: User,
    browse: Browse,
    model_server: ModelServer,
    trouble: dict[str, Any],
    text: str,
    sentence: str,
) -> None:
    for name, value in trouble.items():
        setattr(model_server, name, value)
    answer = ask(browse(gus))
    assert (answer.text, answer.state) == (text, "failed")
    assert sentence in page_of(browse(gus), answer.conversation)


def test_it_says_when_nobody_listens_and_goes_on_afterwards(
    live: Policy, gus: User, browse: Browse, model_server: ModelServer, settings: Any
) -> None:
    settings.INFERENCE_URL = "http://127.0.0.1:9/v1"
    answer = ask(browse(gus))
    assert answer.failure == inference.NOT_ANSWERING
    assert inference.NOT_ANSWERING in page_of(browse(gus), answer.conversation)
    settings.INFERENCE_URL = model_server.url
    assert go_on(browse(gus), answer.conversation, "Now?").state == "done"


def test_an_answer_whose_writer_died_is_seen_as_broken_off(
    live: Policy, gus: User, browse: Browse
) -> None:
    answer = pending(gus)
    long_ago = timezone.now() - timedelta(seconds=31)
    Message.objects.filter(pk=answer.pk).update(heard_at=long_ago, text="Boil")
    page = page_of(browse(gus), answer.conversation)
    assert Message.BROKE_OFF in page
    assert "data-stream" not in page
    assert go_on(browse(gus), answer.conversation, "Still there?").state == "done"
    answer.refresh_from_db()
    assert (answer.text, answer.state) == ("Boil", "failed")


def test_nobody_begins_an_answer_that_broke_off(live: Policy, gus: User) -> None:
    answer = pending(gus)
    long_ago = timezone.now() - timedelta(seconds=31)
    Message.objects.filter(pk=answer.pk).update(created_at=long_ago)
    assert not answer.begin()


def test_a_reopened_page_goes_on_with_the_stream(live: Policy, gus: User, browse: Browse) -> None:
    answer = pending(gus)
    answer.begin()
    answer.hear("Boil it ")
    page = page_of(browse(gus), answer.conversation)
    assert 'class="prose streaming">Boil it <' in page
    assert "data-stream=" in page
    assert "Stop" in page


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
    assert _id_in(client.get("/p/cooking/chat/")["Location"]) == newest.pk
    page = page_of(client, newest)
    assert page.index("What is umami?") < page.index(QUESTION)


def test_the_page_costs_the_same_however_long_the_chat(
    live: Policy, gus: User, browse: Browse, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = browse(gus)
    conversation = ask(client).conversation
    address = reverse("chat_conversation", args=["cooking", conversation.pk])
    with django_assert_num_queries(8):
        client.get(address)
    for number in range(4):
        answer = go_on(client, conversation, f"And {number}?")
        Feedback.give(message=answer, user=gus, thumb_up=True)
    with django_assert_num_queries(8):
        client.get(address)


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
    conversation = Conversation.objects.get(pk=_id_in(reply["Location"]))
    assert not conversation.improves_model
    settings = reverse("chat_settings", args=["cooking", conversation.pk])
    for sent, is_on in (({"improves_model": "on"}, True), ({}, False)):
        client.post(settings, sent)
        conversation.refresh_from_db()
        assert conversation.improves_model is is_on


def addresses(answer: int, conversation: int) -> Iterator[str]:
    for pattern in of_conversation:
        yield reverse(pattern.name, args=["cooking", conversation])
    for pattern in of_answer:
        yield reverse(pattern.name, args=["cooking", answer])


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
        for method in (client.get, client.post):
            reply = method(address)
            assert reply.status_code == 302
            assert reply["Location"].startswith("/sign-in/")


def test_a_question_is_no_answer(live: Policy, gus: User, browse: Browse) -> None:
    question = ask(browse(gus)).answers
    for name in ("chat_thumb", "chat_regenerate", "chat_stop", "chat_show"):
        reply = browse(gus).post(reverse(name, args=["cooking", question.pk]), {"thumb": "up"})
        assert reply.status_code == 404


@contextmanager
def unhurried(model_server: ModelServer) -> Iterator[None]:
    """Every answer waits after its first piece, until the end of the block."""
    model_server.waits = True
    yield
    model_server.go_on.set()


@pytest.mark.django_db(transaction=True)
def test_streams_hold_no_database_connection(
    live: Policy, gus: User, model_server: ModelServer
) -> None:
    """More streams at once than the pool has connections, and the site still answers."""
    streams = 20
    answers = [pending(gus, f"Question {number}") for number in range(streams)]

    async def first_piece(client: AsyncClient, answer: Message) -> Any:
        reply = await client.get(reverse("chat_stream", args=["cooking", answer.pk]))
        parts = aiter(reply.streaming_content)  # type: ignore[attr-defined]
        while b"Boil" not in await anext(parts):
            pass
        return parts

    async def open_all() -> int:
        client = AsyncClient()
        await client.aforce_login(gus)
        with unhurried(model_server):
            opened = await asyncio.wait_for(
                asyncio.gather(*(first_piece(client, answer) for answer in answers)), 30
            )
            await sync_to_async(connections.close_all)()
            await asyncio.sleep(2 * chat.BEAT)
            stats = connections["default"].pool.get_stats()  # type: ignore[attr-defined]
            busy = stats["pool_size"] - stats["pool_available"]
        for parts in opened:
            async for _ in parts:
                pass
        return busy

    connections.close_all()
    assert _run(open_all()) <= 2
    assert {answer.state for answer in Message.objects.filter(role="assistant")} == {"done"}


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    async def tidy() -> Result:
        try:
            return await work
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(tidy())


def test_a_silent_model_server_does_not_look_dead(
    live: Policy, gus: User, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cold server is silent while it loads weights; the answer must not count as broken off."""
    monkeypatch.setattr(chat, "BEAT", 0.02)
    model_server.waits = True
    answer = pending(gus)
    heard = []

    async def wait() -> None:
        watching = asyncio.create_task(seen(answer))
        for _ in range(2):
            await asyncio.sleep(0.2)
            await sync_to_async(answer.refresh_from_db)(fields=["heard_at"])
            heard.append(answer.heard_at)
        model_server.go_on.set()
        await watching

    async_to_sync(wait)()
    assert heard[0] < heard[1]
    assert time.time() - heard[1].timestamp() < 5
