"""Label Studio: a task with `data` and `annotations` (JSON), or a row an annotation (JSON-MIN,
CSV).

A result is a ranker (ids of a list, best first, or buckets of them), a pairwise choice (left or
right of two texts) or a written text: an answer, or beside a ranking the reason of it. Each
annotation is a row of its own; unfinished tasks are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.shapes.shape import (
    ABOUT,
    Raw,
    Reading,
    Shape,
    Skip,
    about,
    listed,
    person,
    prompt_name,
    ranking,
)
from annotate.exchange.values import short

UNFINISHED = "a task without a finished annotation"
LONGEST_REASON = 500
RESULT_FIELDS = ("annotation_id", "annotator", "lead_time")
OF_TOOL = {"id", "created_at", "updated_at", "agreement", *RESULT_FIELDS}


def _is_task(row: Raw) -> bool:
    return isinstance(row.get("data"), dict) and isinstance(row.get("annotations"), list)


def _read_task(task: Raw, reading: Reading) -> Iterator[Raw]:
    data, annotations = task.get("data"), task.get("annotations")
    if not isinstance(data, dict) or not isinstance(annotations, list):
        raise BadRow("A task has its “data” in an object and its “annotations” in a list.")
    done = [a for a in annotations if isinstance(a, dict) and not a.get("was_cancelled")]
    results = [(each, _results_of(each)) for each in done]
    if not any(found for _, found in results):
        raise Skip(UNFINISHED)
    for annotation, found in results:
        by = {
            "labeler": person(annotation.get("completed_by")),
            "active_seconds": _seconds(annotation.get("lead_time")),
        }
        yield from _rows(data, found, by, reading)


def _results_of(annotation: Raw) -> list[Raw]:
    found = annotation.get("result") or []
    if not isinstance(found, list):
        raise BadRow("The “result” of an annotation is a list.")
    return [
        each for each in found if isinstance(each, dict) and isinstance(each.get("value"), dict)
    ]


def _rows(data: Raw, results: list[Raw], by: Raw, reading: Reading) -> Iterator[Raw]:
    rankings, texts = [], []
    prompt = data[prompt_name(data)]
    for result in results:
        value = result["value"]
        if "ranker" in value:
            rankings.append(_ranker(data, value["ranker"]))
        elif "pairwise" in value or isinstance(value.get("selected"), str):
            rankings.append(_pairwise(data, result))
        elif "text" in value:
            written = value["text"]
            is_list = isinstance(written, list)
            texts.append("\n".join(map(str, written)) if is_list else str(written))
        else:
            name = result.get("from_name") or result.get("type") or next(iter(value), "")
            reading.note(f"{name} (a result)", judges=True)
    reason = "\n".join(texts) if rankings else ""
    if len(reason) > LONGEST_REASON:
        raise BadRow(f"The text beside the ranking is longer than {LONGEST_REASON} characters.")
    more = by | ({"reason": reason} if reason else {})
    for each in rankings:
        yield ranking(prompt, **each, **more)
    for said in [] if rankings else texts:
        yield {"prompt": prompt, "completion": said, **by}


def _seconds(said: Any) -> int:
    try:
        return max(0, min(int(float(said or 0)), 2**31 - 1))
    except (TypeError, ValueError, OverflowError):
        return 0


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
                raise BadRow(
                    f"The ranking names “{str(each)[:40]}”, which is not in the task's list."
                )
            texts.append(str(item.get("body") or item.get("text") or item.get("title") or ""))
            policies.append(str(item.get("model") or each))
            ranks.append(rank)
    return {"texts": texts, "ranks": ranks, "policies": policies}


def _pairwise(data: Raw, result: Raw) -> Raw:
    names = [name.strip() for name in str(result.get("to_name", "")).split(",")]
    if len(names) != 2 or not all(isinstance(data.get(name), str) for name in names):
        prompt = prompt_name(data)
        names = [name for name, said in data.items() if isinstance(said, str) and name != prompt][
            :2
        ]
    if len(names) != 2:
        raise BadRow("A pairwise choice needs two texts in the task's data.")
    left, right = (data[name] for name in names)
    selected = result["value"].get("selected") or result["value"].get("pairwise")
    if selected not in ("left", "right"):
        raise BadRow(f"A pairwise choice selects left or right, not {short(selected)}.")
    ranks = [1, 2] if selected == "left" else [2, 1]
    return {"texts": [left, right], "ranks": ranks, "policies": names}


TASKS = Shape(
    name="label_studio",
    label="Label Studio tasks (JSON)",
    recognises=_is_task,
    read=_read_task,
    reads=frozenset(("id", "data", "annotations")),
    reads_also=lambda name: name not in ("meta",),  # counts and dates of the tool
)


def _is_flat(row: Raw) -> bool:
    return "annotation_id" in row and "lead_time" in row


def _read_flat(row: Raw, reading: Reading) -> Iterator[Raw]:
    data = {name: listed(value) for name, value in row.items() if name not in OF_TOOL}
    by = {
        "labeler": person(listed(row.get("annotator"))),
        "active_seconds": _seconds(row.get("lead_time")),
    }
    results = {name: found for name, value in data.items() if (found := _result(value))}
    if not results:
        results = {
            n: [{"text": v}] for n, v in data.items() if _is_answer(n) and isinstance(v, str) and v
        }
    if not results:
        others = [n for n, v in data.items() if n != prompt_name(data) and v not in (None, "")]
        if not others:
            raise Skip(UNFINISHED)
        raise BadRow(
            f"None of {', '.join(others)[:200]} is a ranking, a choice of left or right, or named "
            "as an answer. Choose the shape of our own rows and say which column is what."
        )
    for name in results:
        del data[name]
    texts = [{"value": each} for found in results.values() for each in found]
    used = {prompt_name(data)}
    rows = list(_rows(data, texts, by, reading))
    said = {str(each) for row in rows for each in row.get("completions", ())}
    for name, value in data.items():
        is_used = name in used or isinstance(value, list) or str(value) in said
        if not is_used and name not in ABOUT and value not in (None, ""):
            reading.note(name)
    for each in rows:
        yield each | about(row) | {"labeler": by["labeler"]}


def _is_answer(name: str) -> bool:
    return name.lower() in ("answer", "response", "completion", "output", "a")


def _result(value: Any) -> list[Raw]:
    """The values of a ranker or a pairwise choice, which this column holds."""
    if value in ("left", "right"):
        return [{"selected": value}]
    found = value if isinstance(value, list) else [value]
    if all(
        isinstance(v, dict) and ("ranker" in v or "selected" in v or "pairwise" in v) for v in found
    ):
        return found
    return []


FLAT = Shape(
    name="label_studio_min",
    label="Label Studio rows (JSON-MIN, CSV)",
    recognises=_is_flat,
    read=_read_flat,
    reads_also=lambda name: True,  # what is not read is noted row by row
)
