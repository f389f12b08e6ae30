"""The reward model (InstructGPT step 2), trained on whole rankings (see preference.py)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from rlhf.learning.contract.kinds.reward import Reward
from rlhf.learning.contract.reading import read_demonstrations
from rlhf.learning.contract.records import Judged
from rlhf.learning.contract.seeds import derive
from rlhf.learning.generation.sampling import generate, uniforms
from rlhf.learning.models.adapters import choose_weights
from rlhf.learning.models.folders import is_score, load_policy, load_score, stop_ids
from rlhf.learning.models.render import Encoded
from rlhf.learning.models.scoring import score_rows
from rlhf.learning.publishing.writing import publish_score
from rlhf.learning.run.optimiser import Optimiser
from rlhf.learning.run.run_folder import RunFolder

from .preference import RankingLearner, element_loss

SAMPLED_TOGETHER = 32


class RewardLearner(RankingLearner):
    """Reward model: one scalar head, or several that may disagree."""

    settings: Reward

    def __init__(self, folder: RunFolder, accelerator: Accelerator) -> None:
        super().__init__(folder, accelerator)
        assert isinstance(self.config.train, Reward)
        self.settings = settings = self.config.train
        torch.manual_seed(self.seed)
        base = folder.resolve(self.config.models.policy)
        self.network = load_score(base, self.device, settings.heads, self.config.tune)
        self.wrapper = choose_weights(self.network.model, self.config.tune)
        self.optimiser = Optimiser(
            accelerator, self.network, [("", settings.learning_rate)], settings
        )

    def scores(self, rows: Sequence[Encoded]) -> Tensor:
        return self.forward(rows)

    def opinion(self, scores_KE: Tensor) -> Tensor:
        return scores_KE.mean(1)

    def element_loss(self, scores_KE: Tensor, judged: Judged) -> Tensor:
        """The mean over heads; with several, each sees this ranking 0, 1, 2 … times."""
        heads = scores_KE.shape[1]
        losses = [element_loss(scores_KE[:, e], judged, self.settings.margin) for e in range(heads)]
        if heads == 1:
            return losses[0]
        times = [draws(self.seed, e, judged.prompt.key) for e in range(heads)]
        return torch.stack([n * loss for n, loss in zip(times, losses, strict=True)]).mean()

    def raw(self, rows: Sequence[Encoded]) -> list[float]:
        scores: list[float] = self.opinion(self._by_heads(rows)).tolist()
        return scores

    def _by_heads(self, rows: Sequence[Encoded]) -> Tensor:
        size = self.settings.forward_rows
        return score_rows(self.network, rows, self.render.pad, self.device, size)

    def finish(self, step: int) -> dict[str, Any]:
        measured = self.final_figures(step)
        calibration = self._calibrate()
        title = f"Reward model trained on {len(self.elements)} ranked prompts"
        self.folder.publish(
            lambda place: publish_score(
                self.network,
                self.wrapper,
                self.render,
                place,
                self.folder.card(title),
                calibration,
            )
        )
        return {"steps": step, "rankings": len(self.elements), **measured}

    def _calibrate(self) -> dict[str, Any]:
        """Mean score of demonstrations becomes 0 (InstructGPT 3.5); the unit is the spread of
        samples of the SFT policy, which are what PPO begins with."""
        seen: dict[str, dict[str, float]] = {}
        if samples := self._samples():
            seen["samples"] = self._spread(samples)
        if self.config.data.calibration:
            room = self.settings.max_completion_tokens
            shown = read_demonstrations(self.folder.data("calibration"))
            seen["demonstrations"] = self._spread(
                [self.render.encode(each.prompt, each.text, room) for each in shown]
            )
        if len(seen) < 2:  # completions stand in for what is missing
            elements = self.elements + self.test_elements
            seen["completions"] = self._spread([row for each in elements for row in each.rows])
        source = "demonstrations" if "demonstrations" in seen else "completions"
        unit = "samples" if "samples" in seen else "completions"
        mean = seen[source]["mean"]
        return {
            "mean": mean,
            "std": max(seen[unit]["std"], 1e-6),
            "bias": -mean,
            "source": source,
            "unit": unit,
            **seen,
        }

    def _spread(self, rows: Sequence[Encoded]) -> dict[str, float]:
        scores_RE = self._by_heads(rows)
        scores_R = self.opinion(scores_RE)
        return {
            "count": len(rows),
            "mean": float(scores_R.mean()),
            "std": float(scores_R.std(correction=0)),
            "disagreement": float(scores_RE.std(1, correction=0).mean()),
        }

    def _samples(self) -> list[Encoded]:
        """Answers of the policy this model started from to the prompts it learnt on."""
        settings, folder = self.settings, self.folder.resolve(self.config.models.policy)
        if not settings.calibration_samples or is_score(folder):
            return []
        room = settings.calibration_tokens
        unique = {each.judged.prompt.key: each.rows[0].prompt for each in self.elements}
        prompts = [ids for ids in unique.values() if len(ids) + room <= self.render.context]
        prompts = prompts[: settings.calibration_samples]
        lm = load_policy(folder, self.device).lm
        noise_BT = uniforms((derive(self.seed, "sample", i) for i in range(len(prompts))), room)
        stops, rows = stop_ids(lm, self.render), []
        for start in range(0, len(prompts), SAMPLED_TOGETHER):
            part = slice(start, start + SAMPLED_TOGETHER)
            answers = generate(lm, prompts[part], noise_BT[part], 1.0, stops, self.render.pad)
            rows += [
                Encoded(prompt, answer.ids, answer.finished)
                for prompt, answer in zip(prompts[part], answers, strict=True)
            ]
        return rows


def draws(seed: int, head: int, key: str) -> int:
    """How often a head sees a prompt: Poisson(1), the online bootstrap."""
    u, p, n = derive(seed, "head", head, key) / (1 << 31), math.exp(-1), 0
    while u > p and n < 5:
        u, n = u - p, n + 1
        p /= n
    return n
