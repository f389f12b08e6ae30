"""The decoding thread: rows of several policies join and leave between two steps.

Each round of the thread lets waiting rows in, reads a piece of the prompts, and takes every row one
token further. A token is drawn as in training (`generation.sampling`): from a uniform number that
belongs to (seed, position), so an answer does not depend on who else is answered.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rlhf.learning.generation.sampling import draw, uniforms, within

from .shelf import Policy
from .speech import Speech

logger = logging.getLogger(__name__)
READ_TOKENS = 128  # of prompts in a round, so that whoever is being answered waits no longer


class Full(Exception):
    """So many wait already that another had better come again."""


@dataclass(frozen=True)
class Place:
    """How many rows are let in before this one, plus one."""

    number: int


@dataclass(frozen=True)
class Piece:
    """Text that a token let through."""

    text: str


@dataclass(frozen=True)
class End:
    """The last of an answer: `reason` is "stop" or "length", or "error" where decoding failed."""

    reason: str
    tokens: int


Event = Place | Piece | End


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn; `max_tokens` with its end token. `is_raw`: it goes on with a raw
    text, outside the chat template."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stops: Sequence[str] = ()
    is_raw: bool = False


@dataclass(eq=False)
class Row:
    """One answer to one prompt. `tell` is called from the decoding thread."""

    policy: Policy
    prompt: list[int]
    sampling: Sampling
    seed: int
    tell: Callable[[Event], None]
    is_cancelled: bool = False
    ids: list[int] = field(default_factory=list)
    place: int = 0

    def __post_init__(self) -> None:
        self.uniforms_T = uniforms([self.seed], self.sampling.max_tokens)[0]
        wish = self.sampling
        self.speech = Speech(self.policy.render, wish.stops, is_raw=wish.is_raw)
        self.room = len(self.prompt) + self.sampling.max_tokens

    def take(self, logits_1V: Tensor) -> bool:
        """Draws the next token and tells its text; is the answer over?"""
        wish, count = self.sampling, len(self.ids)
        logits_1V = within(logits_1V, wish.top_p, wish.temperature)
        chosen, _ = draw(logits_1V, self.uniforms_T[count : count + 1], wish.temperature)
        token = int(chosen)
        self.ids.append(token)
        is_finished = token in self.policy.stops
        text = "" if is_finished else self.speech.add(token)
        is_over = is_finished or self.speech.is_over or count + 1 == wish.max_tokens
        if is_over:
            text += self.speech.rest(is_finished=is_finished)
        if text:
            self.tell(Piece(text))
        if is_over:
            reason = "stop" if is_finished or self.speech.is_over else "length"
            self.tell(End(reason, count + 1))
        return is_over


class Engine:
    """Decodes at most `rows` rows at once, whose keys and values take at most `limit` bytes; an
    answer that alone needs more is decoded alone. `queue` more may wait."""

    def __init__(self, *, rows: int, queue: int, limit: int) -> None:
        self.rows, self.queue, self.limit = rows, queue, limit
        self._changed = threading.Condition()
        self._pending = 0  # rows that were submitted and have not ended
        self._waiting: deque[Row] = deque()
        self._reading: deque[tuple[Row, Any]] = deque()
        self._decoding: dict[Policy, list[Row]] = {}  # in the order of the policy's memory
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="decoding", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Breaks off what is being answered, and ends the thread."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
        self._thread.join()

    def submit(self, rows: Sequence[Row]) -> None:
        """Lets them wait for their turn, all or none. Raises Full."""
        with self._changed:
            if self._is_stopped or self._pending + len(rows) > self.rows + self.queue:
                raise Full
            self._pending += len(rows)
            self._waiting.extend(rows)
            self._changed.notify()

    def cancel(self, rows: Sequence[Row]) -> None:
        """Nobody listens to these any more: they leave before the next step."""
        with self._changed:
            for row in rows:
                row.is_cancelled = True
            self._changed.notify()

    @property
    def state(self) -> dict[str, int]:
        """How many rows are being answered, and how many wait."""
        with self._changed:
            waiting = len(self._waiting)
            return {"running": self._pending - waiting, "waiting": waiting}

    @torch.no_grad()
    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._is_stopped or self._pending):
                    self._changed.wait()
                if self._is_stopped:
                    break
                self._forget_cancelled()
                self._let_in()
            self._read()
            for policy in list(self._decoding):
                self._step(policy)
        for row in (*self._waiting, *(row for row, _ in self._reading), *self._decoded()):
            row.tell(End("error", len(row.ids)))

    def _decoded(self) -> list[Row]:
        return [row for rows in self._decoding.values() for row in rows]

    def _forget_cancelled(self) -> None:
        before = len(self._waiting) + len(self._reading)
        self._waiting = deque(row for row in self._waiting if not row.is_cancelled)
        self._reading = deque(each for each in self._reading if not each[0].is_cancelled)
        self._pending -= before - len(self._waiting) - len(self._reading)
        for row in self._decoded():
            if row.is_cancelled:
                self._leave(row)

    def _let_in(self) -> None:
        while self._waiting and self._fits(self._waiting[0]):
            row = self._waiting.popleft()
            self._reading.append((row, row.policy.memory.read(row.prompt, row.room)))
        for number, row in enumerate(self._waiting, 1):
            if row.place != number:
                row.place = number
                row.tell(Place(number))

    def _fits(self, row: Row) -> bool:
        """Is there a place for it now, with all that were let in before it?"""
        inside = [each for each, _ in self._reading] + self._decoded()
        if not inside or len(inside) >= self.rows:
            return not inside
        joining: dict[Policy, list[int]] = {each.policy: [] for each in (row, *inside)}
        for each in (row, *(each for each, _ in self._reading)):
            joining[each.policy].append(each.room)
        held = sum(each.memory.bytes_with(rooms) for each, rooms in joining.items())
        return held <= self.limit

    def _read(self) -> None:
        """Reads on in the prompts, the one that came first at first."""
        left = READ_TOKENS
        while self._reading and left > 0:
            row, reading = self._reading[0]
            before = reading.place
            try:
                hidden_1H = reading.go_on(left)
                if hidden_1H is not None:
                    row.policy.memory.join(reading)
                    self._decoding.setdefault(row.policy, []).append(row)
                    self._reading.popleft()
                    self._take(row.policy, [row], hidden_1H)
            except Exception:  # of one row; the others are answered on
                self._fail(row)
                return
            left -= reading.place - before

    def _step(self, policy: Policy) -> None:
        """Takes every row of a policy one token further."""
        rows = list(self._decoding[policy])
        try:
            self._take(policy, rows, policy.memory.advance([row.ids[-1] for row in rows]))
        except Exception:
            for row in rows:
                self._fail(row)

    def _take(self, policy: Policy, rows: list[Row], hidden_BH: Tensor) -> None:
        logits_BV = policy.logits(hidden_BH)
        for number, row in enumerate(rows):
            if row.take(logits_BV[number : number + 1]):
                self._leave(row)

    def _leave(self, row: Row) -> None:
        rows = self._decoding[row.policy]
        number = rows.index(row)
        rows[number] = rows[-1]
        rows.pop()
        row.policy.memory.leave(number)
        if not rows:
            del self._decoding[row.policy]
        with self._changed:
            self._pending -= 1

    def _fail(self, row: Row) -> None:
        """Ends an answer whose decoding raised; called while that is handled."""
        logger.exception("an answer of %s failed", row.policy.name)
        if row in self._decoding.get(row.policy, ()):
            self._leave(row)
        elif self._reading and self._reading[0][0] is row:
            self._reading.popleft()
            with self._changed:
                self._pending -= 1
        else:  # it had ended before another one failed
            return
        row.tell(End("error", len(row.ids)))
