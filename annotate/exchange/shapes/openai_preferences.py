"""OpenAI's preference fine-tuning: `input` with messages, `preferred_output` and
`non_preferred_output`."""

from __future__ import annotations

from collections.abc import Iterator

from annotate.exchange.shapes.shape import ABOUT, Raw, Reading, Shape, about, has, listed
from annotate.exchange.turns import preference, turns_of


def _recognises(row: Raw) -> bool:
    return has(row, "input", "preferred_output", "non_preferred_output")


def _read(row: Raw, reading: Reading) -> Iterator[Raw]:
    asked = listed(row.get("input"))
    if isinstance(asked, dict):
        for name in asked.keys() - {"messages"}:
            if asked[name] not in (None, "", [], {}, True):
                reading.note(f"{name} of input")
        asked = asked.get("messages")
    messages, _ = turns_of(asked, reading)
    one, other = (
        turns_of(row.get(name), reading)[0] for name in ("preferred_output", "non_preferred_output")
    )
    yield preference([], messages + one, messages + other, about(row))


SHAPE = Shape(
    name="openai_preferences",
    label="OpenAI preference fine-tuning",
    recognises=_recognises,
    read=_read,
    reads=ABOUT | {"input", "preferred_output", "non_preferred_output"},
)
