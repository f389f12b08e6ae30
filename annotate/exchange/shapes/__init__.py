"""The shapes of rows that are read, and which of them a file has. A new one is a file here, a line
in the list below, and a test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.shapes import (
    alpaca,
    alpaca_eval,
    arena,
    argilla,
    dolly,
    gsm8k,
    helpsteer,
    hh_rlhf,
    label_studio,
    oasst,
    openai_preferences,
    ours,
    pku_saferlhf,
    sharegpt,
    shp,
)
from annotate.exchange.shapes.shape import Shape

# A file that may be several of them is the first.
SHAPES: tuple[Shape, ...] = (
    label_studio.TASKS,
    label_studio.FLAT,
    argilla.RECORDS,
    argilla.FLAT,
    oasst.TREES,
    oasst.MESSAGES,
    hh_rlhf.SHAPE,
    openai_preferences.SHAPE,
    arena.SHAPE,
    alpaca_eval.SHAPE,
    shp.SHAPE,
    pku_saferlhf.HELPFUL,
    pku_saferlhf.SAFE,
    helpsteer.COMPARISONS,
    helpsteer.RATINGS,
    sharegpt.SHAPE,
    alpaca.SHAPE,
    dolly.SHAPE,
    gsm8k.SHAPE,
    ours.SHAPE,
)
OURS = ours.SHAPE
BY_NAME = {shape.name: shape for shape in SHAPES}


def shape_of(rows: Iterable[Any]) -> Shape | None:
    """What most of the rows are; None if none of them is of a known shape."""
    objects = [row for row in rows if isinstance(row, dict)]
    counts = {shape: sum(_is_of(shape, row) for row in objects) for shape in SHAPES}
    best = max(SHAPES, key=lambda shape: counts[shape])
    return best if counts[best] else None


def _is_of(shape: Shape, row: Any) -> bool:
    try:
        return shape.recognises(row)
    except BadRow:  # that is told where the row is read
        return False
