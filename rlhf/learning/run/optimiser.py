"""Adam over groups of weights: accumulate, clip, step, skip what is not finite."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rlhf.learning.contract.hyperparameters import Optimisation
from rlhf.learning.contract.manifest import Corrupt

from .run_folder import Paused
from .sharding import Shards, gathered, is_asked, part_of

Loss = Callable[[], Tensor]


class Optimiser:
    """Adam over groups of weights: accumulate, clip, step, skip what is not finite."""

    def __init__(
        self,
        accelerator: Accelerator,
        module: nn.Module,
        rates: Sequence[tuple[str, float]],
        settings: Optimisation,
        apart: str = "",
    ) -> None:
        """`rates`: (part of parameter names, learning rate); the first match counts. The gradients
        of the group `apart` are clipped by themselves, those of all others together."""
        self.accelerator, self.settings = accelerator, settings
        self.shards = Shards(module) if is_asked(accelerator) else None
        learning = self.shards.module if self.shards else module
        self.names = [name for name, weight in learning.named_parameters() if weight.requires_grad]
        self.weights = dict(learning.named_parameters())
        groups: list[dict[str, Any]] = [
            {"params": [], "part": part, "peak": rate} for part, rate in rates
        ]
        for name in self.names:
            first = next(i for i, (part, _) in enumerate(rates) if part in name)
            groups[first]["params"].append(self.weights[name])
        of_apart = [w for group in groups for w in group["params"] if group["part"] == apart]
        others = [w for group in groups for w in group["params"] if group["part"] != apart]
        # A critic far off must not shrink the policy's steps: each group has a norm of its own
        # (decisions, “Policy and critic are clipped apart”).
        self.clipped = [of_apart, others] if apart else [of_apart + others]
        self.adam = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=settings.learning_rate,
            eps=settings.adam_epsilon,
            betas=(0.9, settings.adam_beta2),
            weight_decay=settings.weight_decay,
            # One kernel over all weights, instead of a loop over them in Python.
            fused=True,
        )
        # Wrapped for several processes only; gradients are then averaged, hence the factor below.
        # `Accelerator.prepare` would make the network itself, which also answers and judges,
        # compute in mixed precision wherever it is called.
        is_copied = accelerator.num_processes > 1 and not self.shards
        self.module = _exchanging(learning, accelerator.device) if is_copied else learning
        self.held: str | None = None
        self.skipped = self.skipped_in_a_row = self.steps = 0

    def set_rate(self, step: int, total: int) -> float:
        """Returns the rate of `settings.learning_rate`, at this step."""
        share = rate_share(step, total, self.settings.warmup, self.settings.schedule)
        for group in self.adam.param_groups:
            group["lr"] = group["peak"] * share
        return self.settings.learning_rate * share

    def hold(self, part: str | None) -> None:
        """Leave the group of that name alone in the coming steps: its weights do not move, and
        Adam sees no gradient of it. None: no group."""
        self.held = part

    def whole(self) -> contextlib.AbstractContextManager[None]:
        """The network with its weights as they are now, for all that is not learning."""
        return self.shards.whole() if self.shards else contextlib.nullcontext()

    def step(
        self,
        turns: Sequence[Sequence[Loss]],
        idle: Callable[[], Tensor | tuple[Any, ...]],
    ) -> list[float]:
        """One optimizer step on the sum of micro-batch losses; returns the gradient norm of the
        group `apart` and that of the others, or the one of all.

        Each loss must already be divided by the count of the global batch. The losses of a turn
        share no weights with those of another: its gradients are gone before the next one's come.
        `idle` runs the module on anything: a process with fewer rows than others still takes part
        in the exchange.
        """
        norms = [0.0] * len(self.clipped)
        for losses in turns:
            self._accumulate(losses, idle)
            for group in self.adam.param_groups:
                if group["part"] == self.held:
                    _forget(group["params"])
            # Each part by its own norm: a critic that is far off, as it is at first, would shrink
            # the policy's steps under a norm of both, by another factor each time.
            for place, weights in enumerate(self.clipped):
                if reached := [weight for weight in weights if weight.grad is not None]:
                    norms[place] = self._clip(reached)
            self.adam.step()
            self.adam.zero_grad()
        self.steps += 1
        if all(math.isfinite(norm) for norm in norms):
            self.skipped_in_a_row = 0
            return norms
        self.skipped, self.skipped_in_a_row = self.skipped + 1, self.skipped_in_a_row + 1
        if self.skipped_in_a_row >= self.settings.max_skipped:
            raise Paused(
                "not_finite",
                f"{self.skipped_in_a_row} steps in a row had gradients"
                " that are not finite; try a lower learning rate",
            )
        return norms

    def _accumulate(
        self, losses: Sequence[Loss], idle: Callable[[], Tensor | tuple[Any, ...]]
    ) -> None:
        processes = self.accelerator.num_processes
        losses = [*losses, *[partial(self._nothing, idle)] * (self._rounds(losses) - len(losses))]
        for i, loss in enumerate(losses):
            # Gradients add up; exchanging them once a step is enough, and shards cannot wait.
            is_exchanged = self.shards is not None or i == len(losses) - 1
            with (
                contextlib.nullcontext() if is_exchanged else self.accelerator.no_sync(self.module)
            ):
                # `Accelerator.backward` would divide by what the launcher calls accumulation.
                (loss() * processes).backward()

    def _clip(self, weights: Sequence[Tensor]) -> float:
        """Their gradients' norm before; gradients that are not finite move nothing."""
        clip = self.settings.max_grad_norm or math.inf
        # Reading it waits for the device: once a step and group, not once a weight.
        norm = float(gathered(nn.utils.clip_grad_norm_(weights, clip)))
        if not math.isfinite(norm):
            _forget(weights)
        return norm

    def _rounds(self, losses: Sequence[object]) -> int:
        """Micro-batches of this step: one exchange at least, of shards as many as anybody's."""
        if self.shards is None:
            return max(len(losses), 1)
        mine = torch.tensor([len(losses)], device=self.accelerator.device)
        return max(int(self.accelerator.gather(mine).max()), 1)

    def _nothing(self, idle: Callable[[], Tensor | tuple[Any, ...]]) -> Tensor:
        with self.accelerator.autocast():
            said = idle()
        parts = [said] if isinstance(said, Tensor) else said
        return torch.stack([0.0 * part.float().sum() for part in parts]).sum()

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All that is learnt, whole; of shards on the first process only, which writes it."""
        moments = {
            f"{key}/{name}": self._collected(value)
            for name in self.names
            for key, value in self.adam.state.get(self.weights[name], {}).items()
        }
        return {
            "model": {name: self._collected(self.weights[name].data) for name in self.names},
            "optimizer": moments,
        }

    def _collected(self, tensor: Tensor) -> Tensor:
        if self.shards is None:
            return tensor
        whole = gathered(tensor)
        return whole.cpu() if self.accelerator.is_main_process else whole.new_empty(0)

    def restore(self, tensors: dict[str, dict[str, Tensor]]) -> None:
        saved = tensors["model"]
        if set(saved) != set(self.names):
            raise Corrupt("the checkpoint is of a model with other weights")
        with torch.no_grad():
            for name in self.names:
                weight = self.weights[name]
                weight.copy_(part_of(saved[name], weight.data))
        for key_name, value in tensors["optimizer"].items():
            key, name = key_name.split("/", 1)
            weight = self.weights[name]
            # Fused Adam counts its steps where the weight is, in a number of their own.
            moment = value.to(weight.device) if key == "step" else part_of(value, weight.data)
            self.adam.state[weight][key] = moment


def _exchanging(module: nn.Module, device: torch.device) -> nn.Module:
    is_gpu = device.type == "cuda"
    return DistributedDataParallel(module, device_ids=[device] if is_gpu else None)


def _forget(weights: Sequence[Tensor]) -> None:
    for weight in weights:
        weight.grad = None


def rate_share(step: int, total: int, warmup: float, schedule: str) -> float:
    """Share of the peak learning rate at a step, counted from 0."""
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / (rising + 1)
    gone = (step - rising) / max(1, total - rising)
    shapes = {"constant": 1.0, "linear": 1 - gone, "cosine": (1 + math.cos(math.pi * gone)) / 2}
    return shapes[schedule]
