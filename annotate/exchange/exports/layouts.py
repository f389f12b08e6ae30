"""The rows of an export as trainers want them: conversational or standard (TRL), `messages`
(chat fine-tuning), or ShareGPT's `conversations`. Each can be imported again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Line = dict[str, Any]
FROM = {"system": "system", "user": "human", "assistant": "gpt"}
SAID = ("completion", "chosen", "rejected")


class NoRow(Exception):
    """A line that this layout has no room for."""


def _conversational(line: Line) -> Line:
    return line


def _standard(line: Line) -> Line:
    if len(line["prompt"]) > 1:
        raise NoRow
    texts = {name: line[name][-1]["content"] for name in ("prompt", *SAID) if name in line}
    return line | texts


def _messages(line: Line) -> Line:
    rest = {name: value for name, value in line.items() if name not in ("prompt", *SAID)}
    if "chosen" in line:
        return {name: line["prompt"] + line[name] for name in ("chosen", "rejected")} | rest
    return {"messages": line["prompt"] + line.get("completion", [])} | rest


def _sharegpt(line: Line) -> Line:
    rest = {name: value for name, value in line.items() if name not in ("prompt", *SAID)}
    turns = _turns(line["prompt"] + line.get("completion", []))
    pair = {name: _turns(line[name])[-1] for name in ("chosen", "rejected") if name in line}
    return {"conversations": turns} | pair | rest


def _turns(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"from": FROM[each["role"]], "value": each["content"]} for each in messages]


LAYOUTS: dict[str, Callable[[Line], Line]] = {
    "conversational": _conversational,
    "standard": _standard,
    "messages": _messages,
    "sharegpt": _sharegpt,
}


@dataclass
class Arranged:
    """The lines in this layout. After them, `left_out` is how many it had no room for: a standard
    row is a text and an answer, and no conversation of several turns."""

    lines: Iterable[str]
    layout: str
    left_out: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[str]:
        if self.layout == "conversational":
            yield from self.lines
            return
        arrange = LAYOUTS[self.layout]
        for line in self.lines:
            try:
                yield json.dumps(arrange(json.loads(line)), ensure_ascii=False) + "\n"
            except NoRow:
                self.left_out += 1
