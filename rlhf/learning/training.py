"""The one optimisation loop: steps, schedule, guards, checkpoints, exact resume.

An algorithm is a `Learner`: it says what one step is, and everything that must survive a crash.
Nothing random is kept between steps: every draw follows from (seed, purpose, step), and the order
of the data from (seed, epoch), so a cursor is enough to go on as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from . import checkpoint
from .hyperparameters import Optimisation
from .manifest import Corrupt
from .run_folder import Paused, RunFolder, StopAsked
from .sampling import derive
from .sharding import Shards, gathered, is_asked, part_of

T = TypeVar("T")
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
        self.clipped = [of_apart, others] if apart else [of_apart + others]
        self.adam = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=settings.learning_rate,
            eps=1e-5,
            betas=(0.9, settings.adam_beta2),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        # Wrapped for several processes only; gradients are then averaged, hence the factor below.
        is_copied = accelerator.num_processes > 1 and not self.shards
        self.module = accelerator.prepare(learning) if is_copied else learning
        self.skipped = self.skipped_in_a_row = self.steps = 0

    def set_rate(self, step: int, total: int) -> float:
        share = rate_share(step, total, self.settings.warmup, self.settings.schedule)
        for group in self.adam.param_groups:
            group["lr"] = group["peak"] * share
        return float(self.adam.param_groups[0]["lr"])

    def hold(self, part: str) -> None:
        """Move no weight of the group of that name in the coming step, nor let it decay."""
        for group in self.adam.param_groups:
            if group["part"] == part:
                group["lr"] = 0.0

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
            is_exchanged = self.shards is not None or i == len(losses) - 1
            with (
                contextlib.nullcontext() if is_exchanged else self.accelerator.no_sync(self.module)
            ):
                self.accelerator.backward(loss() * processes)

    def _clip(self, weights: Sequence[Tensor]) -> float:
        """Their gradients' norm before; gradients that are not finite move nothing."""
        clip = self.settings.max_grad_norm or math.inf
        norm = float(gathered(nn.utils.clip_grad_norm_(weights, clip)))
        if not math.isfinite(norm):
            for weight in weights:
                weight.grad = None
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


def rate_share(step: int, total: int, warmup: float, schedule: str) -> float:
    """Share of the peak learning rate at a step, counted from 0."""
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / (rising + 1)
    gone = (step - rising) / max(1, total - rising)
    shapes = {"constant": 1.0, "linear": 1 - gone, "cosine": (1 + math.cos(math.pi * gone)) / 2}
    return shapes[schedule]


class Learner(ABC):
    """An algorithm between two checkpoints. Subclasses set these in `__init__`."""

    optimiser: Optimiser
    total_steps: int

    def __init__(self, folder: RunFolder, accelerator: Accelerator) -> None:
        self.folder, self.accelerator = folder, accelerator
        self.config = folder.config
        self.seed, self.device = self.config.seed, accelerator.device

    @abstractmethod
    def update(self, step: int) -> dict[str, float]:
        """Learn once and say how it went."""

    @abstractmethod
    def evaluate(self, step: int) -> None:
        """Write rows on held-out data, without any effect on learning."""

    @abstractmethod
    def finish(self, step: int) -> dict[str, Any]:
        """Write the final rows, publish the model, return the summary."""

    def guard(self, numbers: dict[str, float]) -> None:
        """Raise Paused when an update went where it should not."""
        return None

    def state(self) -> dict[str, Any]:
        """What `update` needs next time, beside the weights; plain JSON."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        return None

    def share(self, rows: Sequence[T]) -> list[T]:
        """This process's part of a global batch."""
        return list(rows[self.accelerator.process_index :: self.accelerator.num_processes])

    def everyone(self, values_BX: Tensor) -> Tensor:
        """The rows of all processes, which have the same number each."""
        if self.accelerator.num_processes == 1:
            return values_BX
        gathered: Tensor = self.accelerator.gather(values_BX.to(self.device)).cpu()
        return gathered

    def total(self, *numbers: float) -> list[float]:
        """Sums over all processes."""
        if self.accelerator.num_processes == 1:
            return list(numbers)
        local = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        summed: Tensor = self.accelerator.reduce(local, "sum")
        return [float(number) for number in summed]


def train(
    learner: Learner, folder: RunFolder, stop_asked: Callable[[], bool], resume: Path | None
) -> dict[str, Any]:
    """Run a learner to its end. Raises StopAsked or Paused; the checkpoint is then written."""
    settings = folder.config.train
    assert isinstance(settings, Optimisation)
    folder.total_steps = total = learner.total_steps
    if shards := learner.optimiser.shards:
        folder.say(f"weights are sharded: this process holds {shards.share:.0%} of them")
    step = _resume(learner, folder, resume)
    saved = step if step else -1
    if step == 0 and settings.evaluate_every:
        with learner.optimiser.whole():
            learner.evaluate(0)
    while step < total:
        if learner.total(float(stop_asked()))[0]:
            if saved != step:
                _save(learner, folder, step)
            raise StopAsked
        started = time.perf_counter()
        rate = learner.optimiser.set_rate(step, total)
        numbers = learner.update(step)
        step += 1
        folder.metrics(
            step,
            "train",
            {
                **numbers,
                "lr": rate,
                "steps/skipped": learner.optimiser.skipped,
                "seconds/update": time.perf_counter() - started,
            },
        )
        if step == total or settings.evaluate_every and step % settings.evaluate_every == 0:
            with learner.optimiser.whole():
                learner.evaluate(step)
        try:
            learner.guard(numbers)
        except Paused:
            _save(learner, folder, step)
            raise
        if step == total or step % settings.checkpoint_every == 0:
            _save(learner, folder, step)
            saved = step
    with learner.optimiser.whole():
        return learner.finish(total)


def _save(learner: Learner, folder: RunFolder, step: int) -> None:
    learner.accelerator.wait_for_everyone()
    optimiser = learner.optimiser
    tensors = optimiser.tensors()
    if folder.writes:
        checkpoint.save(
            folder.checkpoints,
            step,
            tensors,
            {
                "kind": folder.config.kind,
                "learner": learner.state(),
                "measured": folder.measured,
                "optimizer_steps": optimiser.steps,
                "skipped": [optimiser.skipped, optimiser.skipped_in_a_row],
                "random": random_state(),
            },
        )
    learner.accelerator.wait_for_everyone()


def _resume(learner: Learner, folder: RunFolder, resume: Path | None) -> int:
    """Go on from the checkpoint asked for, else from the folder's own; returns its step."""
    place = resume or folder.checkpoints
    before = ""
    if place.name.startswith("step-"):
        place, before = place.parent, place.name
    found = checkpoint.latest_good(place, before)
    if found is None:
        if resume:
            raise Corrupt(f"{resume}: no checkpoint here")
        folder.rewind(-1, {})
        return 0
    good, complaints = found
    for complaint in complaints:
        folder.say(f"corrupt checkpoint passed over: {complaint}")
    learner.optimiser.restore(good.tensors)
    learner.optimiser.steps = good.state["optimizer_steps"]
    learner.optimiser.skipped, learner.optimiser.skipped_in_a_row = good.state["skipped"]
    learner.restore(good.state["learner"])
    restore_random(good.state["random"])
    folder.rewind(good.step, good.state["measured"])
    folder.say(f"resumed at step {good.step}")
    return good.step


def random_state() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()
    version, internal, gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "python": [version, list(internal), gauss],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state().numpy().tobytes().hex()
    return state


def restore_random(state: dict[str, Any]) -> None:
    torch.set_rng_state(_bytes_tensor(state["torch"]))
    np.random.set_state(tuple(state["numpy"]))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(_bytes_tensor(state["cuda"]))


def _bytes_tensor(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)


def epoch_batches(
    lengths: Sequence[int], batch_size: int, seed: int, epoch: int, window: int = 8
) -> list[list[int]]:
    """Every row once, in batches of like length: sorted within windows of a shuffled order."""
    generator = torch.Generator().manual_seed(derive(seed, "epoch", epoch))
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for start in range(0, len(order), window * batch_size):
        near = sorted(order[start : start + window * batch_size], key=lambda i: lengths[i])
        batches += [near[i : i + batch_size] for i in range(0, len(near), batch_size)]
    shuffled = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[i] for i in shuffled]


def endless(count: int, seed: int, start: int, number: int) -> list[int]:
    """Rows start … start + number of an endless series of shuffled epochs."""
    orders: dict[int, list[int]] = {}
    chosen = []
    for place in range(start, start + number):
        epoch, i = divmod(place, count)
        if epoch not in orders:
            generator = torch.Generator().manual_seed(derive(seed, "prompts", epoch))
            orders[epoch] = torch.randperm(count, generator=generator).tolist()
        chosen.append(orders[epoch][i])
    return chosen


def by_length(rows: Sequence[T], length: Callable[[T], int], size: int) -> list[list[T]]:
    """Micro-batches of like length, the longest first: if memory runs out, it does at once."""
    ordered = sorted(rows, key=length, reverse=True)
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]
