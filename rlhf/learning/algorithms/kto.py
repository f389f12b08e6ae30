"""Kahneman-Tversky optimisation from thumbs (arXiv 2402.01306).

`data.train` and `data.test` are thumbs. The reference point z0 is the KL of policy and reference,
estimated on the whole batch from prompts with an answer to another one (section 4.1 there), without
gradient and never below 0.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from rlhf.learning.contract.kinds.kto import KTO
from rlhf.learning.contract.reading import read_thumbs
from rlhf.learning.contract.records import DataError, Thumb
from rlhf.learning.contract.seeds import derive
from rlhf.learning.generation.fixed_prompts import FixedPrompts
from rlhf.learning.models.adapters import adapter_off, choose_weights
from rlhf.learning.models.folders import load_policy, renderer
from rlhf.learning.models.losses import kto_losses
from rlhf.learning.models.networks import SequenceLogprob, collate
from rlhf.learning.models.render import Encoded, cut_share
from rlhf.learning.models.scoring import score_rows
from rlhf.learning.publishing.writing import publish_policy
from rlhf.learning.run.optimiser import Optimiser
from rlhf.learning.run.run_folder import RunFolder
from rlhf.learning.run.training import Epochs, Learner, by_length

Judgement = tuple[Encoded, bool, float]  # what it says and weighs


class KTOLearner(Learner):
    """KTO: a step is one batch of thumbs."""

    def __init__(self, folder: RunFolder, accelerator: Accelerator) -> None:
        super().__init__(folder, accelerator)
        assert isinstance(self.config.train, KTO)
        self.settings = settings = self.config.train
        models = self.config.models
        base = folder.resolve(models.policy)
        self.render = renderer(base, self.config.day)
        torch.manual_seed(self.seed)
        policy = load_policy(base, self.device, self.config.tune)
        self.network, self.reference = SequenceLogprob(policy), None
        if not self.config.tune.is_adapter or models.reference not in ("", models.policy):
            reference = load_policy(folder.resolve(models.reference or models.policy), self.device)
            self.reference = SequenceLogprob(reference).requires_grad_(False)
        self.wrapper = choose_weights(policy.lm, self.config.tune)
        thumbs = read_thumbs(folder.data("train"))
        held_out = read_thumbs(folder.data("test")) if self.config.data.test else []
        self.rows = [self._encode(each) for each in thumbs]
        self.test_rows = [self._encode(each) for each in held_out]
        self.truncated = cut_share(
            [row for row, *_ in self.rows], self.settings.max_completion_tokens
        )
        ups = sum(weight for _, up, weight in self.rows if up)
        self.weights = balanced(settings, ups, sum(weight for *_, weight in self.rows))
        self.fixed_prompts = FixedPrompts(
            folder, policy.lm, self.render, [each.prompt for each in held_out or thumbs]
        )
        self.epochs = Epochs(
            [len(row.ids) for row, *_ in self.rows], settings.batch_size, self.seed
        )
        self.total_steps = settings.epochs * self.epochs.steps_per_epoch
        self.optimiser = Optimiser(
            accelerator, self.network, [("", settings.learning_rate)], settings
        )

    def _encode(self, thumb: Thumb) -> Judgement:
        room = self.settings.max_completion_tokens
        row = self.render.encode(thumb.prompt, thumb.text, room, thumb.finished)
        if not row.completion:
            raise DataError(f"prompt {thumb.prompt.id}: its answer has no token to learn from")
        return row, thumb.up, thumb.weight

    def update(self, step: int) -> dict[str, float]:
        started = time.perf_counter()
        batch = [self.rows[i] for i in self.epochs.rows(step)]
        parts = by_length(
            self.share(batch), lambda row: len(row[0].ids), self.settings.micro_batch_size
        )
        with self.optimiser.whole():
            # 1. Where a gain ends and a loss begins: the KL, on answers to other prompts.
            kl = self._reference_point(batch, step)
            references = [self._by_reference([row for row, *_ in part]) for part in parts]
        # 2. The value of each answer, seen from there.
        sums: dict[str, float] = defaultdict(float)
        losses = [
            partial(self._loss, part, reference_B, len(batch), kl, sums)
            for part, reference_B in zip(parts, references, strict=True)
        ]
        [norm] = self.optimiser.step([losses], lambda: self._logprobs(batch[:1]))
        tokens = sum(len(row.ids) for row, *_ in batch)
        return {
            **self._figures(sums, kl),
            "gradient/norm": norm,
            "epoch": (step + 1) / self.epochs.steps_per_epoch,
            "data/tokens": tokens,
            "data/truncated": self.truncated,
            "speed/tokens_per_s": tokens / (time.perf_counter() - started),
        }

    def _reference_point(self, batch: Sequence[Judgement], step: int) -> float:
        rows = [row for row, *_ in batch]
        pairs = mismatched(rows, self.render.context, derive(self.seed, "mismatched", step))
        if not pairs:
            return 0.0
        ratios = self._log_ratios(self.share(pairs), self.network)
        return max(self.total(float(ratios.sum()))[0] / len(pairs), 0.0)

    def _log_ratios(self, rows: Sequence[Encoded], network: SequenceLogprob) -> Tensor:
        return self._evaluate(network, rows) - self._by_reference(rows)

    def _by_reference(self, rows: Sequence[Encoded]) -> Tensor:
        with adapter_off(self.network):
            return self._evaluate(self.reference or self.network, rows)

    def _evaluate(self, network: SequenceLogprob, rows: Sequence[Encoded]) -> Tensor:
        size = self.settings.micro_batch_size
        with self.accelerator.autocast():
            return score_rows(network, rows, self.render.pad, self.device, size)

    def _loss(
        self,
        rows: Sequence[Judgement],
        reference_B: Tensor,
        count: int,
        kl: float,
        sums: dict[str, float],
    ) -> Tensor:
        return self._add_up(self._logprobs(rows) - reference_B, rows, count, kl, sums)

    def _logprobs(self, rows: Sequence[Judgement]) -> Tensor:
        encoded = [row for row, *_ in rows]
        with self.accelerator.autocast():
            logprobs_B = self.optimiser.module(collate(encoded, self.render.pad, self.device))
        found_B: Tensor = logprobs_B.float()
        return found_B

    def _add_up(
        self,
        log_ratios_B: Tensor,
        rows: Sequence[Judgement],
        count: int,
        kl: float,
        sums: dict[str, float],
    ) -> Tensor:
        up_B = torch.tensor([up for _, up, _ in rows], dtype=torch.bool, device=self.device)
        weight_B = torch.tensor([weight for *_, weight in rows], device=self.device)
        losses_B = kto_losses(log_ratios_B, up_B, kl, self.settings.beta, *self.weights)
        loss = (weight_B * losses_B).sum() / count
        scores_B = self.settings.beta * log_ratios_B.detach()
        right_B = (log_ratios_B > kl) == up_B
        sums["loss"] += float(loss.detach())
        sums["right"] += float((weight_B * right_B).sum())
        for side, is_so_B in (("up", up_B), ("down", ~up_B)):
            sums[side] += float((weight_B * is_so_B).sum())
            sums[f"{side}/score"] += float((weight_B * scores_B * is_so_B).sum())
        return loss

    def _figures(self, sums: dict[str, float], kl: float) -> dict[str, float]:
        names = ("loss", "right", "up", "down", "up/score", "down/score")
        loss, right, up, down, up_score, down_score = self.total(*(sums[name] for name in names))
        numbers = {"loss": loss, "objective/kl": kl, "reward/accuracy": right / (up + down)}
        if up:
            numbers["reward/chosen"] = up_score / up
        if down:
            numbers["reward/rejected"] = down_score / down
        if up and down:
            numbers["reward/margin"] = up_score / up - down_score / down
        return numbers

    def evaluate(self, step: int) -> None:
        if self.test_rows:
            kl = self._reference_point(self.test_rows, 0)
            sums: dict[str, float] = defaultdict(float)
            mine = self.share(self.test_rows)
            log_ratios_B = self._log_ratios([row for row, *_ in mine], self.network)
            self._add_up(log_ratios_B, mine, len(self.test_rows), kl, sums)
            self.folder.metrics(step, "test", self._figures(sums, kl))
        self.fixed_prompts.show(step)

    def finish(self, step: int) -> dict[str, Any]:
        title = f"Policy trained by KTO on {len(self.rows)} thumbs"
        self.folder.publish(
            lambda place: publish_policy(
                self.network.policy, self.wrapper, self.render, place, self.folder.card(title)
            )
        )
        return {"steps": step, "thumbs": len(self.rows)}


def balanced(settings: KTO, ups: float, count: float) -> tuple[float, float]:
    """(weight of a thumb up, of a thumb down): the rarer side up to the sum of the other."""
    up, down = settings.up_weight, settings.down_weight
    downs = count - ups
    if not settings.balance or not ups or not downs:
        return up, down
    return (up * downs / ups, down) if ups < downs else (up, down * ups / downs)


def mismatched(rows: Sequence[Encoded], context: int, seed: int) -> list[Encoded]:
    """Prompts with an answer to another prompt, drawn by `seed` and cut to the model's context.

    A batch has rows of like length side by side, and may have a prompt more than once. Its rows are
    put by prompts, these in random order, and each is given the answer as many places on as the
    most frequent prompt has rows: that one is to another prompt, unless most rows are of one prompt
    and some of those go without."""
    drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    by_prompt: dict[tuple[int, ...], list[Encoded]] = defaultdict(list)
    for i in drawn:
        by_prompt[tuple(rows[i].prompt)].append(rows[i])
    ordered = [row for group in by_prompt.values() for row in group]
    shift = max(map(len, by_prompt.values()), default=0)
    pairs = zip(ordered, ordered[shift:] + ordered[:shift], strict=True)
    return [
        Encoded(row.prompt, answer.completion[: context - len(row.prompt)], answer.finished)
        for row, answer in pairs
        if row.prompt != answer.prompt
    ]
