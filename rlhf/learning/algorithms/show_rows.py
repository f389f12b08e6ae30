"""Rows of a data file as a model reads them, token by token, with those that the loss is on.

    python -m rlhf.learning.algorithms.show_rows < ASKED.json

ASKED is {"folder": MODEL_FOLDER, "day": YYYY-MM-DD, "path", "room", "first", "count"}: rows from
`first`, counted from 0; `room` is for the longest answer, in tokens. Printed is {"refused": why the
model's chat template cannot be used, "rows": for each row [{"tokens": [[text, learnt]],
"left_out": tokens that are not listed}], one for each of its answers, or what is wrong with it}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rlhf.learning.algorithms.check_rows import answers_of
from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.reading import each_row
from rlhf.learning.contract.records import DataError, Document, Prompt
from rlhf.learning.models.folders import renderer
from rlhf.learning.models.render import Renderer

LISTED = 600  # tokens of a text at either end
BLANK = "▁"  # how SentencePiece writes a space


def show_row(render: Renderer, row: Any, room: int) -> list[dict[str, Any]]:
    """Encodes a row as training does. Raises DataError where training would."""
    if isinstance(row, DataError):
        raise row
    if isinstance(row, Document):
        first, *rest = render.document(row.text)  # nothing comes before the first to predict it
        return [_listed(render, [(first, False), *((each, True) for each in rest)])]
    if isinstance(row, Prompt):
        return [_listed(render, [(each, False) for each in render.prompt(row, room)])]
    found = []
    for text, finished in answers_of(row):
        encoded = render.encode(row.prompt, text, room, finished)
        asked = [(each, False) for each in encoded.prompt]
        found.append(_listed(render, asked + [(each, True) for each in encoded.completion]))
    return found


def _listed(render: Renderer, tokens: Sequence[tuple[int, bool]]) -> dict[str, Any]:
    left_out = max(len(tokens) - 2 * LISTED, 0)
    shown = [*tokens[:LISTED], *tokens[LISTED + left_out :]] if left_out else tokens
    return {"tokens": list(_pieces(render, shown)), "left_out": left_out}


def _pieces(render: Renderer, tokens: Sequence[tuple[int, bool]]) -> Iterator[tuple[str, bool]]:
    """Texts of tokens; those that spell one character together are one piece."""
    waiting: list[int] = []
    for place, (token, learnt) in enumerate(tokens, 1):
        waiting.append(token)
        text = str(render.tokenizer.decode(waiting, skip_special_tokens=False))
        if text.endswith("\ufffd") and place < len(tokens) and tokens[place][1] == learnt:
            continue
        written = str(render.tokenizer.convert_ids_to_tokens(waiting[0]))
        if written.startswith(BLANK) and not text.startswith(" "):
            text = f" {text}"
        yield text, learnt
        waiting = []


def _rows(
    render: Renderer, path: Path, first: int, count: int, room: int
) -> Iterator[list[dict[str, Any]] | str]:
    for _, row in islice(each_row(path), first, first + count):
        try:
            yield show_row(render, row, room)
        except DataError as error:
            yield str(error)


def main() -> int:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    asked = json.load(sys.stdin)
    chats = not asked.get("documents")
    try:
        render = renderer(Path(asked["folder"]), asked["day"], chats=chats)
    except (ConfigError, OSError, ValueError) as error:
        print(json.dumps({"refused": str(error), "rows": []}))
        return 0
    which = (Path(asked["path"]), asked["first"], asked["count"], asked["room"])
    print(json.dumps({"refused": "", "rows": list(_rows(render, *which))}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
