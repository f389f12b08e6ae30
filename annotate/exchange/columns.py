"""Which column of a file is which field of a row, where its names are not those of `parsing`.

A choice is {column: field}; a column whose field is empty is left out, one that is not named stays
as it is. Several columns may make one prompt, or the list of completions of a ranking."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.files.json_rows import value_of
from annotate.exchange.parsing import READ, kind_of
from annotate.labels.kinds import BEATEN

Raw = dict[str, Any]

FIELDS = {
    "prompt": "prompt",
    "system": "system message before the prompt (system)",
    "messages": "whole conversation (messages)",
    "completion": "answer (completion)",
    "chosen": "better answer (chosen)",
    "rejected": "worse answer (rejected)",
    "completions": "ranked answers (completions)",
    "ranks": "their ranks, 1 is best",
    "ratings": "their ratings, 1 to 7",
    "winner": "which of them won: letter, name, or number from 1",
    "winner_from_0": "which of them won: number from 0",
    "policies": "who gave them (policies)",
    "label": "thumb, true or false (label)",
    "margin": "how much better, 1 to 4 (margin)",
    "labeler": "who judged (labeler)",
    "source": "source",
    "tags": "tags",
    "reason": "reason for the order",
    "note": "note on the thumb",
    "comment": "comment to the lead",
    "reference": "reference answer",
}
LISTS = {"completions", "ranks", "ratings", "policies", "tags"}

CONVERSATIONS = {"prompt", "messages", "completion", "chosen", "rejected", *BEATEN}
NOT_TEXT = {
    *CONVERSATIONS,
    *("completions", "ranks", "ratings", "flags", "policies", "finish_reasons", "shown_order"),
    "letters",
    *("tags", "reasons", "label", "margin", "strength", "simulated", "archived"),
    *("guideline_version", "active_seconds", "pasted_share"),
}

# What others call them.
OTHER_NAMES = {
    "prompt": ("instruction", "question", "query", "input", "user", "context", "problem"),
    "completion": ("response", "answer", "output", "assistant", "solution"),
    "messages": ("conversation", "conversations", "dialogue"),
    "chosen": ("preferred", "better", "accepted", "winner_response", "chosen_messages"),
    "rejected": ("dispreferred", "worse", "loser_response", "rejected_messages"),
    "label": ("thumb", "thumbs_up", "is_good"),
    "tags": ("category", "categories", "topic"),
    "labeler": ("annotator", "worker", "rater", "user_id"),
    "source": ("dataset", "origin"),
    "reference": ("ground_truth", "reference_answer", "expected_answer", "gold_answer"),
}
KNOWN_AS = {other: name for name, others in OTHER_NAMES.items() for other in others}


LEFT_OUT = ""
ANSWERS = ("completion", "chosen", "rejected", "label", "system", "reference")
JUDGES = re.compile(
    r"(^|_)(label|labels|weights?|ratings?|rated|winners?|won|scores?|ranks?|ranking|preferences?|"
    r"preferred|prefers?|votes?|upvotes|downvotes|likes?|dislikes?|liked|thumbs?|thumbs_up|stars?|"
    r"grades?|rewards?|feedback|better|best|worse|worst|safer?|unsafe|is_safe|correct|incorrect|"
    r"correctness|helpful|helpfulness|harmless|harmlessness|harmful|honesty|truthfulness|coherence|"
    r"quality|verdict|judgements?|judgments?|annotations?|margin|strength|outcome|agreement|"
    r"chosen|rejected|accepted|approved|good|bad|toxicity|toxic|is_good|selected)(_|\d|$)"
)


def judges(name: str) -> bool:
    """Whether a column of this name may well say how good an answer is."""
    spelled = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^0-9A-Za-z]+", "_", name).lower()
    return bool(JUDGES.search(spelled))


def guess(rows: Sequence[Any]) -> dict[str, str]:
    """Fields for the columns of rows under other names than ours; nothing where there is no need.
    What judges is never left out by itself."""
    columns = dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row)
    named = {column: re.sub(r"[\s-]+", "_", column.strip().lower()) for column in columns}
    chosen = {c: n if n in FIELDS else KNOWN_AS.get(n, LEFT_OUT) for c, n in named.items()}
    if {"solution", "answer"} <= {*named.values()}:  # the way, and what comes of it
        chosen |= {c: "reference" for c, n in named.items() if n == "answer"}
    if "chosen" in chosen.values() or "rejected" in chosen.values():
        chosen = {c: f for c, f in chosen.items() if f != "completion"}
    chosen = {c: f for c, f in chosen.items() if c == f or c in _first_of(chosen, f)}
    try:
        kind = kind_of(dict.fromkeys(columns))
    except BadRow:
        return {c: f for c, f in chosen.items() if f or not judges(c)}
    if kind == "prompts" and "prompt" in columns:  # perhaps the answers have other names
        return {c: f for c, f in chosen.items() if f in ANSWERS and c not in READ[kind]}
    if {"prompt", "messages"} & columns.keys() or any(_is_implicit(row) for row in rows):
        return {}
    return {c: f for c, f in chosen.items() if f == "prompt" and c != f}


def _is_implicit(row: Any) -> bool:
    """Whether the prompt stands at the beginning of what was chosen."""
    return isinstance(row, dict) and isinstance(row.get("chosen"), list)


def _first_of(chosen: Mapping[str, str], field: str) -> list[str]:
    """The columns that may be this field together; the first alone, if it has room for one."""
    columns = [column for column, name in chosen.items() if name == field]
    if field in LISTS or field in ("prompt", LEFT_OUT):
        return columns
    return [] if field in columns else columns[:1]


def problems(fields: Iterable[str]) -> list[str]:
    """What is wrong with the fields chosen for the columns of a file, in sentences."""
    chosen = [name for name in fields if name]
    single = [name for name in FIELDS if name not in LISTS | {"prompt"}]
    twice = [name for name in single if chosen.count(name) > 1]
    return [f"Two columns are chosen as “{FIELDS[name]}”. Leave one out." for name in twice]


def renamed(row: Any, choice: Mapping[str, str]) -> Any:
    """The row under the names of our own shapes."""
    if not choice or not isinstance(row, dict):
        return row
    made: Raw = {column: value for column, value in row.items() if column not in choice}
    for name in dict.fromkeys(filter(None, choice.values())):
        if name == "completions" and {"winner", "winner_from_0"} & {*choice.values()}:
            made["winner_names"] = [column for column in row if choice.get(column) == name]
        columns = [column for column in row if choice.get(column) == name]  # in the file's order
        values = [row[each] for each in columns if row[each] not in (None, "")]
        if name in LISTS and (len(columns) > 1 or name == "tags"):
            made[name] = [part for each in values for part in _parts(each)]
        elif len(values) > 1:
            made[name] = "\n\n".join(str(each) for each in values)
        elif values:
            made[name] = values[0]
    return made


def _parts(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def of_cells(row: Any) -> Any:
    """A row of texts, as CSV has it, with what the texts stand for: lists and conversations are
    JSON, tags may also be `a;b`. An empty cell says nothing, but for an empty source. A
    BadRow where a cell holds what cannot be stored."""
    if not isinstance(row, dict):
        return row
    try:
        return {
            name: _value(name, cell)
            for name, cell in row.items()
            if cell or (name == "source" and cell == "")
        }
    except BadRow as error:
        return error


def _value(name: str, cell: Any) -> Any:
    if isinstance(cell, list):
        return [_value(name, each) for each in cell] if name in ("ranks", "ratings") else cell
    if name == "tags" and not cell.startswith("["):
        return [tag.strip() for tag in cell.split(";") if tag.strip()]
    if name in CONVERSATIONS and not cell.lstrip().startswith("[{"):
        return cell
    if name not in NOT_TEXT:
        return cell
    try:
        return value_of(cell.lower() if name == "label" else cell)
    except BadRow:
        raise
    except (ValueError, RecursionError):
        return cell  # what is wrong with it is told where the row is read
