"""Answers while they are written: piece by piece, watched by several, stopped, broken off."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import OperationalError, connection, connections
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from annotate.chat import inference
from annotate.chat import streaming as chat
from annotate.models import Conversation, Message, Policy, Project, User
from tests.chats import HTMX, Browse, ask, go_on, page_of, pending, seen
from tests.model_server import ModelServer


def test_it_streams_piece_by_piece_and_saves_the_whole(
    live: Policy, gus: User, model_server: ModelServer
) -> None:
    answer = pending(gus)
    events = async_to_sync(seen)(answer)
    assert events == [("more", "Boil it "), ("more", "for **eight** "), ("more", "minutes.")]
    answer.refresh_from_db()
    assert (answer.text, answer.state) == ("Boil it for **eight** minutes.", "done")


def test_the_first_word_waits_for_one_turn_at_the_database(
    live: Policy,
    project: Project,
    gus: User,
    model_server: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before: list[str] = []

    async def in_database(work: Any, *args: Any, **kwargs: Any) -> Any:
        if not model_server.asked:
            before.append(work.__name__)
        return await sync_to_async(work)(*args, **kwargs)

    for room in (chat, inference):
        monkeypatch.setattr(room, "in_database", in_database)
    theirs = Message.objects.answers_in(Conversation.objects.of_guest(gus, project))
    answer = theirs.get(pk=pending(gus).pk)
    with CaptureQueriesContext(connection) as asked:
        async_to_sync(seen)(answer)
    assert before == ["_claimed"]
    assert asked.captured_queries[0]["sql"].startswith("UPDATE")  # the claim, and nothing before


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


def test_who_waits_in_the_model_server_s_line_is_told_the_place(
    live: Policy, gus: User, browse: Browse, model_server: ModelServer
) -> None:
    said = [{"choices": [], "queue_position": place} for place in (3, 3, 2, 1, True, -1, "x")]
    answer = [{"choices": [{"delta": {"content": "Boil it."}, "finish_reason": "stop"}]}]
    model_server.raw = [f"data: {json.dumps(each)}\n\n".encode() for each in (*said, *answer)]
    waits = pending(gus)
    stream = browse(gus).get(reverse("chat_stream", args=["cooking", waits.pk]))
    sent = b"".join(_now(stream.streaming_content)).decode()  # type: ignore[attr-defined]
    told = [json.loads(data) for data in re.findall(r"event: waiting\ndata: (.*)\n", sent)]
    assert told == ["3rd in line", "2nd in line", "Next in line", ""]
    waits.refresh_from_db()
    assert (waits.text, waits.state) == ("Boil it.", "done")


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
        has_begun = asyncio.Event()

        async def look() -> None:
            async for _, text in chat.watch(answer):
                if text:
                    has_begun.set()

        watching = asyncio.create_task(look())
        await asyncio.wait_for(has_begun.wait(), 60)
        stop = reverse("chat_stop", args=["cooking", answer.pk])
        await sync_to_async(browse(gus).post)(stop)
        await asyncio.wait_for(watching, 60)

    client = browse(gus)
    browse = lambda _: client  # noqa: E731 - signed in before the loop begins
    async_to_sync(stop_in_the_middle)()
    answer.refresh_from_db()
    assert (answer.text, answer.state, answer.failure) == ("Boil it ", "stopped", "")
    assert "You stopped this answer." in page_of(client, answer.conversation)


@pytest.mark.parametrize(
    ("trouble", "text", "sentence"),
    [
        ({"breaks_after": 2}, "Boil it for **eight** ", "was interrupted"),
        ({"breaks_after": 0}, "", "was interrupted"),
        ({"status": 500}, "", "The model server failed on this"),
        ({"body": "nonsense"}, "", "was interrupted"),
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


def test_all_that_is_written_is_saved_by_one_statement(
    live: Policy, gus: User, django_assert_num_queries: Any
) -> None:
    answers = [pending(gus, f"Question {number}") for number in range(3)]
    for answer in answers:
        answer.begin()
    answers[1].stop()
    with django_assert_num_queries(1):
        running = chat._saved({answer: f"Boil {answer.pk}" for answer in answers})
    assert running == {answers[0], answers[2]}
    for answer in answers:
        answer.refresh_from_db()
    assert [answer.text for answer in answers] == [
        f"Boil {answers[0].pk}", "", f"Boil {answers[2].pk}"
    ]  # fmt: skip


def test_a_stop_is_heard_before_the_first_word(
    live: Policy, gus: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silence(*_: Any, **__: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(600)
        yield

    monkeypatch.setattr(chat, "BEAT", 0.02)
    monkeypatch.setattr(inference, "stream", silence)
    answer = pending(gus)

    async def stop_in_silence() -> None:
        assert await chat.begin(answer)
        async for piece in chat.write(answer):
            assert piece == ""
            await sync_to_async(answer.stop)()

    async_to_sync(stop_in_silence)()
    answer.refresh_from_db()
    assert (answer.text, answer.state, answer.failure) == ("", "stopped", "")


def test_what_could_not_be_saved_is_saved_with_the_next(
    live: Policy, gus: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "BEAT", 0.02)
    answer, saved = pending(gus), chat._saved
    answer.begin()
    broken = iter([OperationalError("the database is starting up")])

    def saved_later(said: Any) -> Any:
        for error in broken:
            raise error
        return saved(said)

    async def say() -> None:
        saver = chat.Saver()
        for text in ("Boil", "Boil it", "Boil it well"):
            assert saver.hear(answer, text)
            await asyncio.sleep(0.2)

    monkeypatch.setattr(chat, "_saved", saved_later)
    async_to_sync(say)()
    answer.refresh_from_db()
    assert answer.text == "Boil it well"


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
                asyncio.gather(*(first_piece(client, answer) for answer in answers)), 120
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


Result = TypeVar("Result")


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
    heard = set()

    async def wait() -> None:
        watching = asyncio.create_task(seen(answer))
        ends = time.monotonic() + 60
        while len(heard) < 3:
            assert time.monotonic() < ends, heard
            await asyncio.sleep(0.02)
            await sync_to_async(answer.refresh_from_db)(fields=["heard_at"])
            heard.add(answer.heard_at)
        model_server.go_on.set()
        await watching

    async_to_sync(wait)()
    assert time.time() - max(filter(None, heard)).timestamp() < 60
