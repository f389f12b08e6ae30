"""ShareGPT: `conversations` of {from, value}, and what LLaMA-Factory adds: `system`, a pair of
`chosen` and `rejected` last turns, or a `label` for the last turn."""

from __future__ import annotations

from collections.abc import Iterator

from annotate.exchange.columns import judges
from annotate.exchange.parsing import READ, kind_of
from annotate.exchange.shapes.shape import ABOUT, Raw, Reading, Shape, Skip, about, text
from annotate.exchange.turns import (
    demonstrations,
    is_conversation,
    preference,
    thumb,
    turns_of,
)

NAMES = ("conversations", "conversation")
OURS = {
    *("simulated", "strength", "margin", "policies", "finish_reasons", "guideline_version"),
    *("active_seconds", "pasted_share", "comment", "reasons", "note", "wanted_answer", "split_key"),
}


def _recognises(row: Raw) -> bool:
    return any(is_conversation(row.get(name)) for name in NAMES)


def _read(row: Raw, reading: Reading) -> Iterator[Raw | Skip]:
    """With what our own exports in this shape hold beside it."""
    for found in _said(row, reading):
        if isinstance(found, Skip):
            yield found
            continue
        read = READ[kind_of(found)]
        beside = {n: row[n] for n in OURS & row.keys() if row[n] not in (None, "", [])}
        for name in beside.keys() - read:
            reading.note(name, judges=judges(name))
        yield {name: value for name, value in beside.items() if name in read} | found


def _said(row: Raw, reading: Reading) -> Iterator[Raw | Skip]:
    name = next((name for name in NAMES if row.get(name)), NAMES[0])
    messages, weights = turns_of(row.get(name), reading)
    if (system := text(row, "system")).strip() and messages[:1] != (
        start := [{"role": "system", "content": system}]
    ):
        messages, weights = start + messages, [None, *weights]
    if row.get("chosen") and row.get("rejected"):
        answers = [row["chosen"], row["rejected"]]
        one, other = (
            turns_of(each if isinstance(each, list) else [each], reading)[0] for each in answers
        )
        yield preference([], messages + one, messages + other, about(row))
    elif row.get("label") is not None:
        yield thumb(messages, row["label"], about(row))
    else:
        yield from demonstrations(messages, weights, reading, about(row))


SHAPE = Shape(
    name="sharegpt",
    label="ShareGPT conversations",
    recognises=_recognises,
    read=_read,
    reads=ABOUT | {*NAMES, "system", "chosen", "rejected", "label", *OURS},
    implied=frozenset(("ranking",)),
)
