"""The reward model (InstructGPT step 2), trained on whole rankings (see rankings.py)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from .config import Reward
from .networks import choose_weights, load_score, publish_score
from .rankings import RankingLearner
from .records import read_demonstrations
from .render import Encoded
from .run_folder import RunFolder
from .scoring import score_rows
from .training import Optimiser


class RewardLearner(RankingLearner):
    def __init__(self, folder: RunFolder, accelerator: Accelerator) -> None:
        super().__init__(folder, accelerator)
        assert isinstance(self.config.train, Reward)
        self.settings = settings = self.config.train
        torch.manual_seed(self.seed)
        self.network = load_score(folder.resolve(self.config.models.policy), self.device)
        self.wrapper = choose_weights(self.network.model, self.config.tune)
        self.optimiser = Optimiser(
            accelerator, self.network, [("", settings.learning_rate)], settings
        )

    def scores(self, rows: Sequence[Encoded]) -> Tensor:
        return self.forward(rows)

    def raw(self, rows: Sequence[Encoded]) -> list[float]:
        scores: list[float] = score_rows(
            self.network, rows, self.render.pad, self.device, self.settings.forward_rows
        ).tolist()
        return scores

    def finish(self, step: int) -> dict[str, Any]:
        measured = self.final_figures(step)
        calibration = self._calibrate()
        card = (
            f"# Reward model trained on {len(self.elements)} ranked prompts\n\n"
            f"Seed {self.seed}. Calibration: {json.dumps(calibration)}\n"
        )
        self.folder.publish(
            lambda place: publish_score(
                self.network, self.wrapper, self.render, place, card, calibration
            )
        )
        return {
            "steps": step,
            "rankings": len(self.elements),
            "held_out": bool(self.test_elements),
            **measured,
        }

    def _calibrate(self) -> dict[str, Any]:
        """Mean score of demonstrations becomes 0 (InstructGPT 3.5); spread from the completions."""
        elements = self.elements + self.test_elements
        seen = torch.tensor(self.raw([row for element in elements for row in element.rows]))
        source, mean = "completions", float(seen.mean())
        if self.config.data.calibration:
            shown = read_demonstrations(self.folder.data("calibration"))
            rows = [
                self.render.encode(each.prompt, each.text, self.settings.max_completion_tokens)
                for each in shown
            ]
            source, mean = "demonstrations", float(torch.tensor(self.raw(rows)).mean())
        return {
            "mean": mean,
            "std": float(seen.std().clamp(min=1e-6)),
            "bias": -mean,
            "source": source,
        }
