"""The reward model (InstructGPT step 2), trained on whole rankings.

`data.train` and `data.test` are rankings; without a test file a share of the *prompts* is held out.
One element is a prompt with its K completions, each encoded once; all its comparisons enter one
loss with weights that sum to 1: K = 9 does not count more than K = 2 and nothing is seen twice.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .config import Reward
from .evaluate import calibration_error, clustered_mean, correct, correlation
from .losses import pairwise_loss
from .networks import choose_weights, collate, load_score, publish_score, renderer
from .records import Judged, aggregate, read_demonstrations, read_rankings
from .render import Encoded
from .run_folder import RunFolder
from .scoring import score_rows
from .training import Learner, Optimiser, by_length, epoch_batches


@dataclass(frozen=True)
class Element:
    """A prompt with its K completions, encoded, and what people said of them."""

    judged: Judged
    rows: list[Encoded]

    @property
    def length(self) -> int:
        return max(len(row.ids) for row in self.rows)


class RewardLearner(Learner):
    def __init__(self, folder: RunFolder, accelerator: Accelerator) -> None:
        super().__init__(folder, accelerator)
        assert isinstance(self.config.train, Reward)
        self.settings = settings = self.config.train
        base = folder.resolve(self.config.models.policy)
        self.render = renderer(base)
        torch.manual_seed(self.seed)
        self.network = load_score(base, self.device)
        self.wrapper = choose_weights(self.network.model, self.config.tune)
        everything = aggregate(read_rankings(folder.data("train")))
        if self.config.data.test:
            kept, held_out = everything, aggregate(read_rankings(folder.data("test")))
        else:
            kept, held_out = hold_out(everything, settings.holdout)
        self.elements = [self._encode(each) for each in kept]
        self.test_elements = [self._encode(each) for each in held_out]
        strangers = self.config.data.held_out_labelers
        self.stranger_elements = [
            self._encode(each)
            for each in aggregate(
                read_rankings(folder.data("held_out_labelers")) if strangers else []
            )
        ]
        self.steps_per_epoch = math.ceil(len(self.elements) / settings.batch_size)
        self.total_steps = settings.epochs * self.steps_per_epoch
        self.optimiser = Optimiser(
            accelerator, self.network, [("", settings.learning_rate)], settings
        )
        self._plan: tuple[int, list[list[int]]] = (-1, [])

    def _encode(self, judged: Judged) -> Element:
        room = self.settings.max_completion_tokens
        return Element(
            judged,
            [
                self.render.encode(judged.prompt, text, room, finished)
                for text, finished in zip(judged.completions, judged.finished, strict=True)
            ],
        )

    def _batch(self, step: int) -> list[Element]:
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._plan[0] != epoch:
            lengths = [element.length for element in self.elements]
            self._plan = epoch, epoch_batches(lengths, self.settings.batch_size, self.seed, epoch)
        return [self.elements[i] for i in self._plan[1][place]]

    def update(self, step: int) -> dict[str, float]:
        started = time.perf_counter()
        batch = self._batch(step)
        sums: list[tuple[float, float]] = []
        losses = [
            partial(self._loss, elements, len(batch), sums, 1.0)
            for elements in by_length(
                self.share(batch), lambda element: element.length, self.settings.micro_batch_size
            )
        ]
        norm = self.optimiser.step(
            losses or [partial(self._loss, batch[:1], len(batch), sums, 0.0)]
        )
        loss, right = self.total(sum(each[0] for each in sums), sum(each[1] for each in sums))
        seconds = time.perf_counter() - started
        comparisons = sum(len(element.judged.comparisons) for element in batch)
        return {
            "loss": loss,
            "reward/accuracy": right,
            "gradient/norm": norm,
            "epoch": (step + 1) / self.steps_per_epoch,
            "speed/comparisons_per_s": comparisons / seconds,
            "speed/tokens_per_s": sum(len(row.ids) for element in batch for row in element.rows)
            / seconds,
        }

    def _loss(
        self, elements: list[Element], prompts: int, sums: list[tuple[float, float]], weight: float
    ) -> Tensor:
        rows = [row for element in elements for row in element.rows]
        scores = self._scores(rows)
        loss, right, start = torch.zeros((), device=self.device), 0.0, 0
        for element in elements:
            scores_K = scores[start : start + len(element.rows)]
            start += len(element.rows)
            loss = loss + element_loss(scores_K, element.judged, self.settings.margin)
            plain = scores_K.detach().tolist()
            right += sum(
                pair.weight * correct(plain[pair.better] - plain[pair.worse])
                for pair in element.judged.comparisons
            )
        loss = loss * (weight / prompts)
        sums.append((float(loss.detach()), right * weight / prompts))
        return loss

    def _scores(self, rows: Sequence[Encoded]) -> Tensor:
        """scores_R with gradient, rows of like length forwarded together to spare padding."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
        size = len(order) if self.accelerator.num_processes > 1 else self.settings.forward_rows
        pieces = []
        for start in range(0, len(order), size):
            chosen = [rows[i] for i in order[start : start + size]]
            with self.accelerator.autocast():
                pieces.append(
                    self.optimiser.module(collate(chosen, self.render.pad, self.device)).float()
                )
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(pieces)[back.to(self.device)]

    def evaluate(self, step: int) -> None:
        if self.test_elements:
            self.folder.metrics(step, "test", self._measure(self.test_elements))
        if self.stranger_elements:
            self.folder.metrics(step, "labelers", self._measure(self.stranger_elements))

    def _raw(self, rows: Sequence[Encoded]) -> list[float]:
        scores: list[float] = score_rows(
            self.network, rows, self.render.pad, self.device, self.settings.forward_rows
        ).tolist()
        return scores

    def _measure(self, elements: Sequence[Element]) -> dict[str, float]:
        scores = self._raw([row for element in elements for row in element.rows])
        differences, longer, weights, clusters, start = [], [], [], [], 0
        for element in elements:
            mine = scores[start : start + len(element.rows)]
            start += len(element.rows)
            words = [len(text.split()) for text in element.judged.completions]
            for pair in element.judged.comparisons:
                differences.append(mine[pair.better] - mine[pair.worse])
                longer.append(correct(words[pair.better] - words[pair.worse]))
                weights.append(pair.weight)
                clusters.append(element.judged.prompt.key)
        accuracy = clustered_mean(
            [correct(each) for each in differences], weights, clusters, self.settings.bootstrap
        )
        lengths = [float(len(row.completion)) for element in elements for row in element.rows]
        difference_P, weight_P = torch.tensor(differences), torch.tensor(weights)
        losses_P = -nn.functional.logsigmoid(difference_P)
        return {
            "loss": float((losses_P * weight_P).sum() / weight_P.sum()),
            "reward/accuracy": accuracy.value,
            "reward/accuracy_low": accuracy.low,
            "reward/accuracy_high": accuracy.high,
            "reward/longer_wins": sum(a * w for a, w in zip(longer, weights, strict=True))
            / sum(weights),
            "reward/margin": float((difference_P * weight_P).sum() / weight_P.sum()),
            "reward/calibration_error": calibration_error(difference_P.sigmoid().tolist(), weights),
            "reward/score_length_correlation": correlation(scores, lengths),
            "data/prompts": len(set(clusters)),
            "data/comparisons": len(weights),
        }

    def finish(self, step: int) -> dict[str, Any]:
        measured = self._measure(self.test_elements or self.elements)
        self.folder.metrics(step, "final", measured)
        strangers = self._measure(self.stranger_elements) if self.stranger_elements else {}
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
            **{
                name: measured[f"reward/{name}"]
                for name in ("accuracy", "accuracy_low", "accuracy_high", "longer_wins")
            },
            "held_out_labelers_accuracy": strangers.get("reward/accuracy"),
        }

    def _calibrate(self) -> dict[str, Any]:
        """Mean score of demonstrations becomes 0 (InstructGPT 3.5); spread from the completions."""
        elements = self.elements + self.test_elements
        seen = torch.tensor(self._raw([row for element in elements for row in element.rows]))
        source, mean = "completions", float(seen.mean())
        if self.config.data.calibration:
            shown = read_demonstrations(self.folder.data("calibration"))
            rows = [
                self.render.encode(each.prompt, each.text, self.settings.max_completion_tokens)
                for each in shown
            ]
            source, mean = "demonstrations", float(torch.tensor(self._raw(rows)).mean())
        return {
            "mean": mean,
            "std": float(seen.std().clamp(min=1e-6)),
            "bias": -mean,
            "source": source,
        }


def element_loss(scores_K: Tensor, judged: Judged, margin: float) -> Tensor:
    pairs = judged.comparisons
    index = torch.tensor([[pair.better, pair.worse] for pair in pairs], device=scores_K.device)
    numbers = torch.tensor(
        [[pair.weight, margin * pair.strength] for pair in pairs], device=scores_K.device
    )
    return pairwise_loss(scores_K, index[:, 0], index[:, 1], numbers[:, 0], numbers[:, 1])


def hold_out(judged: Sequence[Judged], share: float) -> tuple[list[Judged], list[Judged]]:
    """Whole prompts, chosen by the hash of their content: the same ones every time."""

    def is_held(each: Judged) -> bool:
        return int(each.prompt.key[:8], 16) / 0xFFFFFFFF < share

    held = [each for each in judged if is_held(each)]
    kept = [each for each in judged if not is_held(each)]
    return (kept, held) if kept else (list(judged), [])
