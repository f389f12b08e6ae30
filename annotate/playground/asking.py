"""Workers ask the cells of grids: as many at once as the servers allow, each of them once.

A slice is short, so that the other small jobs of the worker get their turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any
from uuid import uuid4

from asgiref.sync import async_to_sync

from annotate.chat import inference
from annotate.chat.inference import Delta, InferenceError
from annotate.connections.asked_once import AskedOnceQuerySet
from annotate.costs.recording import price_of
from annotate.costs.uses import Use
from annotate.documents.consulting import consulted
from annotate.playground.cells import Cell
from annotate.playground.grids import Grid
from annotate.playground.users import user_of
from annotate.prompts.models import Messages
from annotate.prompts.passages import Read
from annotate.prompts.policies import Policy
from feedback_site.pool import in_database, release_connections

SLICE_SECONDS, HEARTBEAT_SECONDS = 5.0, 5.0
MOST_TRIES = 5  # of a cell whose server is busy
TELL_SECONDS = 1.0  # between two looks at an answer that is coming
AT_ONCE = 2  # of a server without a connection that says how many
# The server is not there, or will not have us: the next cell would hear the same.
HOPELESS = (inference.NOT_ANSWERING,)
Hear = Callable[[str], None]


def _nobody(so_far: str) -> None:
    pass


@dataclass
class Lane:
    """The columns that one server answers; so many of their cells are asked at once."""

    columns: list[int] = field(default_factory=list)
    at_once: int = AT_ONCE


@dataclass(frozen=True)
class Said:
    """An answer with how long it took."""

    text: str
    finish_reason: str
    usage: dict[str, int]
    first_ms: int | None
    total_ms: int
    passages: list[Read] = field(default_factory=list)


def ask_for_a_while(grid: Grid, seconds: float = SLICE_SECONDS) -> int:
    """Asks cells that wait, and returns how many; begins none after so many seconds."""
    policies = grid.policies()
    cells = Cell.objects.filter(grid=grid)

    def ask(cell: Cell) -> str:
        cell.grid = grid  # its rows and checks are read already
        return _ask(cell, policies[cell.column])

    lanes = [(cells.in_columns(lane.columns), lane.at_once) for lane in _lanes(policies)]
    return ask_side_by_side(lanes, ask, seconds)


def ask_side_by_side(
    lanes: Sequence[tuple[AskedOnceQuerySet, int]], ask: Callable[[Any], str], seconds: float
) -> int:
    """Asks what waits, in each lane so many at once, and returns how many; begins nothing after so
    many seconds. `ask` stores what came of a question, and returns what went wrong, or nothing."""
    token, over, until = uuid4(), Event(), time.monotonic() + seconds

    def work(waiting: AskedOnceQuerySet) -> int:
        asked = 0
        try:
            while time.monotonic() < until and not over.is_set():
                question = waiting.claim(token)
                if question is None:
                    break
                trouble = ask(question)
                asked += 1
                if trouble in HOPELESS:
                    waiting.fail(trouble)
        finally:
            release_connections()
        return asked

    with ThreadPoolExecutor(sum(at_once for _, at_once in lanes)) as pool:
        threads = [pool.submit(work, lane) for lane, at_once in lanes for _ in range(at_once)]
        try:
            while wait(threads, timeout=HEARTBEAT_SECONDS).not_done:
                for lane, _ in lanes:
                    lane.hold(token)
                release_connections()
        finally:
            over.set()
    return sum(each.result() for each in threads)


def _lanes(policies: list[Policy]) -> list[Lane]:
    lanes: dict[tuple[int | None, str], Lane] = {}
    for number, policy in enumerate(policies):
        lane = lanes.setdefault((policy.connection_id, policy.endpoint), Lane())
        lane.columns.append(number)
        if policy.connection:
            lane.at_once = policy.connection.parallel
    return list(lanes.values())


def _ask(cell: Cell, policy: Policy) -> str:
    """Asks one cell and stores what came of it. Returns what went wrong, or nothing."""
    grid, row, seed = cell.grid, cell.grid.row(cell.row), cell.grid.seed + cell.sample
    user = user_of(grid, row, lambda player, seen: listen(player, seen, seed=seed).text)
    conversation, said, turns = [*row.messages], [], []
    try:
        while True:
            said.append(listen(policy, conversation, seed=seed, hear=cell.hear))
            conversation.append({"role": "assistant", "content": said[-1].text})
            turn = user.reply(conversation, [each.text for each in said])
            if turn is None:
                break
            conversation.append({"role": "user", "content": turn})
            turns.append(turn)
    except InferenceError as error:
        if str(error) == inference.BUSY and not said and cell.tries < MOST_TRIES:
            cell.put_back()
            return ""
        cell.fail(str(error))
        return str(error)
    usage = sum_of([each.usage for each in said])
    *between, last = said
    cell.answer(
        text=last.text,
        finish_reason=last.finish_reason,
        between=[each.text for each in between],
        turns=turns if grid.partner != Grid.Partner.SCRIPT else (),
        usage=usage,
        first_ms=said[0].first_ms,
        total_ms=sum(each.total_ms for each in said),
        passages=last.passages,
        price=price_of(policy, usage),
    )
    return ""


def listen(
    policy: Policy, conversation: Messages, *, seed: int, use: str = Use.GRID, hear: Hear = _nobody
) -> Said:
    """What a policy answers, streamed so that the first token is seen, and `hear` told from time to
    time how far it has come. Raises InferenceError."""
    read = consulted(policy, conversation)
    messages = policy.messages_for(conversation, read)
    release_connections()
    return replace(async_to_sync(_listen)(policy, messages, seed, use, hear), passages=read)


async def _listen(policy: Policy, messages: Messages, seed: int, use: str, hear: Hear) -> Said:
    began, first_ms, told = time.monotonic(), None, time.monotonic()
    parts, last = [], Delta()
    async with aclosing(inference.stream(policy, messages, use=use, seed=seed)) as coming:
        async for delta in coming:
            if delta.text and first_ms is None:
                first_ms = _since(began)
            parts.append(delta.text)
            last = delta
            if hear is not _nobody and time.monotonic() - told > TELL_SECONDS:
                await in_database(hear, "".join(parts))
                told = time.monotonic()
    return Said("".join(parts), last.finish_reason, last.usage, first_ms, _since(began))


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def sum_of(counted: list[dict[str, int]]) -> dict[str, int]:
    """Tokens of several answers; nothing where one was not counted."""
    names = ("prompt_tokens", "completion_tokens")
    return {
        name: sum(each[name] for each in counted)
        for name in names
        if all(name in each for each in counted)
    }


def waiting_grid() -> Grid | None:
    """The oldest grid that has cells to ask; marks those of dead workers first."""
    Cell.objects.give_up_lapsed()
    cell = Cell.objects.waiting().order_by("grid_id").first()
    return Grid.objects.select_related("project").get(pk=cell.grid_id) if cell else None
