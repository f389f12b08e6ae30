"""Lines in an order from which a reader that guesses types guesses right.

JSON Lines and CSV have no schema. `datasets.load_dataset` takes the types of all lines from the
first 10 MB of JSON Lines, or the first 10,000 rows of CSV, and fails where a later line says more:
a list that was always empty before, a number or a text where there was nothing."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Fact = tuple[str, str]  # a place in a line, and the type of what stands there
# What pandas takes for nothing, or for no text, in a table.
NO_TEXT = {
    *("", "na", "n/a", "#n/a", "#na", "<na>", "#n/a n/a", "null", "none", "nan", "-nan"),
    *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "true", "false"),
}


def telling_first(
    lines: Iterable[str], facts_of: Callable[[dict[str, Any]], Iterable[Fact]]
) -> Iterator[str]:
    """The same lines: first those that tell a type that no line before them told, a few dozen at
    most, then the others as they came. Of lines in this order nothing changes, so an export that is
    imported and exported again stays the same. The others wait on the disk."""
    told: set[Fact] = set()
    with tempfile.TemporaryFile() as others:
        for line in lines:
            facts = {*facts_of(json.loads(line))}
            if facts <= told:
                others.write(line.encode())
            else:
                told |= facts
                yield line
        others.seek(0)
        yield from (line.decode() for line in others)


def facts_of_json(value: Any, place: str = "") -> Iterator[Fact]:
    """Nothing and an empty list tell no type, whatever is in a list tells that of its items."""
    if value is None:
        return
    yield place, type(value).__name__
    if isinstance(value, list):
        for each in value:
            yield from facts_of_json(each, f"{place}[]")
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from facts_of_json(each, f"{place}.{name}")


def facts_of_table(line: dict[str, Any]) -> Iterator[Fact]:
    """By what the cells of a CSV are taken for, in which numbers have no quotes either."""
    for name, value in line.items():
        if isinstance(value, str):
            value = _cell(value)
        if value is not None:
            yield name, type(value).__name__


def _cell(text: str) -> Any:
    for type in (int, float):
        try:
            return type(text)
        except ValueError:
            pass
    return None if text.strip().lower() in NO_TEXT else text
