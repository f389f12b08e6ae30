"""Data sets of Hugging Face, by folder or by the hub's OWNER/NAME, as a file of lines: read by
`datasets`, which is an extra of its own."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from annotate.exchange.files.bad_row import Unreadable

NAME_ON_THE_HUB = re.compile(r"[\w.-]+/[\w.-]+")


def is_data_set(source: str) -> bool:
    path = Path(source)
    return path.is_dir() or (not path.exists() and bool(NAME_ON_THE_HUB.fullmatch(source)))


def lines_of_data_set(source: str, *, split: str = "", config: str = "") -> BinaryIO:
    """The rows of one split as JSON Lines; streamed, with one row in memory. Close it. Raises
    Unreadable where the data set, or the choice of its split or configuration, is missing."""
    rows = _stream(source, split, config)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=True, default=str).encode() + b"\n")
    except Exception as error:  # of whatever reads the files: pyarrow, fsspec, a decoder
        file.close()
        raise Unreadable(f"The data set {source} cannot be read: {_short(error)}") from error
    file.seek(0)
    return file


def _stream(source: str, split: str, config: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise Unreadable("Data sets are read by `datasets`: pip install datasets.") from error
    try:
        splits = datasets.load_dataset(source, config or None, streaming=True)
    except Exception as error:  # no network, no such data set, several configurations
        raise Unreadable(f"The data set {source} cannot be read: {_short(error)}") from error
    known = list(splits)
    if split not in known and (split or len(known) > 1):
        raise Unreadable(f"The data set has the splits {', '.join(known)}: choose one by --split.")
    return splits[split or known[0]]


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
