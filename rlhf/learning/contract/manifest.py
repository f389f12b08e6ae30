"""Folders that can prove they are whole: sizes and sha256 of every file, written last."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

MANIFEST = "manifest.json"


class Corrupt(Exception):
    """A folder is not what its manifest says."""


def write_manifest(folder: Path) -> None:
    """Flush every file of the folder, then list their sizes and hashes, and flush that."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            sync(path)
            files[str(path.relative_to(folder))] = {
                "sha256": sha256(path),
                "size": path.stat().st_size,
            }
    (folder / MANIFEST).write_text(json.dumps({"files": files}, indent=1))
    sync(folder / MANIFEST)
    sync(folder)


def verify(folder: Path) -> None:
    """Raises Corrupt unless every file listed in the folder's manifest has its size and hash."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        for name, expected in files.items():
            path = folder / name
            if path.stat().st_size != expected["size"] or sha256(path) != expected["sha256"]:
                raise Corrupt(f"{folder.name}: {name} does not match its manifest")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{folder.name}: {error!r}") from error


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flushes a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
