"""What has been published, the folders of policies and reward models; how to read and send one."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

from annotate.models import Project
from rlhf.models.checkpoints import Checkpoint

BLOCK = 2**20
CARD = "README.md"
MANIFEST = "manifest.json"


class Gone(Exception):
    """The row is there, the folder is not; the message says so."""


def published(project: Project) -> list[Checkpoint]:
    """Lists a project's published models, the newest first."""
    return list(
        Checkpoint.objects.published()
        .filter(run__project=project)
        .select_related("run__round", "run__snapshot", "trained_policy__policy", "reward_model")
        .order_by("-pk")
    )


def files_of(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Lists [{name, size, sha256}], as the manifest says, and the manifest itself last. Raises
    Gone."""
    manifest = _folder(checkpoint) / MANIFEST
    listed = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    files = [{"name": name, **facts} for name, facts in sorted(listed.items())]
    own = {"size": manifest.stat().st_size, "sha256": checkpoint.manifest_sha256}
    return [*files, {"name": MANIFEST, **own}]


def card_of(checkpoint: Checkpoint) -> str:
    """Reads the model card, without the metadata block that is for model hubs. Raises Gone."""
    card = _folder(checkpoint) / CARD
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    if text.startswith("---\n"):
        text = text.partition("\n---\n")[2]
    return text.strip()


def tar_of(checkpoint: Checkpoint, root: str) -> Iterator[bytes]:
    """Yields the folder as a tar file, piece by piece: a model need not fit into memory. Raises
    Gone."""
    folder = _folder(checkpoint)
    for each in files_of(checkpoint):
        path = folder / each["name"]
        header = tarfile.TarInfo(f"{root}/{each['name']}")
        header.size, header.mtime = path.stat().st_size, int(path.stat().st_mtime)
        yield header.tobuf(tarfile.PAX_FORMAT)
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block
        yield bytes(-header.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _folder(checkpoint: Checkpoint) -> Path:
    folder = settings.DATA_DIR / checkpoint.folder
    if checkpoint.removed_at:
        raise Gone(f"Its files were removed on {checkpoint.removed_at:%d %B %Y}; its record stays.")
    if not (folder / MANIFEST).is_file():
        raise Gone(f"{checkpoint.folder} is no longer in DATA_DIR; its record stays.")
    return folder
