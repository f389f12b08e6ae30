"""Which rows of data files a model cannot learn from, found by rendering every one of them.

    python -m rlhf.learning.algorithms.check_rows < ASKED.json

ASKED is {"folder": MODEL_FOLDER, "day": YYYY-MM-DD, "files": [{"path", "room"}, …]}; `room` is for
the longest answer, in tokens. Printed is {"refused": why the model's chat template cannot be used,
"files": a `Checked` for each file}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.reading import each_row
from rlhf.learning.contract.records import (
    DataError,
    Demonstration,
    Document,
    Prompt,
    Ranking,
    Thumb,
)
from rlhf.learning.models.folders import renderer
from rlhf.learning.models.render import Renderer

NAMED = 20


@dataclass
class Checked:
    """What a file holds that is not learnt as it stands."""

    path: str
    rows: int = 0
    bad: int = 0
    reasons: list[str] = field(default_factory=list)  # of the first of them, each with its line
    comparisons: int = 0
    alike: int = 0  # comparisons whose two answers are the same tokens, after the cut
    with_alike: list[str] = field(default_factory=list)  # the first rows that hold one
    folded: int = 0  # rows whose system message goes into the user's first


def check_file(render: Renderer, path: Path, room: int) -> Checked:
    """Renders every row of a file; `room`: tokens for the longest answer."""
    found = Checked(str(path))
    for number, row in each_row(path):
        found.rows += 1
        try:
            if isinstance(row, DataError):
                raise row
            alike = _learn(render, row, room, found)
        except DataError as error:
            found.bad += 1
            if len(found.reasons) < NAMED:
                said = str(error).removeprefix(f"prompt {_prompt(row).id}: ")
                found.reasons.append(f"{_name(number, row)}: {said}")
            continue
        found.alike += alike
        if alike and len(found.with_alike) < NAMED:
            found.with_alike.append(_name(number, row))
    return found


def _name(number: int, row: Any) -> str:
    """What whoever knows the data finds the row by."""
    if isinstance(row, DataError):
        return f"line {number}, row {row.row}" if row.row else f"line {number}"
    return f"line {number}, {type(row).__name__.lower()} {_prompt(row).id}"


def _prompt(row: Any) -> Prompt:
    if isinstance(row, Document | DataError):
        return Prompt(getattr(row, "id", ""), ())
    return row if isinstance(row, Prompt) else row.prompt


def _learn(render: Renderer, row: Any, room: int, found: Checked) -> int:
    """Encodes a row as training does; returns how many of its comparisons tell nothing apart."""
    if isinstance(row, Document):
        render.document(row.text)
        return 0
    prompt = _prompt(row)
    found.folded += render.folds(prompt.messages)
    if isinstance(row, Prompt):
        render.prompt(row, room)
        return 0
    learnt = []
    for text, finished in answers_of(row):
        encoded = render.encode(prompt, text, room, finished)
        if not encoded.completion:
            raise DataError(f"prompt {prompt.id}: an answer has no token to learn from")
        learnt.append(encoded.completion)
    if not isinstance(row, Ranking):
        return 0
    pairs = list(row.comparisons())
    found.comparisons += len(pairs)
    return sum(learnt[better] == learnt[worse] for better, worse in pairs)


def answers_of(row: Demonstration | Thumb | Ranking) -> Iterator[tuple[str, bool]]:
    if isinstance(row, Ranking):
        finished = row.finished or (True,) * len(row.completions)
        yield from zip(row.completions, finished, strict=True)
    else:
        yield row.text, getattr(row, "finished", True)


def main() -> int:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    asked = json.load(sys.stdin)
    try:
        render = renderer(Path(asked["folder"]), asked["day"])
    except (ConfigError, OSError, ValueError) as error:
        print(json.dumps({"refused": str(error), "files": []}))
        return 0
    files = [check_file(render, Path(each["path"]), each["room"]) for each in asked["files"]]
    print(json.dumps({"refused": "", "files": [asdict(each) for each in files]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
