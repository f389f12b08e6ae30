"""Scores of answers: by a trained reward model with its own tokenizer, or by a function."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.records import DataError, Prompt

from .folders import CRITIC_SOURCE, load_score, read_calibration, renderer
from .networks import collate
from .offload import Offloaded
from .render import Encoded

ROWS = 16


class Scorer(Protocol):
    """Whatever says how good an answer is."""

    def score(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        finished: Sequence[bool],
        normalise: bool = False,
    ) -> Tensor: ...


class RewardFunction:
    """`module:function` of the user: (prompts as messages, texts) -> one number a text."""

    def __init__(self, name: str) -> None:
        module, _, function = name.partition(":")
        try:
            self.function = getattr(import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"models.reward_function {name!r}: {error}") from error

    def score(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        finished: Sequence[bool],
        normalise: bool = False,
    ) -> Tensor:
        """scores_B as they come: a function has no calibration."""
        found = self.function([list(prompt.messages) for prompt in prompts], list(texts))
        scores_B = torch.tensor([float(each) for each in found])
        if len(scores_B) != len(texts) or not scores_B.isfinite().all():
            raise ValueError(f"models.reward_function gave {found!r} for {len(texts)} answers")
        return scores_B


class RewardModel:
    """A trained reward model that scores texts with its own tokenizer and calibration."""

    def __init__(
        self,
        folder: Path,
        device: torch.device | str = "cpu",
        scratch: Path | None = None,
        *,
        day: str = "",
    ) -> None:
        """With `scratch` it takes no memory while nobody asks (see offload.py). `day`: of the run,
        for a chat template that reads the clock."""
        self.name, self.calibration = folder.name, read_calibration(folder)
        if self.calibration.source == CRITIC_SOURCE:
            raise ConfigError(f"{folder} is a critic, which says what score to expect and no score")
        self.render = renderer(folder, day)
        network = load_score(folder, device)
        self.heads = network.head.out_features
        self.offloaded = Offloaded(network, device, scratch)
        self.device = device

    def encode(self, prompt: Prompt, text: str, finished: bool) -> Encoded:
        """An answer that was cut off stays without EOS, as it was cut off in training.

        So does one that takes this tokenizer more tokens than there is room for: what a policy
        says must stop no run."""
        ids = self.render.prompt(prompt, 1)
        room = self.render.context - len(ids)
        return Encoded(ids, *self.render.completion(prompt, text, room, finished))

    def check(self, prompts: Sequence[Prompt]) -> None:
        """That it can read them at all; its tokenizer and context need not be the policy's."""
        for prompt in prompts:
            try:
                self.render.prompt(prompt, 1)
            except DataError as error:
                raise DataError(f"reward model {self.name}: {error}") from error

    def score(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        finished: Sequence[bool],
        normalise: bool = False,
    ) -> Tensor:
        """scores_B: demonstrations average 0; with `normalise` in units of their spread."""
        return self.opinions(prompts, texts, finished, normalise)[0]

    def opinions(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        finished: Sequence[bool],
        normalise: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """(scores_B, disagreement_B): the mean of the heads, and their standard deviation."""
        rows = [self.encode(*each) for each in zip(prompts, texts, finished, strict=True)]
        with self.offloaded.loaded() as network:
            scores_BE = score_rows(network, rows, self.render.pad, self.device).cpu()
        unit = self.calibration.std if normalise else 1.0
        scores_B = (scores_BE.mean(1) + self.calibration.bias) / unit
        return scores_B, scores_BE.std(1, correction=0) / unit


@torch.no_grad()
def score_rows(
    network: nn.Module,
    rows: Sequence[Encoded],
    pad: int,
    device: torch.device | str,
    size: int = ROWS,
) -> Tensor:
    """The network's number for each row (B), or numbers (BE), in the order of the rows.

    They are computed in batches of like length.
    """
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    pieces = [
        network(collate([rows[i] for i in order[start : start + size]], pad, device)).float()
        for start in range(0, len(order), size)
    ]
    return in_order(pieces, order, device)


def in_order(pieces: Sequence[Tensor], order: Sequence[int], device: torch.device | str) -> Tensor:
    """One tensor of what was computed for the rows `order[0]`, `order[1]`, …, by row."""
    if not pieces:
        return torch.zeros(0, device=device)
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return torch.cat(list(pieces))[back.to(device)]
