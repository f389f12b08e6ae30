"""AlpacaEval's annotations: two outputs and a `preference` from 1 (the first) to 2 (the second) by
a judging model, which is a simulated labeler here."""

from __future__ import annotations

from collections.abc import Iterator

from annotate.exchange.shapes.shape import (
    ABOUT,
    Raw,
    Reading,
    Shape,
    Skip,
    about,
    has,
    joined,
    number,
    ranking,
    text,
)


def _recognises(row: Raw) -> bool:
    return has(row, "instruction", "output_1", "output_2", "preference")


def _read(row: Raw, reading: Reading) -> Iterator[Raw]:
    if row.get("preference") in (None, ""):
        raise Skip("no preference was given")
    preference = number(row["preference"], "preference")
    ranks = [1, 1] if preference in (0, 1.5) else [1, 2] if preference < 1.5 else [2, 1]
    judge = str(row.get("annotator") or "")[:90]
    by = {"labeler": judge, "simulated": True} if judge else {}
    yield ranking(
        joined(text(row, "instruction"), text(row, "input")),
        [text(row, "output_1"), text(row, "output_2")],
        ranks,
        policies=[(str(row.get(f"generator_{n}") or f"output_{n}"))[:100] for n in (1, 2)],
        **(by | about(row)),
    )


SHAPE = Shape(
    name="alpaca_eval",
    label="AlpacaEval annotations",
    recognises=_recognises,
    read=_read,
    reads=ABOUT
    | {"instruction", "input", "output_1", "output_2", "generator_1", "generator_2"}
    | {"annotator", "preference"},
    implied=frozenset(("raw_completion",)),
)
