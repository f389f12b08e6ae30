"""Databricks' Dolly: `instruction`, perhaps a `context`, a `response` and its `category`. GSM8K: a
`question`, and an `answer` that reasons and ends in a line `#### 42`, the result."""

from __future__ import annotations

import re
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
from annotate.exchange.shapes.turns import NO_TEXT


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

RESULT = re.compile(r"^####[ \t]*(\S.*?)\s*\Z", re.MULTILINE)


def _ends_in_a_result(row: Raw) -> bool:
    question, answer = row.get("question"), row.get("answer")
    return isinstance(question, str) and isinstance(answer, str) and bool(RESULT.search(answer))


def _read_result(row: Raw, reading: Reading) -> Iterator[Raw]:
    question, answer = text(row, "question"), text(row, "answer")
    if not question.strip() or not answer.strip():
        raise Skip(NO_TEXT)
    result = RESULT.search(answer)
    reference = {"reference": result[1]} if result else {}
    yield {"prompt": question, "completion": answer, **reference, **about(row)}


GSM8K = Shape(
    name="gsm8k",
    label="GSM8K: question, answer that ends in #### and the result",
    recognises=_ends_in_a_result,
    read=_read_result,
    reads=ABOUT | {"question", "answer"},
)
