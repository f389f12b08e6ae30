"""Alpaca: `instruction`, perhaps an `input`, and an `output`; and what LLaMA-Factory adds:
`system`, `history`, `chosen` and `rejected`, or `label`."""

from __future__ import annotations

from collections.abc import Iterator

from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.shapes.shape import (
    ABOUT,
    Raw,
    Reading,
    Shape,
    Skip,
    about,
    joined,
    listed,
    text,
)
from annotate.exchange.turns import demonstrations, preference, thumb
from annotate.prompts.models import Messages


def _recognises(row: Raw) -> bool:
    is_answered = isinstance(row.get("output"), str) or {"chosen", "rejected"} <= row.keys()
    return isinstance(row.get("instruction"), str) and is_answered and "output_1" not in row


def _read(row: Raw, reading: Reading) -> Iterator[Raw | Skip]:
    messages = _asked(row)
    if row.get("chosen") is not None and row.get("rejected") is not None:
        one, other = ([_answer(text(row, name))] for name in ("chosen", "rejected"))
        yield preference([], messages + one, messages + other, about(row))
        return
    messages.append(_answer(text(row, "output")))
    if row.get("label") is not None:
        yield thumb(messages, row["label"], about(row))
    else:
        yield from demonstrations(messages, [None] * len(messages), reading, about(row))


def _asked(row: Raw) -> Messages:
    messages = []
    if text(row, "system").strip():
        messages.append({"role": "system", "content": text(row, "system")})
    for turn in listed(row.get("history")) or []:
        if not (
            isinstance(turn, list) and len(turn) == 2 and all(isinstance(t, str) for t in turn)
        ):
            raise BadRow("“history” is a list of pairs: what was asked and what was answered.")
        messages += [{"role": "user", "content": turn[0]}, _answer(turn[1])]
    asked = joined(text(row, "instruction"), text(row, "input"))
    return [*messages, {"role": "user", "content": asked}]


def _answer(said: str) -> dict[str, str]:
    return {"role": "assistant", "content": said}


SHAPE = Shape(
    name="alpaca",
    label="Alpaca: instruction, input, output",
    recognises=_recognises,
    read=_read,
    reads=ABOUT
    | {"instruction", "input", "output", "system", "history", "chosen", "rejected", "label"},
)
