"""What other labelling tools export, said again in the shapes of `annotate.exchange.parsing`.

Label Studio: a task with `data` and `annotations`, whose results are of the type `ranker` (ids of a
list, best first, or buckets of them) or `pairwise` (left or right of two texts).
Argilla: a record with `fields` and `responses`; a ranking question is answered by values with a
rank, a choice between two fields by the name of one, a text question by a text.

One line of theirs may hold the answers of several people: each becomes a row of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from annotate.exchange.values import BadRow

Raw = dict[str, Any]
PROMPT_NAMES = ("prompt", "instruction", "question", "messages", "dialogue", "text", "input")
UNDECIDED = ("discarded", "draft")  # of Argilla: not handed in


def translated(raw: Any) -> Iterator[Any]:
    """The rows a line stands for; a line of our own shapes stands for itself."""
    if not isinstance(raw, dict):
        yield raw
    elif _is_of_label_studio(raw):
        yield from _label_studio(raw)
    elif _is_of_argilla(raw):
        yield from _argilla(raw)
    else:
        yield raw


def is_foreign(raw: Raw) -> bool:
    return _is_of_label_studio(raw) or _is_of_argilla(raw)


def _is_of_label_studio(raw: Raw) -> bool:
    return isinstance(raw.get("data"), dict) and isinstance(raw.get("annotations"), list)


def _is_of_argilla(raw: Raw) -> bool:
    return isinstance(raw.get("fields"), dict) and isinstance(raw.get("responses"), dict | list)


def _label_studio(task: Raw) -> Iterator[Raw]:
    data = task["data"]
    done = [a for a in task["annotations"] if isinstance(a, dict) and not a.get("was_cancelled")]
    rows = [row for each in done for row in _results(data, each)]
    if not rows:
        raise BadRow("This Label Studio task has no finished ranking or pairwise choice.")
    yield from rows


def _results(data: Raw, annotation: Raw) -> Iterator[Raw]:
    about = {
        "prompt": _prompt(data),
        "labeler": _person(annotation.get("completed_by")),
        "active_seconds": int(annotation.get("lead_time") or 0),
    }
    for result in annotation.get("result") or []:
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict):
            continue
        if "ranker" in value:
            yield about | _ranker(data, value["ranker"])
        elif "pairwise" in value or isinstance(value.get("selected"), str):
            yield about | _pairwise(data, result)


def _ranker(data: Raw, ranker: Any) -> Raw:
    """The list named by the ids; in buckets the first is best, and "_" is what was left over."""
    items = {
        str(item["id"]): item
        for value in data.values()
        if isinstance(value, list)
        for item in value
        if isinstance(item, dict) and "id" in item
    }
    groups = ranker if isinstance(ranker, dict) else {"rank": ranker}
    buckets = [ids for name, ids in groups.items() if name != "_" and ids]
    if len(buckets) == 1 and isinstance(buckets[0], list):
        buckets = [[each] for each in buckets[0]]
    texts, ranks, policies = [], [], []
    for rank, ids in enumerate(buckets, start=1):
        for each in ids if isinstance(ids, list) else [ids]:
            item = items.get(str(each))
            if item is None:
                raise BadRow(f"The ranking names “{each}”, which is not in the task's list.")
            texts.append(str(item.get("body") or item.get("text") or item.get("title") or ""))
            policies.append(str(item.get("model") or each))
            ranks.append(rank)
    return {"completions": texts, "ranks": ranks, "policies": policies}


def _pairwise(data: Raw, result: Raw) -> Raw:
    names = [name.strip() for name in str(result.get("to_name", "")).split(",")]
    if len(names) != 2 or not all(isinstance(data.get(name), str) for name in names):
        prompt = next((name for name in PROMPT_NAMES if name in data), "")
        names = [name for name, text in data.items() if isinstance(text, str) and name != prompt][
            :2
        ]
    if len(names) != 2:
        raise BadRow("A pairwise choice needs two texts in the task's data.")
    left, right = (data[name] for name in names)
    selected = result["value"].get("selected") or result["value"].get("pairwise")
    if selected not in ("left", "right"):
        raise BadRow(f"A pairwise choice selects left or right, not {selected!r}.")
    ranks = [1, 2] if selected == "left" else [2, 1]
    return {"completions": [left, right], "ranks": ranks, "policies": names}


def _argilla(record: Raw) -> Iterator[Raw]:
    rows = list(_responses(record))
    if not rows:
        raise BadRow("This Argilla record has no submitted ranking, choice or text.")
    yield from rows


def _responses(record: Raw) -> Iterator[Raw]:
    fields = record["fields"]
    prompt = _prompt(fields)
    responses = record["responses"]
    if isinstance(responses, list):  # version 1: one entry a person, with the values by question
        answers = [(each.get("user_id"), v.get("value"), each.get("status"))
                   for each in responses for v in (each.get("values") or {}).values()]  # fmt: skip
    else:  # version 2: one entry a question, with the values by person
        answers = [(each.get("user_id"), each.get("value"), each.get("status"))
                   for given in responses.values() for each in given]  # fmt: skip
    for person, value, status in answers:
        if status in UNDECIDED or value is None:
            continue
        about = {"prompt": prompt, "labeler": _person(person)}
        if isinstance(value, list) and all(isinstance(v, dict) and "rank" in v for v in value):
            names = [str(v["value"]) for v in value]
            yield about | _of_fields(fields, names, [v["rank"] for v in value])
        elif isinstance(value, str) and value in fields:
            others = [n for n, t in fields.items() if isinstance(t, str) and t != prompt]
            ranks = [1 if name == value else 2 for name in others]
            yield about | _of_fields(fields, others, ranks)
        elif isinstance(value, str):
            yield about | {"completion": value}


def _of_fields(fields: Raw, names: list[str], ranks: list[Any]) -> Raw:
    missing = [name for name in names if name not in fields]
    if missing:
        raise BadRow(f"The ranking names “{missing[0]}”, which is no field of the record.")
    return {"completions": [fields[name] for name in names], "ranks": ranks, "policies": names}


def _prompt(fields: Raw) -> Any:
    name = next((name for name in PROMPT_NAMES if fields.get(name)), None)
    if name is None:
        raise BadRow(f"No prompt: a field must be named one of {', '.join(PROMPT_NAMES)}.")
    return fields[name]


def _person(who: Any) -> str:
    """A name of their tool; the same person has the same name on every line."""
    if isinstance(who, dict):
        who = who.get("email") or who.get("username") or who.get("id")
    return "" if who is None else str(who)
