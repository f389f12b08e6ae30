"""What a foreign shape is: how rows of it are recognised, and what each says in our own shapes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.files.json_rows import value_of
from annotate.exchange.values import short

Raw = dict[str, Any]
ABOUT = frozenset(("source", "tags", "labeler"))  # of ours: read beside any shape


class Skip(Exception):
    """Why a row holds nothing to import though nothing is wrong with it: an unfinished task, say.
    A part of a sentence, the same for all rows it is true of."""


@dataclass
class Reading:
    """How conversations are read, and what of their messages was not."""

    each_answer: bool = False
    unread: dict[str, bool] = field(default_factory=dict)

    def note(self, name: str, *, judges: bool = False) -> None:
        """Something was found in a row that is not read; perhaps it `judges` an answer."""
        self.unread[name] = self.unread.get(name, False) or judges


@dataclass(frozen=True)
class Shape:
    """`read` yields the rows of ours that one row stands for, or says in a Skip why there is none;
    a row it cannot make sense of is a BadRow. `reads` are the columns it looks at. What is
    `implied` by them judges too, but says nothing more. Rows in succession that have the same value
    of the column `together` are read as one, whose only column, of that name, lists them."""

    name: str
    label: str
    recognises: Callable[[Raw], bool]
    read: Callable[[Raw, Reading], Iterable[Raw | Skip]]
    reads: frozenset[str] = frozenset()
    implied: frozenset[str] = frozenset()
    together: str = ""
    reads_also: Callable[[str], bool] = lambda name: False

    def unread_of(self, row: Raw) -> Iterator[str]:
        """Yields the names of the columns of a row that this shape does not look at."""
        for name in row.keys() - self.reads:
            if not self.reads_also(name):
                yield name


def about(row: Raw) -> Raw:
    """What a row says of itself under our own names, where it is of the right type."""
    found = {}
    if isinstance(row.get("source"), str) and len(row["source"]) <= 100:
        found["source"] = row["source"]
    if isinstance(row.get("tags"), list):
        found["tags"] = row["tags"]
    if isinstance(row.get("labeler"), str):
        found["labeler"] = row["labeler"]
    return found


def has(row: Raw, *names: str) -> bool:
    """Whether a row has all of these columns, be they empty."""
    return all(name in row for name in names)


def person(who: Any) -> str:
    """A name of their tool; the same person has the same name on every line."""
    if isinstance(who, dict):
        who = who.get("email") or who.get("username") or who.get("id")
    return "" if who is None else str(who)


PROMPT_NAMES = ("prompt", "instruction", "question", "messages", "dialogue", "text", "input")


def prompt_name(fields: Raw) -> str:
    """Which of the fields of a labelling tool is the prompt."""
    name = next((name for name in PROMPT_NAMES if fields.get(name)), None)
    if name is None:
        raise BadRow(f"No prompt: a field must be named one of {', '.join(PROMPT_NAMES)}.")
    return name


def listed(value: Any) -> Any:
    """A list or an object, also if a table holds it as JSON. Raises BadRow where that cannot be
    stored."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return value_of(value)
        except BadRow:
            raise
        except (ValueError, RecursionError):
            return value
    return value


def text(row: Raw, name: str) -> str:
    """Returns the text of that name, empty where it is missing or null. Raises BadRow if it is
    something else."""
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRow(f"“{name}” must be a text, not {short(value)}.")
    return value


def number(value: Any, name: str) -> float:
    """Returns a number, also from digits in a text, as tables have them. Raises BadRow, for NaN as
    well."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise BadRow(f"“{name}” must be a number, not {short(value)}.")
    return value


def truth(value: Any, name: str) -> bool:
    """True or false, also as a table may have it."""
    said = str(value).strip().lower()
    if said in ("true", "1", "1.0"):
        return True
    if said in ("false", "0", "0.0"):
        return False
    raise BadRow(f"“{name}” must be true or false, not {short(value)}.")


def joined(*parts: str) -> str:
    """Those that say something, with a blank line between."""
    return "\n\n".join(part for part in parts if part.strip())


def ranking(prompt: Any, texts: list[Any], ranks: list[Any], **more: Any) -> Raw:
    """A ranking, unless there is nothing to compare."""
    for value in texts:
        if not isinstance(value, str):
            raise BadRow(f"An answer must be a text, not {short(value)}.")
    if len({value.strip() for value in texts}) < len(texts):
        raise Skip("two of the answers are the same text")
    return {"prompt": prompt, "completions": texts, "ranks": ranks, **more}
