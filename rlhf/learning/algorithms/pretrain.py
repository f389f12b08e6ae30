"""Supplemental pre-training: next-token prediction on raw documents, packed into full rows.

`data.train` and `data.test` are documents `{"text": ...}`. Each ends with the end token. Documents
longer than a row are cut into rows, and a piece does not see the one before it; shorter ones share
rows, fitted by their length (best-fit-decreasing, arXiv 2404.10830). Attention and positions stop
at the border of a document, so packing changes no probability.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.kinds.pretrain import Pretrain
from rlhf.learning.contract.reading import read_documents
from rlhf.learning.contract.records import DataError
from rlhf.learning.models.networks import Batch
from rlhf.learning.models.render import Packed

from .sft import LanguageLearner


class PretrainLearner(LanguageLearner):
    """Next-token prediction on rows packed with documents."""

    settings: Pretrain
    rows: list[Packed]
    chats = False

    def read(self) -> None:
        assert isinstance(self.config.train, Pretrain)
        self.settings = settings = self.config.train
        if settings.row_tokens > self.render.context:
            raise ConfigError(
                f"Pretrain.row_tokens {settings.row_tokens} is over the model's context of"
                f" {self.render.context}"
            )
        self.rows = self._pack("train")
        self.test_rows = self._pack("test") if self.config.data.test else []

    def _pack(self, name: str) -> list[Packed]:
        path, size = self.folder.data(name), self.settings.row_tokens
        pieces = [
            piece
            for document in read_documents(path)
            for piece in cut(self.render.document(document.text), size, self.settings.min_tokens)
        ]
        if not pieces:
            raise DataError(
                f"{path.name}: every document is under {self.settings.min_tokens} tokens"
            )
        return pack(pieces, size)

    def collate(self, rows: Sequence[Packed]) -> Batch:
        return collate_packed(rows, self.render.pad, self.device)

    def figures(self) -> dict[str, float]:
        room = len(self.rows) * self.settings.row_tokens
        return {"data/filled": sum(len(row.ids) for row in self.rows) / room}

    def summary(self) -> tuple[str, dict[str, Any]]:
        texts = sum(len(row.texts) for row in self.rows)
        tokens = sum(len(row.ids) for row in self.rows)
        title = f"Policy pre-trained further on {tokens} tokens"
        return title, {"texts": texts, "rows": len(self.rows), "tokens": tokens}


def cut(ids: list[int], size: int, least: int) -> list[list[int]]:
    """Pieces of at most `size` tokens; a remainder under `least` is dropped."""
    pieces = [ids[start : start + size] for start in range(0, len(ids), size)]
    return [piece for piece in pieces if len(piece) >= least]


def pack(pieces: Sequence[list[int]], size: int) -> list[Packed]:
    """Each piece, the longest first, into the fullest row that still has room for it."""
    rows: list[list[list[int]]] = []
    by_room: dict[int, list[list[list[int]]]] = defaultdict(list)
    for piece in sorted(pieces, key=len, reverse=True):
        room = next((r for r in range(len(piece), size) if by_room[r]), size)
        if room < size:
            row = by_room[room].pop()
        else:
            rows.append(row := [])
        row.append(piece)
        by_room[room - len(piece)].append(row)
    return [Packed(row) for row in rows]


def collate_packed(rows: Sequence[Packed], pad: int, device: torch.device | str = "cpu") -> Batch:
    """Makes right-padded tensors of packed rows, with the number of the text of each token."""
    shape = len(rows), max(len(row.ids) for row in rows)
    ids_BL = torch.full(shape, pad)
    segments_BL = torch.zeros(shape, dtype=torch.long)
    keep_BL = torch.zeros(shape, dtype=torch.bool)
    for i, row in enumerate(rows):
        start = 0
        for number, text in enumerate(row.texts, 1):
            end = start + len(text)
            ids_BL[i, start:end] = torch.tensor(text)
            segments_BL[i, start:end] = number
            keep_BL[i, start + 1 : end] = True
            start = end
    mask_BL = segments_BL > 0
    return Batch(*(each.to(device) for each in (ids_BL, mask_BL, keep_BL, segments_BL)))
