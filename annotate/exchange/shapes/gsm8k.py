"""GSM8K: a `question`, and an `answer` that reasons and ends in a line `#### 42`, the result."""

from __future__ import annotations

import re
from collections.abc import Iterator

from annotate.exchange.shapes.shape import ABOUT, Raw, Reading, Shape, Skip, about, text
from annotate.exchange.turns import NO_TEXT

RESULT = re.compile(r"^####[ \t]*(\S.*?)\s*\Z", re.MULTILINE)


def _recognises(row: Raw) -> bool:
    question, answer = row.get("question"), row.get("answer")
    return isinstance(question, str) and isinstance(answer, str) and bool(RESULT.search(answer))


def _read(row: Raw, reading: Reading) -> Iterator[Raw]:
    question, answer = text(row, "question"), text(row, "answer")
    if not question.strip() or not answer.strip():
        raise Skip(NO_TEXT)
    result = RESULT.search(answer)
    reference = {"reference": result[1]} if result else {}
    yield {"prompt": question, "completion": answer, **reference, **about(row)}


SHAPE = Shape(
    name="gsm8k",
    label="GSM8K: question, answer that ends in #### and the result",
    recognises=_recognises,
    read=_read,
    reads=ABOUT | {"question", "answer"},
)
