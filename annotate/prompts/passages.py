"""Passages of documents in a prompt, and the numbers by which answers cite them.

What was read is kept with the answer as rows of JSON: `number` (from 1), `document` (its id),
`name`, `version`, `score`, `text`; of a deleted document `deleted` instead of a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Read = dict[str, Any]

ASKED = (
    "Answer what follows from these passages only. After each sentence write the number of the "
    "passage it comes from in brackets, as in [1]. If the passages do not answer it, say so."
)
TAG = re.compile(r"<(?=\s*/?\s*passage)", re.IGNORECASE)
CITED = re.compile(r"\[((?:\d{1,3}\s*[,;]\s*)*\d{1,3})\]")


def block(passages: Sequence[Read]) -> str:
    """What stands before the question: the passages, numbered and delimited, and what to do with
    them; empty without any. No passage can close its own delimiter or open another."""
    if not passages:
        return ""
    numbered = "\n\n".join(
        f'<passage number="{each["number"]}" document="{_name(each["name"])}">\n'
        f"{as_text(each['text'])}\n</passage>"
        for each in passages
    )
    return f"{numbered}\n\n{ASKED}\n\n"


def as_text(passage: str) -> str:
    """A passage as it stands in a prompt: without tags like those around it."""
    return TAG.sub("‹", passage)


def _name(name: str) -> str:
    return re.sub(r'["<>\s]+', " ", name)


def cited_numbers(answer: str) -> list[int]:
    """The numbers in brackets, in the order in which the answer cites them first: [2], [1, 3]."""
    found = (int(number) for group in CITED.findall(answer) for number in re.findall(r"\d+", group))
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Source:
    """A passage that an answer was given, and whether it cites it."""

    number: int
    name: str
    version: int
    text: str
    is_cited: bool
    is_deleted: bool = False


def sources(answer: str, passages: Iterable[Read]) -> list[Source]:
    """The passages of an answer: those it cites first, in its order, then the others."""
    cited = cited_numbers(answer)
    known = [
        Source(
            each["number"],
            each["name"],
            each["version"],
            each.get("text", ""),
            each["number"] in cited,
            bool(each.get("deleted")),
        )
        for each in passages
    ]
    return sorted(
        known,
        key=lambda each: (cited.index(each.number) if each.is_cited else len(cited), each.number),
    )
