"""Argilla: a record with `fields` and `responses` (version 2: a list a question; version 1: an
entry a person), or the columns of it that the hub shows: `question.responses`, or lists of {value,
user_id}. A ranking is answered by values with a rank, a choice between two fields by the name of
one, a text question by a text: an answer, or beside a ranking the reason of it. Each person's
answers are a row of their own; what is unfinished or discarded is skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.shapes.shape import (
    Raw,
    Reading,
    Shape,
    Skip,
    listed,
    person,
    prompt_name,
    ranking,
)
from annotate.exchange.values import short

UNFINISHED = "a record without a submitted answer"
UNDECIDED = ("discarded", "draft")  # not handed in
RESPONSES = ".responses"
Given = tuple[str, str, Any]  # person, question, value


def _is_record(row: Raw) -> bool:
    return isinstance(row.get("fields"), dict) and "responses" in row


def _read_record(record: Raw, reading: Reading) -> Iterator[Raw]:
    fields, responses = record.get("fields"), record.get("responses")
    if not isinstance(fields, dict):
        raise BadRow("The “fields” of a record are an object.")
    yield from _rows(fields, list(_given(responses)), reading)


def _given(responses: Any) -> Iterator[Given]:
    if isinstance(responses, list):  # version 1
        for each in _objects(responses):
            values = each.get("values") or {}
            if each.get("status") in UNDECIDED or not isinstance(values, dict):
                continue
            for question, value in values.items():
                value = value.get("value") if isinstance(value, dict) else value
                yield person(each.get("user_id")), question, value
    elif isinstance(responses, dict):  # version 2
        for question, given in responses.items():
            for each in _objects(given):
                if each.get("status") not in UNDECIDED:
                    yield person(each.get("user_id")), question, each.get("value")
    elif responses is not None:
        raise BadRow(
            f"The “responses” of a record are a list or an object, not {short(responses)}."
        )


def _objects(value: Any) -> list[Raw]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _rows(fields: Raw, given: list[Given], reading: Reading) -> Iterator[Raw]:
    given = [each for each in given if each[2] is not None]
    if not given:
        raise Skip(UNFINISHED)
    prompt = fields[prompt_name(fields)]
    for who in dict.fromkeys(each[0] for each in given):
        answers = {question: value for by, question, value in given if by == who}
        orders, texts = [], []
        for question, value in answers.items():
            if order := _order(fields, value):
                orders.append(order)
            elif isinstance(value, str):
                texts.append(value)
            else:
                reading.note(f"{question} (a question)", judges=True)
        reason = "\n".join(texts) if orders else ""
        if len(reason) > 500:
            raise BadRow("The text beside the ranking is longer than 500 characters.")
        extra: Raw = {"labeler": who} | ({"reason": reason} if reason else {})
        for order in orders:
            yield ranking(prompt, **order, **extra)
        for said in [] if orders else texts:
            yield {"prompt": prompt, "completion": said, "labeler": who}


def _order(fields: Raw, value: Any) -> Raw | None:
    """The texts and their ranks, if that is what was asked; None if the value is something else."""
    if isinstance(value, dict) and isinstance(value.get("rank"), list):  # as the hub has it
        names = value.get("value") or value.get("text")
        if isinstance(names, list) and len(names) == len(value["rank"]):
            value = [{"value": n, "rank": r} for n, r in zip(names, value["rank"], strict=True)]
    if isinstance(value, list) and value:
        if all(isinstance(each, dict) and {"value", "rank"} <= each.keys() for each in value):
            return _of_fields(fields, [str(v["value"]) for v in value], [v["rank"] for v in value])
        if len(value) > 1 and all(isinstance(each, str) and each in fields for each in value):
            return _of_fields(fields, value, list(range(1, len(value) + 1)))
    if isinstance(value, str):
        prompt = prompt_name(fields)
        others = [n for n, said in fields.items() if isinstance(said, str) and n != prompt]
        if value in others and len(others) > 1:
            return _of_fields(fields, others, [1 if name == value else 2 for name in others])
    return None


def _of_fields(fields: Raw, names: list[str], ranks: list[Any]) -> Raw:
    missing = [name for name in names if name not in fields]
    if missing:
        raise BadRow(f"The ranking names “{missing[0][:40]}”, which is not a field of the record.")
    return {"texts": [fields[name] for name in names], "ranks": ranks, "policies": names}


RECORDS = Shape(
    name="argilla",
    label="Argilla records",
    recognises=_is_record,
    read=_read_record,
    reads=frozenset(("id", "fields", "responses", "status")),
)


def _is_flat(row: Raw) -> bool:
    return any(name.endswith(RESPONSES) for name in row) or any(map(_is_answered, row.values()))


def _is_answered(value: Any) -> bool:
    """The answers to a question of version 1."""
    value = listed(value)
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], dict)
        and {"user_id", "value", "status"} <= value[0].keys()
    )


def _read_flat(row: Raw, reading: Reading) -> Iterator[Raw]:
    given: list[Given] = []
    for name, value in row.items():
        value = listed(value)
        if name.endswith(RESPONSES) and isinstance(value, list):
            people, states = (_listed(row.get(f"{name}.{each}")) for each in ("users", "status"))
            for i, each in enumerate(value):
                if i >= len(states) or states[i] not in UNDECIDED:
                    question = name.removesuffix(RESPONSES)
                    given.append(
                        (person(people[i]) if i < len(people) else "", question, listed(each))
                    )
        elif _is_answered(value):
            given += [
                (person(each.get("user_id")), name, each.get("value"))
                for each in _objects(value)
                if each.get("status") not in UNDECIDED
            ]
    fields = {n: v for n, v in row.items() if _is_field(n, v)}
    yield from _rows(fields, given, reading)


def _listed(value: Any) -> list[Any]:
    value = listed(value)
    return value if isinstance(value, list) else []


def _is_field(name: str, value: Any) -> bool:
    is_of_tool = RESPONSES in name or "suggestion" in name or name in ("id", "status", "_server_id")
    return not is_of_tool and not _is_answered(value)


FLAT = Shape(
    name="argilla_flat",
    label="Argilla records as columns, as on the hub",
    recognises=_is_flat,
    read=_read_flat,
    reads_also=lambda name: "suggestion" not in name and name not in ("metadata", "vectors"),
)
