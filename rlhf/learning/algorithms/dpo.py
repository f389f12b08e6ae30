"""Direct preference optimisation (arXiv 2305.18290, eq. 7), on whole rankings (see preference.py).

The policy is its own reward model: the score of an answer is beta x log(policy / reference), and
the loss is the reward model's. The reference never changes, so what it says of the answers is
computed once, before training, and no second network stays in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from rlhf.learning.contract.kinds.dpo import DPO
from rlhf.learning.generation.fixed_prompts import FixedPrompts
from rlhf.learning.models.adapters import choose_weights
from rlhf.learning.models.folders import load_policy
from rlhf.learning.models.networks import SequenceLogprob
from rlhf.learning.models.render import Encoded
from rlhf.learning.models.scoring import score_rows
from rlhf.learning.publishing.writing import publish_policy
from rlhf.learning.run.optimiser import Optimiser
from rlhf.learning.run.run_folder import RunFolder

from .preference import RankingLearner


class DPOLearner(RankingLearner):
    """DPO: the score of an answer is beta x log(policy / reference)."""

    settings: DPO

    def __init__(self, folder: RunFolder, accelerator: Accelerator) -> None:
        super().__init__(folder, accelerator)
        assert isinstance(self.config.train, DPO)
        self.settings = settings = self.config.train
        models = self.config.models
        torch.manual_seed(self.seed)
        policy = load_policy(folder.resolve(models.policy), self.device, self.config.tune)
        reference = policy
        if models.reference not in ("", models.policy):
            reference = load_policy(folder.resolve(models.reference), self.device)
        self.network = SequenceLogprob(policy)
        self.reference = self._by_reference(SequenceLogprob(reference))
        self.wrapper = choose_weights(policy.lm, self.config.tune)
        elements = self.test_elements or self.elements
        self.fixed_prompts = FixedPrompts(
            folder, policy.lm, self.render, [each.judged.prompt for each in elements]
        )
        self.optimiser = Optimiser(
            accelerator, self.network, [("", settings.learning_rate)], settings
        )

    def _by_reference(self, network: SequenceLogprob) -> dict[tuple[int, ...], float]:
        """Log-probability of every answer under the reference; each process does its part."""
        elements = self.elements + self.test_elements + self.unseen_elements
        rows = list({_key(row): row for element in elements for row in element.rows}.items())
        mine = self.share(range(len(rows)))
        found = [0.0] * len(rows)
        logprobs = self._evaluate(network, [rows[i][1] for i in mine])
        for i, logprob in zip(mine, logprobs, strict=True):
            found[i] = logprob
        return {key: each for (key, _), each in zip(rows, self.total(*found), strict=True)}

    def _evaluate(self, network: SequenceLogprob, rows: Sequence[Encoded]) -> list[float]:
        with self.accelerator.autocast():
            logprobs_R = score_rows(
                network, rows, self.render.pad, self.device, self.settings.forward_rows
            )
        logprobs: list[float] = logprobs_R.tolist()
        return logprobs

    def scores(self, rows: Sequence[Encoded]) -> Tensor:
        logprobs_R = self.forward(rows)
        reference_R = logprobs_R.new_tensor([self.reference[_key(row)] for row in rows])
        scores_R: Tensor = self.settings.beta * (logprobs_R - reference_R)
        return scores_R

    def raw(self, rows: Sequence[Encoded]) -> list[float]:
        return [
            self.settings.beta * (logprob - self.reference[_key(row)])
            for row, logprob in zip(rows, self._evaluate(self.network, rows), strict=True)
        ]

    def evaluate(self, step: int) -> None:
        super().evaluate(step)
        self.fixed_prompts.show(step)

    def finish(self, step: int) -> dict[str, Any]:
        measured = self.final_figures(step)
        title = f"Policy trained by DPO on {len(self.elements)} ranked prompts"
        self.folder.publish(
            lambda place: publish_policy(
                self.network.policy, self.wrapper, self.render, place, self.folder.card(title)
            )
        )
        return {"steps": step, "rankings": len(self.elements), **measured}


def _key(row: Encoded) -> tuple[int, ...]:
    return (len(row.prompt), *row.ids)
