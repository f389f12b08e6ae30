"""A trained reward model at work: texts in, calibrated scores out, by its own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from .networks import collate, load_score, read_calibration, renderer
from .records import Prompt
from .render import Encoded

ROWS = 16


class RewardModel:
    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        self.calibration = read_calibration(folder)
        self.render = renderer(folder)
        self.network = load_score(folder, device).requires_grad_(False)
        self.device = device

    def encode(self, prompt: Prompt, text: str, finished: bool) -> Encoded:
        """An answer that was cut off stays without EOS, as it was cut off in training."""
        return self.render.encode(prompt, text, self.render.context, finished)

    def score(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        finished: Sequence[bool],
        normalise: bool = False,
    ) -> Tensor:
        """scores_B: demonstrations average 0; with `normalise` in units of their spread."""
        rows = [self.encode(*each) for each in zip(prompts, texts, finished, strict=True)]
        scores_B = score_rows(self.network, rows, self.render.pad, self.device).cpu()
        scores_B = scores_B + self.calibration.bias
        return scores_B / self.calibration.std if normalise else scores_B


@torch.no_grad()
def score_rows(
    network: nn.Module,
    rows: Sequence[Encoded],
    pad: int,
    device: torch.device | str,
    size: int = ROWS,
) -> Tensor:
    """The network's number for each row, in order, computed in batches of like length."""
    scores_B = torch.zeros(len(rows), device=device)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        scores_B[chosen] = network(collate([rows[i] for i in chosen], pad, device)).float()
    return scores_B
