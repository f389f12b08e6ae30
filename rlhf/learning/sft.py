"""Supervised fine-tuning (InstructGPT step 1): the loss is on the completion and its EOS alone.

`data.train` and `data.test` are demonstrations. Every token of a global batch weighs the same,
whatever micro-batch or process it fell to, and the LM head runs on completion tokens only.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from .config import SFT
from .networks import choose_weights, collate, load_policy, publish_policy, renderer, stop_ids
from .records import Demonstration, read_demonstrations
from .render import Encoded
from .run_folder import RunFolder
from .sampling import derive, generate, uniforms
from .training import Learner, Optimiser, by_length, epoch_batches


class SFTLearner(Learner):
    def __init__(self, folder: RunFolder, accelerator: Accelerator) -> None:
        super().__init__(folder, accelerator)
        assert isinstance(self.config.train, SFT)
        self.settings = settings = self.config.train
        base = folder.resolve(self.config.models.policy)
        self.render = renderer(base)
        torch.manual_seed(self.seed)
        self.policy = load_policy(base, self.device)
        self.stops = stop_ids(self.policy.lm, self.render)
        self.wrapper = choose_weights(self.policy.lm, self.config.tune)
        demonstrations = read_demonstrations(folder.data("train"))
        self.rows = [self._encode(each) for each in demonstrations]
        held_out = read_demonstrations(folder.data("test")) if self.config.data.test else []
        self.test_rows = [self._encode(each) for each in held_out]
        self.shown = (held_out or demonstrations)[: settings.sample_prompts]
        self.truncated = sum(not row.finished for row in self.rows) / len(self.rows)
        self.steps_per_epoch = math.ceil(len(self.rows) / settings.batch_size)
        self.total_steps = settings.epochs * self.steps_per_epoch
        self.optimiser = Optimiser(
            accelerator, self.policy, [("", settings.learning_rate)], settings
        )
        self._plan: tuple[int, list[list[int]]] = (-1, [])

    def _encode(self, demonstration: Demonstration) -> Encoded:
        return self.render.encode(
            demonstration.prompt, demonstration.text, self.settings.max_completion_tokens
        )

    def _batch(self, step: int) -> list[Encoded]:
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._plan[0] != epoch:
            lengths = [len(row.ids) for row in self.rows]
            self._plan = epoch, epoch_batches(lengths, self.settings.batch_size, self.seed, epoch)
        return [self.rows[i] for i in self._plan[1][place]]

    def update(self, step: int) -> dict[str, float]:
        started = time.perf_counter()
        batch = self._batch(step)
        tokens = sum(len(row.completion) for row in batch)
        sums: list[float] = []
        # A process without a row of its own still has to take part in the exchange of gradients.
        mine = self.share(batch)
        losses = [
            partial(self._loss, rows, tokens, sums, 1.0)
            for rows in by_length(mine, lambda row: len(row.ids), self.settings.micro_batch_size)
        ]
        norm = self.optimiser.step(losses or [partial(self._loss, batch[:1], tokens, sums, 0.0)])
        loss = self.total(sum(sums))[0]
        seconds = time.perf_counter() - started
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 50.0)),
            "gradient/norm": norm,
            "epoch": (step + 1) / self.steps_per_epoch,
            "data/tokens": tokens,
            "data/truncated": self.truncated,
            "speed/tokens_per_s": sum(len(row.ids) for row in batch) / seconds,
        }

    def _loss(self, rows: list[Encoded], tokens: int, sums: list[float], weight: float) -> Tensor:
        with self.accelerator.autocast():
            logprobs_N, _, _ = self.optimiser.module(collate(rows, self.render.pad, self.device))
        loss: Tensor = -logprobs_N.sum() / tokens * weight
        sums.append(float(loss.detach()))
        return loss

    @torch.no_grad()
    def evaluate(self, step: int) -> None:
        if self.test_rows:
            mine = by_length(
                self.share(self.test_rows), lambda row: len(row.ids), self.settings.micro_batch_size
            )
            loss = -sum(
                float(self.policy(collate(rows, self.render.pad, self.device))[0].sum())
                for rows in mine
            )
            tokens = sum(len(row.completion) for row in self.test_rows)
            mean = self.total(loss)[0] / tokens
            self.folder.metrics(
                step,
                "test",
                {"loss": mean, "perplexity": math.exp(min(mean, 50.0)), "data/tokens": tokens},
            )
        if self.shown and self.accelerator.is_main_process:
            self._show(step)

    def _show(self, step: int) -> None:
        prompts = [
            self.render.prompt(each.prompt, self.settings.max_new_tokens) for each in self.shown
        ]
        noise_BT = uniforms(
            [derive(self.seed, "shown", i) for i in range(len(prompts))],
            self.settings.max_new_tokens,
        )
        answers = generate(
            self.policy.lm,
            prompts,
            noise_BT,
            self.settings.temperature,
            self.stops,
            self.render.pad,
        )
        for each, answer in zip(self.shown, answers, strict=True):
            self.folder.sample(step, each.prompt.id, self.render.text(answer.ids), None, None)

    def finish(self, step: int) -> dict[str, Any]:
        card = f"# Policy fine-tuned on {len(self.rows)} demonstrations\n\nSeed {self.seed}.\n"
        self.folder.publish(
            lambda place: publish_policy(self.policy, self.wrapper, self.render, place, card)
        )
        return {"steps": step, "demonstrations": len(self.rows)}
