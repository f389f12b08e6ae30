"""Rows of a data file as tokens, with those that the loss is on, by the tokenizer of the round's
base. A process of its own encodes them: pages are served without the learning libraries."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.timezone import localdate

from feedback_site.pool import release_connections
from rlhf.models.runs import Run
from rlhf.stages import TRAININGS

logger = logging.getLogger(__name__)

SECONDS = 240  # of a machine that does much else; alone it takes four
NOT_READ = (
    "The tokens cannot be shown: the base's tokenizer did not work here. The site's log says why."
)
NOT_HERE = "The tokens cannot be shown: the files of the base model are not on this machine."


@dataclass(frozen=True)
class Tokens:
    """For each row a list of its texts, {"tokens": [[text, is the loss on it]], "left_out": so many
    more}, or what is wrong with it; `refused`: why there are none."""

    rows: list[list[dict[str, Any]] | str] = field(default_factory=list)
    refused: str = ""


def tokens_of(run: Run, path: Path, *, first: int, count: int) -> Tokens:
    """Encodes rows of a data file of a stage, from `first`, counted from 0, as its trainer does."""
    assert run.round
    base = run.round.base
    folder = settings.DATA_DIR / base.folder
    if not base.folder or not (folder / "tokenizer_config.json").is_file():
        return Tokens(refused=NOT_HERE)
    stage = TRAININGS.get(run.kind)
    asked = {
        "folder": str(folder),
        "day": localdate(run.created_at).isoformat(),
        "path": str(path),
        "room": stage.room(run.config.get("train", {})) if stage else 1,
        "first": first,
        "count": count,
        "documents": run.kind == Run.Kind.PRETRAIN,
    }
    command = [sys.executable, "-m", "rlhf.learning.algorithms.show_rows"]
    release_connections()
    try:
        ended = subprocess.run(
            command, input=json.dumps(asked), capture_output=True, text=True, check=True,
            timeout=SECONDS, cwd=settings.BASE_DIR,
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(ended.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        logger.warning("tokens of %s: %s %s", path, error, getattr(error, "stderr", ""))
        return Tokens(refused=NOT_READ)
    return Tokens(answer["rows"], answer["refused"])
