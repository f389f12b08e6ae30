"""What the stages of a round read, said and left on the disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings

from annotate.prompts.models import content_hash
from rlhf.models.runs import Round, Run
from rlhf.rounds.tokens import Tokens, tokens_of
from rlhf.runs.trainer_process import last_lines

LINES = 400  # of a log that are shown
ROWS = 20  # of a data file on one page
ROWS_AS_TOKENS = 5
LONGEST_LINE = 1_000_000  # bytes of a row that are read
MOST_FILES = 500  # of a run that are listed


@dataclass(frozen=True)
class Log:
    """What a stage's trainer said in one attempt; the number of the attempt, from 1."""

    run: Run
    attempt: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.run.pk}-{self.attempt}"

    @property
    def digest(self) -> str:
        return content_hash([self.name, self.text])


def logs_of(round: Round) -> list[Log]:
    """Reads the end of what every attempt of every stage has said, the latest attempt first. Of an
    attempt whose files went, what its row remembers."""
    found = []
    for run in round.runs.all():
        for attempt in range(run.lease_token, 0, -1):
            text = last_lines(_folder(run) / f"t{attempt}", LINES)
            text = text or (run.log_tail if attempt == run.lease_token else "")
            if text:
                found.append(Log(run, attempt, text))
    return found


@dataclass(frozen=True)
class DataFile:
    run: Run
    name: str
    size: int  # bytes


@dataclass(frozen=True)
class Data:
    """Rows `first` (from 0) and the next of one data file, each [(field, value)]; `next`: where the
    page after this one begins."""

    files: list[DataFile]
    chosen: DataFile | None
    rows: list[list[tuple[str, str]]]
    first: int
    next: int | None
    size: int = 0  # rows of a page
    tokens: Tokens | None = None  # in the place of rows

    @property
    def previous(self) -> int | None:
        return max(self.first - self.size, 0) if self.first else None


def data_of(
    round: Round, *, run: int | None, name: str, first: int, as_tokens: bool = False
) -> Data:
    """Reads a page of a data file; of the first one where none is named. `as_tokens`: fewer rows,
    each as the trainer's tokenizer cuts it."""
    files = [
        DataFile(each, path.name, path.stat().st_size)
        for each in round.runs.all()
        for path in sorted((_folder(each) / "data").glob("*.jsonl"))
    ]
    named = (each for each in files if (each.run.pk, each.name) == (run, name))
    chosen = next(named, files[0] if files else None)
    if chosen is None:
        return Data(files, None, [], 0, None)
    size = ROWS_AS_TOKENS if as_tokens else ROWS
    lines = list(islice(_lines(chosen), first, first + size + 1))
    rows = [_fields(line) for line in lines[:size]]
    onward = first + size if len(lines) > size else None
    tokens = None
    if as_tokens:
        path = _folder(chosen.run) / "data" / chosen.name
        tokens = tokens_of(chosen.run, path, first=first, count=size)
    return Data(files, chosen, rows, first, onward, size, tokens)


def _lines(file: DataFile) -> Iterator[str]:
    with (_folder(file.run) / "data" / file.name).open(encoding="utf-8") as lines:
        while line := lines.readline(LONGEST_LINE):
            yield line


def _fields(line: str) -> list[tuple[str, str]]:
    try:
        row = json.loads(line)
    except ValueError:
        return [("row", line)]
    return [(name, _words(value)) for name, value in row.items()]


def _words(value: Any) -> str:
    """Messages as people read them; a list of texts one below the other."""
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        lines = [f"{each.get('role', '')}: {each.get('content', '')}" for each in value]
        return "\n".join(lines)
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return "\n\n".join(f"{number}. {text}" for number, text in enumerate(value, 1))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class RunFiles:
    """The files of a stage, [(name below its folder, bytes)]; `left_out`: so many more."""

    run: Run
    files: list[tuple[str, int]]
    left_out: int


def files_of(round: Round) -> list[RunFiles]:
    """Lists what each stage has left on the disk."""
    found = []
    for run in round.runs.all():
        folder = _folder(run)
        paths = sorted(path for path in folder.rglob("*") if _is_file(path))
        files = [(str(path.relative_to(folder)), path.stat().st_size) for path in paths]
        found.append(RunFiles(run, files[:MOST_FILES], max(len(files) - MOST_FILES, 0)))
    return [each for each in found if each.files]


def chosen_file(round: Round, run: int | None, name: str) -> Path | None:
    """Finds a file of one of the round's stages; None for anything outside of its folder."""
    of_round = next((each for each in round.runs.all() if each.pk == run), None)
    if of_round is None or "\x00" in name:
        return None
    folder = _folder(of_round)
    path = folder / name
    is_inside = path.resolve().is_relative_to(folder.resolve())
    return path if is_inside and _is_file(path) else None


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _folder(run: Run) -> Path:
    return settings.DATA_DIR / run.folder
