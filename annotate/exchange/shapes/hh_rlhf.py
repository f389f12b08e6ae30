"""Anthropic's HH-RLHF: two transcripts, "\\n\\nHuman: … \\n\\nAssistant: …", the better one first
(https://github.com/anthropics/hh-rlhf)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.shapes.shape import ABOUT, Raw, Reading, Shape, about
from annotate.exchange.turns import preference
from annotate.prompts.models import Messages

SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):(?: |(?=\n)|\Z)?")
ROLE = {"Human": "user", "Assistant": "assistant"}


def _is_transcript(value: object) -> bool:
    return isinstance(value, str) and value.lstrip().startswith("Human:")


def _recognises(row: Raw) -> bool:
    return _is_transcript(row.get("chosen")) and _is_transcript(row.get("rejected"))


def turns_of_transcript(text: object) -> Messages:
    if not isinstance(text, str) or not (parts := SPEAKER.split(text))[1:] or parts[0].strip():
        raise BadRow("A transcript begins with “Human:”.")
    return [
        {"role": ROLE[speaker], "content": said}
        for speaker, said in zip(parts[1::2], parts[2::2], strict=True)
    ]


def _read(row: Raw, reading: Reading) -> Iterator[Raw]:
    chosen, rejected = (turns_of_transcript(row.get(name)) for name in ("chosen", "rejected"))
    yield preference([], chosen, rejected, about(row))


SHAPE = Shape(
    name="hh_rlhf",
    label="HH-RLHF: pairs of transcripts",
    recognises=_recognises,
    read=_read,
    reads=ABOUT | {"chosen", "rejected"},
)
