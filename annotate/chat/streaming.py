"""Answers while they are being written.

The first who asks to see an answer makes this process write it, in a task that outlives the page:
closing the tab loses nothing. Everybody else, in whatever process, follows in PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, TypeVar

from django.contrib.humanize.templatetags.humanize import ordinal

from annotate.chat import inference
from annotate.documents.consulting import consulted
from annotate.prompts.written import Written, WrittenQuerySet
from annotate.text.markdown import Growing
from feedback_site.pool import in_database

BEAT = 0.5  # seconds between two savings of what has come
SHOWN_EVERY = 0.08  # seconds, about; a person reads no faster
SHARE_SHOWING = 10  # of so many seconds, at most one goes into rendering all that is written here

Item = TypeVar("Item")

_writing: set[asyncio.Task[None]] = set()


class Saver:
    """Saves what all answers that are written here have said, twice a second, in one statement: one
    for each of two hundred streams would leave the database little time for others."""

    def __init__(self) -> None:
        self._said: dict[Written, str] = {}
        self._has_words: dict[Written, bool] = {}
        self._stopped: set[Written] = set()
        self._task: asyncio.Task[None] | None = None
        self._has_new = asyncio.Event()

    def hear(self, answer: Written, text: str) -> bool:
        """Has this saved in a moment; the first words at once. False: somebody has stopped it."""
        self._said[answer] = text
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._has_new = asyncio.Event()
            self._task = loop.create_task(self._save())
        if text and not self._has_words.get(answer):
            self._has_new.set()
        self._has_words[answer] = bool(text)
        return answer not in self._stopped

    def forget(self, answer: Written) -> None:
        self._said.pop(answer, None)
        self._has_words.pop(answer, None)
        self._stopped.discard(answer)

    async def _save(self) -> None:
        while self._said:
            self._has_new.clear()
            said, self._said = self._said, {}
            running = await in_database(_saved, said)
            self._stopped |= (said.keys() - running) & self._has_words.keys()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._has_new.wait(), BEAT)


_saver = Saver()


def _saved(said: dict[Written, str]) -> set[Written]:
    running = set()
    for table in {type(answer) for answer in said}:
        of_it = {answer.pk: answer for answer in said if type(answer) is table}
        texts = {pk: said[answer] for pk, answer in of_it.items()}
        running |= {of_it[pk] for pk in WrittenQuerySet(table).hear(texts)}
    return running


async def watch(answer: Written) -> AsyncIterator[tuple[str, str]]:
    """("whole", what there is), then ("more", …) as it comes, until the answer has ended."""
    if not await begin(answer):
        async for event in _follow(answer):
            yield event
        return
    yield "whole", ""
    pieces = _begin_writing(answer)
    while (piece := await pieces.get()) is not None:
        yield "more", piece


async def server_sent_events(answer: Written) -> AsyncIterator[str]:
    """The same, as the events of a stream that a browser reads. `shown` is what to show of it: HTML
    that is finished, and HTML of the last block, which takes the place of what was last before.
    `waiting` is what to say of the place in the model server's line, "" once it is left."""
    text, next_at, waiting = Growing(), 0.0, ""
    async for event, piece in watch(answer):
        yield _event(event, piece) if piece else f": {event}\n\n"
        if waiting != (waiting := in_line(answer.place)):
            yield _event("waiting", waiting)
        text.add(piece)
        began = time.monotonic()
        if text.has_news and began >= next_at:
            yield _event("shown", text.take())
            spent = time.monotonic() - began
            next_at = began + max(SHOWN_EVERY, SHARE_SHOWING * spent * len(_writing))
    if text.has_news:
        yield _event("shown", text.take())
    yield _event("done", {})


def in_line(place: int) -> str:
    """What to say to whoever waits; nothing where nobody is before them."""
    if place < 1:
        return ""
    return "Next in line" if place == 1 else f"{ordinal(place)} in line"


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


async def write_whole(answer: Written) -> None:
    """For those who wait for the whole answer."""
    if await begin(answer):
        async for _ in write(answer):
            pass


async def begin(answer: Written) -> bool:
    """Claims the writing of an answer; True for one caller only. A stream is long, and connections
    are few: those of the middleware go back with this one's."""
    return await in_database(_claimed, answer)


def _claimed(answer: Written) -> bool:
    # What writing reads is read in the same turn: each is a way to another thread and back, and
    # the guest waits for all of them.
    return answer.begin() and bool(answer.use)


async def write(answer: Written) -> AsyncGenerator[str, None]:
    """Writes an answer that the caller has begun by `begin`: asks its policy, saves what comes
    twice a second and yields it. However it ends, what came is kept, with the reason."""
    State = Written.State
    text, started = "", time.monotonic()
    facts: dict[str, Any] = {"state": State.FAILED, "failure": Written.BROKE_OFF}
    assert answer.policy is not None
    if answer.policy.passages_read and not answer.is_raw:
        await in_database(_look_up, answer)
    asking = inference.stream(answer.policy, answer.context, use=answer.use, **answer.sampling)
    try:
        async with contextlib.aclosing(_with_beats(asking, every=BEAT)) as deltas:
            async for delta in deltas:
                if delta:
                    answer.place, answer.calls = delta.place, (*answer.calls, *delta.calls)
                if delta and delta.text:
                    text += delta.text
                    facts.setdefault("first_token_ms", _ms_since(started))
                if delta and delta.finish_reason:
                    facts |= {"finish_reason": delta.finish_reason[:20], "state": State.DONE}
                    facts |= {"failure": "", **delta.usage}
                yield delta.text if delta else ""
                if not _saver.hear(answer, text):
                    facts |= {"state": State.STOPPED, "failure": ""}
                    break
    except inference.InferenceError as error:
        facts["failure"] = str(error)
    finally:
        _saver.forget(answer)
        await in_database(answer.end, text=text, total_ms=_ms_since(started), **facts)


def _look_up(answer: Written) -> None:
    """Gives the answer what its policy reads. Before that nothing is held or locked: an embedding
    model may be slow."""
    answer.read(consulted(answer.policy, answer.asked))


async def _follow(answer: Written) -> AsyncIterator[tuple[str, str]]:
    seen = answer.text
    yield "whole", seen
    while True:
        await in_database(answer.refresh_from_db, fields=["text", "state", "heard_at"])
        if len(answer.text) > len(seen):
            yield "more", answer.text[len(seen) :]
            seen = answer.text
        if not answer.is_running:
            return
        await asyncio.sleep(BEAT)


def _begin_writing(answer: Written) -> asyncio.Queue[str | None]:
    pieces: asyncio.Queue[str | None] = asyncio.Queue()

    async def pump() -> None:
        try:
            async for piece in write(answer):
                pieces.put_nowait(piece)
        finally:
            pieces.put_nowait(None)

    task = asyncio.create_task(pump())
    _writing.add(task)  # the loop itself holds tasks weakly
    task.add_done_callback(_writing.discard)
    return pieces


async def _with_beats(
    source: AsyncGenerator[Item, None], *, every: float
) -> AsyncGenerator[Item | None, None]:
    """What `source` yields, and None whenever it was silent for so long."""
    coming = asyncio.ensure_future(anext(source))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=every)
            if not done:
                yield None
                continue
            try:
                item = coming.result()
            except StopAsyncIteration:
                return
            yield item
            coming = asyncio.ensure_future(anext(source))
    finally:
        coming.cancel()
        await asyncio.wait({coming})
        await source.aclose()


def _ms_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
