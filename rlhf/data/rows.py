"""Which rows of a round cannot be learnt, by rendering all of them with the base's own tokenizer. A
process of its own does it: pages are served without the learning libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.conf import settings
from django.utils import timezone

from annotate.models import Policy
from rlhf.data.checks import Finding
from rlhf.data.snapshot import Rows, write

SECONDS = 600  # for a hundred thousand rows on a slow machine
SHOWN = 5
UNCHECKED = "the trainer finds out."

Files = Mapping[str, Rows]


def check_rows(base: Policy, stages: Mapping[str, tuple[Files, int]]) -> Iterator[Finding]:
    """Finds rows that training would refuse or learn nothing from, by stage, row and reason.
    `stages`: label → (its data files, room for an answer in tokens)."""
    folder = settings.DATA_DIR / base.folder
    if not (folder / "tokenizer_config.json").is_file():
        return  # no folder that a trainer opens: it says so
    with TemporaryDirectory() as place:
        files = list(_files(Path(place), stages))
        asked = {"folder": str(folder), "day": timezone.localdate().isoformat(), "files": files}
        answer = _ask(asked)
    if answer is None:
        message = f"The rows were not rendered beforehand, as that did not work here; {UNCHECKED}"
        yield Finding("rows_not_rendered", message)
        return
    if answer["refused"]:
        message = f"The chat template of {base} cannot be learnt: {answer['refused']}"
        yield Finding("template_refused", message, is_error=True)
    for each, found in zip(files, answer["files"], strict=False):
        yield from _findings(each["name"], found)


def _files(place: Path, stages: Mapping[str, tuple[Files, int]]) -> Iterator[dict[str, Any]]:
    for number, (label, (files, room)) in enumerate(stages.items()):
        write(place / str(number), dict(files))
        for name, rows in files.items():
            if rows:
                path = str(place / str(number) / f"{name}.jsonl")
                named = label if name == "train" else f"{label}, {name.replace('_', ' ')}"
                yield {"name": named, "path": path, "room": room}


def _ask(asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """None: it could not be asked."""
    command = [sys.executable, "-m", "rlhf.learning.algorithms.check_rows"]
    try:
        ended = subprocess.run(
            command, input=json.dumps(asked), capture_output=True, text=True, check=True,
            timeout=SECONDS, cwd=settings.BASE_DIR,
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(ended.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return answer


def _findings(name: str, found: Mapping[str, Any]) -> Iterator[Finding]:
    if found["bad"]:
        message = (
            f"{name}: {found['bad']} of {found['rows']} rows cannot be learnt, and the training "
            f"would stop at the first. {_listed(found['reasons'], found['bad'])} Retract or "
            "archive them, or have them rewritten."
        )
        yield Finding("rows_not_learnable", message, is_error=True)
    if found["alike"]:
        nothing_left = found["alike"] == found["comparisons"]
        message = (
            f"{name}: {found['alike']} of {found['comparisons']} comparisons are between answers "
            "that are the same, or are after the cut to the longest completion; they teach nothing "
            f"and are left out. {_listed(found['with_alike'], found['alike'])}"
        )
        yield Finding("answers_alike", message, is_error=nothing_left)
    if found["folded"]:
        message = (
            f"{name}: the base's chat template knows no system message. In {found['folded']} rows "
            "what it says is put before the user's first message."
        )
        yield Finding("system_folded", message)


def _listed(lines: list[str], count: int) -> str:
    more = f" … and {count - SHOWN} more." if count > SHOWN else ""
    return " ".join(f"{line.rstrip('.')}." for line in lines[:SHOWN]) + more
