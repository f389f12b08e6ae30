"""An export as a data set of Hugging Face: a folder with a card that names the type of each column,
and a file, or several of bounded size, for each split. `datasets.load_dataset(folder)` reads it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from annotate.exchange.exports.columnar import features_of
from annotate.exchange.files.readers import ESCAPED

SHARD = 256 * 2**20  # bytes
SPLITS = ("train", "validation", "test")
OF_TABLE = (
    "Lists and conversations are JSON in this table: a trainer would take them for plain text."
)


def write_folder(
    folder: Path, lines: Iterable[str], *, title: str, write_file: Callable[..., int], format: str
) -> int:
    """Writes the folder, which must not be there or be empty, as a whole or not at all; returns how
    many lines it holds. `write_file(path, lines)` writes one file."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(0, "there is something already")
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        counts, first = _write_shards(made, lines, write_file, format)
        (made / "README.md").write_text(_card(title, counts, first, format))
        if folder.exists():
            folder.rmdir()
        os.replace(made, folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return counts.total()


def _write_shards(
    folder: Path, lines: Iterable[str], write_file: Callable[..., int], format: str
) -> tuple[Counter[str], str]:
    """Parts of a split wait as JSON Lines, on the disk, until each is whole."""
    (folder / "data").mkdir()
    counts: Counter[str] = Counter()
    first = ""
    with ExitStack() as files:
        shards: dict[str, _Shards] = {}
        for line in lines:
            first = first or line
            split = json.loads(line)["split"]
            if split not in shards:
                waiting = files.enter_context(tempfile.TemporaryFile("w+b", dir=folder))
                path = folder / "data" / f"{split}.{format}"
                shards[split] = _Shards(path, waiting, write_file)
            shards[split].add(line)
            counts[split] += 1
        for each in shards.values():
            each.finish()
    return counts, first


@dataclass
class _Shards:
    """The files of one split. The lines of the next one wait in a temporary file."""

    path: Path
    waiting: IO[bytes]
    write_file: Callable[..., int]
    count: int = 0
    size: int = 0

    def add(self, line: str) -> None:
        self.size += self.waiting.write(line.encode())
        if self.size > SHARD:
            self.finish()

    def finish(self) -> None:
        if not self.size:
            return
        self.waiting.seek(0)
        name = f"{self.path.stem}-{self.count:05}{self.path.suffix}"
        self.write_file(self.path.with_name(name), (line.decode() for line in self.waiting))
        self.waiting.seek(0)
        self.waiting.truncate()
        self.count, self.size = self.count + 1, 0


def _card(title: str, counts: Counter[str], first: str, format: str) -> str:
    splits = [split for split in SPLITS if counts[split]]
    lines = ["---"]
    if splits:
        lines += ["configs:", "- config_name: default", "  data_files:"]
    for split in splits:
        lines += [f"  - split: {split}", f"    path: data/{split}-*.{format}"]
    if first:
        row = json.loads(first)
        columns = {**row, ESCAPED: ""} if format == "csv" else row
        lines += ["dataset_info:", "  features:", *features_of(columns, of_table=format == "csv")]
    lines += ["---", "", f"# {title}", ""]
    lines += [f"- {split}: {counts[split]:,} rows" for split in splits]
    lines += ["", 'Read it by `datasets.load_dataset("this folder")`.', ""]
    if format == "csv":
        lines += [OF_TABLE, ""]
    return "\n".join(lines)
