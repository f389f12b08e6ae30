"""Checkpoints that are whole or absent: `checkpoints/step-%08d/` of safetensors, never pickle.

Written to `tmp-<uuid>/`, every file flushed to the disk, the manifest of hashes last, then renamed.
A checkpoint whose hashes do not match is passed over for the one before it.
"""

from __future__ import annotations

import errno
import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from rlhf.learning.contract.manifest import Corrupt, sync, verify, write_manifest
from rlhf.learning.models.tensors import write_tensors

# One may be damaged, and another be the one just being replaced.
KEEP = 3
# Beside the tensors: state.json, the manifest, and what others write meanwhile.
SPARE_BYTES = 16 << 20


class DiskFull(OSError):
    """Not enough room for a checkpoint; the previous one is untouched."""

    def __init__(self, detail: str) -> None:
        super().__init__(errno.ENOSPC, detail)


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint read back: its step, tensors by file, and the JSON state."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> Path:
    """`tensors`: file name -> name -> tensor. Returns the checkpoint's final place."""
    folder.mkdir(parents=True, exist_ok=True)
    # Of an attempt that was killed while it wrote; nobody else writes in this folder.
    for leftover in folder.glob("tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    needed = SPARE_BYTES + sum(
        tensor.nbytes for group in tensors.values() for tensor in group.values()
    )
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFull(f"a checkpoint needs {needed >> 20} MB and {free >> 20} MB are free")
    place, writing = folder / f"step-{step:08d}", folder / f"tmp-{uuid.uuid4().hex}"
    writing.mkdir()
    try:
        for name, group in tensors.items():
            write_tensors(writing / f"{name}.safetensors", group)
        (writing / "state.json").write_text(json.dumps({"step": step, **state}))
        write_manifest(writing)
        # A step taken again after a rewind; a folder cannot be renamed onto one with files in it.
        if place.exists():
            shutil.rmtree(place)
        writing.rename(place)
        # The rename itself lives in the folder: without this a power cut may undo it.
        sync(folder)
    except OSError as error:
        shutil.rmtree(writing, ignore_errors=True)
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"the disk filled up while writing {place.name}") from error
        raise
    for old in checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old)
    return place


def load(folder: Path) -> Checkpoint:
    """One checkpoint, every hash verified."""
    verify(folder)
    state = json.loads((folder / "state.json").read_text())
    tensors = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    return Checkpoint(int(state["step"]), tensors, state)


def latest_good(folder: Path, before: str = "") -> tuple[Checkpoint, list[str]] | None:
    """The newest whole checkpoint (named <= `before`) and what was wrong with newer ones."""
    complaints: list[str] = []
    for place in reversed(checkpoints(folder)):
        if before and place.name > before:
            continue
        try:
            return load(place), complaints
        except Corrupt as error:
            complaints.append(str(error))
    if complaints:
        raise Corrupt("; ".join(complaints))
    return None


def checkpoints(folder: Path) -> list[Path]:
    """Folders of the checkpoints, the oldest first."""
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def drop_later(folder: Path, step: int) -> None:
    """Of a future that is taken anew, or of checkpoints that were passed over as corrupt."""
    for place in checkpoints(folder):
        if int(place.name.removeprefix("step-")) > step:
            shutil.rmtree(place)
