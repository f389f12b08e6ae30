"""Supervised fine-tuning (InstructGPT step 1): the loss is on the completion and its EOS alone.

`data.train` and `data.test` are demonstrations. Every token of a global batch weighs the same,
whatever micro-batch or process it fell to, and the LM head runs on completion tokens only.
Supplemental pre-training is the same with other rows (see pretrain.py).
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from rlhf.learning.contract.hyperparameters import OnText
from rlhf.learning.contract.kinds.sft import SFT
from rlhf.learning.contract.reading import read_demonstrations
from rlhf.learning.contract.records import Prompt
from rlhf.learning.generation.fixed_prompts import FixedPrompts
from rlhf.learning.models.adapters import choose_weights
from rlhf.learning.models.folders import load_policy, renderer
from rlhf.learning.models.losses import greedy_hits
from rlhf.learning.models.networks import Batch, LMHead, collate
from rlhf.learning.models.render import Encoded, Packed, cut_share
from rlhf.learning.publishing.writing import publish_policy
from rlhf.learning.run.optimiser import Optimiser
from rlhf.learning.run.run_folder import RunFolder
from rlhf.learning.run.training import Epochs, Learner, by_length

Row = Encoded | Packed


class LanguageLearner(Learner):
    """Learns to predict the kept tokens of its rows. Subclasses say what a row is."""

    settings: OnText
    rows: Sequence[Row]
    test_rows: Sequence[Row]
    prompts: Sequence[Prompt] = ()
    chats = True  # the rows are conversations

    def __init__(self, folder: RunFolder, accelerator: Accelerator) -> None:
        super().__init__(folder, accelerator)
        assert isinstance(self.config.train, OnText)
        self.settings = settings = self.config.train
        base = folder.resolve(self.config.models.policy)
        self.render = renderer(base, self.config.day, chats=self.chats)
        self.read()
        torch.manual_seed(self.seed)
        self.policy = load_policy(base, self.device, self.config.tune)
        self.wrapper = choose_weights(self.policy.lm, self.config.tune)
        self.fixed_prompts = None
        if self.prompts:
            self.fixed_prompts = FixedPrompts(folder, self.policy.lm, self.render, self.prompts)
        self.epochs = Epochs([len(row.ids) for row in self.rows], settings.batch_size, self.seed)
        self.total_steps = settings.epochs * self.epochs.steps_per_epoch
        self.optimiser = Optimiser(
            accelerator, self.policy, [("", settings.learning_rate)], settings
        )

    @abstractmethod
    def read(self) -> None:
        """Set rows, test_rows and prompts."""

    @abstractmethod
    def collate(self, rows: Sequence[Any]) -> Batch: ...

    def figures(self) -> dict[str, float]:
        """What every training row says of the data."""
        return {}

    def update(self, step: int) -> dict[str, float]:
        started = time.perf_counter()
        batch = [self.rows[i] for i in self.epochs.rows(step)]
        tokens = sum(row.targets for row in batch)
        sums: list[float] = []
        mine = self.share(batch)
        losses = [
            partial(self._loss, rows, tokens, sums)
            for rows in by_length(mine, lambda row: len(row.ids), self.settings.micro_batch_size)
        ]
        [norm] = self.optimiser.step(
            [losses], lambda: self.optimiser.module(self.collate(batch[:1]), entropy=False)
        )
        loss = self.total(sum(sums))[0]
        seconds = time.perf_counter() - started
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 50.0)),
            "gradient/norm": norm,
            "epoch": (step + 1) / self.epochs.steps_per_epoch,
            "data/tokens": tokens,
            **self.figures(),
            "speed/tokens_per_s": sum(len(row.ids) for row in batch) / seconds,
        }

    def _loss(self, rows: list[Row], tokens: int, sums: list[float]) -> Tensor:
        with self.accelerator.autocast():
            logprobs_N, _, _ = self.optimiser.module(self.collate(rows), entropy=False)
        loss: Tensor = -logprobs_N.sum() / tokens
        sums.append(float(loss.detach()))
        return loss

    @torch.no_grad()
    def evaluate(self, step: int) -> None:
        if self.test_rows:
            loss, hits = 0.0, 0
            for rows in by_length(
                self.share(self.test_rows), lambda row: len(row.ids), self.settings.micro_batch_size
            ):
                batch = self.collate(rows)
                logprobs_N, _, hidden_NH = self.policy(batch, entropy=False)
                loss -= float(logprobs_N.sum())
                targets_N = batch.ids_BL[batch.keep_BL]
                hits += greedy_hits(hidden_NH, LMHead(self.policy.lm), targets_N)
            tokens = sum(row.targets for row in self.test_rows)
            loss, right = self.total(loss, hits)
            mean = loss / tokens
            self.folder.metrics(
                step,
                "test",
                {
                    "loss": mean,
                    "perplexity": math.exp(min(mean, 50.0)),
                    "token_accuracy": right / tokens,
                    "data/tokens": tokens,
                },
            )
        if self.fixed_prompts:
            self.fixed_prompts.show(step)

    @abstractmethod
    def summary(self) -> tuple[str, dict[str, Any]]:
        """(title of the model card, what the outcome says)."""

    def finish(self, step: int) -> dict[str, Any]:
        title, more = self.summary()
        self.folder.publish(partial(self.write, title))
        return {"steps": step, **more}

    def write(self, title: str, place: Path, *, learns_on: bool = False) -> None:
        card = self.folder.card(title)
        publish_policy(self.policy, self.wrapper, self.render, place, card, learns_on=learns_on)


class SFTLearner(LanguageLearner):
    """Supervised fine-tuning: predicts the completions of demonstrations."""

    settings: SFT
    rows: list[Encoded]

    def read(self) -> None:
        demonstrations = read_demonstrations(self.folder.data("train"))
        held_out = read_demonstrations(self.folder.data("test")) if self.config.data.test else []
        room = self.settings.max_completion_tokens
        self.rows, self.test_rows = (
            [self.render.encode(each.prompt, each.text, room) for each in some]
            for some in (demonstrations, held_out)
        )
        self.prompts = [each.prompt for each in held_out or demonstrations]

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        return collate(rows, self.render.pad, self.device)

    def figures(self) -> dict[str, float]:
        assert isinstance(self.config.train, SFT)
        return {"data/truncated": cut_share(self.rows, self.config.train.max_completion_tokens)}

    def kept(self, step: int) -> str:
        """InstructGPT (3.5) chose among its epochs by reward-model score: the held-out loss was
        least after one, and more of them pleased people better. The last one is the final model."""
        epoch, inside = divmod(step, self.epochs.steps_per_epoch)
        is_kept = self.settings.keep_epochs and not inside and 0 < epoch < self.settings.epochs
        return f"epochs/{epoch}" if is_kept else ""

    def keep(self, step: int) -> None:
        title, _ = self.summary()
        epoch = step // self.epochs.steps_per_epoch
        title = f"{title}, after epoch {epoch} of {self.settings.epochs}"
        self.folder.publish(partial(self.write, title, learns_on=True), self.kept(step))

    def summary(self) -> tuple[str, dict[str, Any]]:
        title = f"Policy fine-tuned on {len(self.rows)} demonstrations"
        return title, {"demonstrations": len(self.rows)}

    def finish(self, step: int) -> dict[str, Any]:
        """With the step at which each epoch that is kept had ended."""
        epochs = {
            end // self.epochs.steps_per_epoch: end
            for end in range(1, step)
            if (place := self.kept(end)) and (self.folder.path / place).is_dir()
        }
        return {**super().finish(step), "epochs": epochs}
