"""Databricks' Dolly: `instruction`, perhaps a `context`, a `response` and its `category`."""

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
    text,
)
from annotate.exchange.turns import NO_TEXT


def _recognises(row: Raw) -> bool:
    return has(row, "instruction", "response") and "output" not in row


def _read(row: Raw, reading: Reading) -> Iterator[Raw]:
    prompt = joined(text(row, "instruction"), text(row, "context"))
    answer, category = text(row, "response"), text(row, "category")
    if not prompt or not answer.strip():
        raise Skip(NO_TEXT)
    tags = {"tags": [category]} if category.strip() else {}
    yield {"prompt": prompt, "completion": answer, **tags, **about(row)}


SHAPE = Shape(
    name="dolly",
    label="Dolly: instruction, context, response, category",
    recognises=_recognises,
    read=_read,
    reads=ABOUT | {"instruction", "context", "response", "category"},
)
