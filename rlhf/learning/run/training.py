"""The one optimisation loop: steps, schedule, guards, checkpoints, exact resume.

An algorithm is a `Learner`: it says what one step is, and everything that must survive a crash.
Nothing random is kept between steps: every draw follows from (seed, purpose, step), and the order
of the data from (seed, epoch), so a cursor is enough to go on as if nothing had happened.
"""

from __future__ import annotations

import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from rlhf.learning.contract.hyperparameters import ConfigError, Optimisation
from rlhf.learning.contract.manifest import Corrupt
from rlhf.learning.contract.seeds import derive

from . import checkpoint
from .optimiser import Optimiser
from .run_folder import Paused, RunFolder, StopAsked

T = TypeVar("T")


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

    def kept(self, step: int) -> str:
        """Where in the run folder the model of that step is published, for people to choose it
        rather than the final one; "" = it is not."""
        return ""

    def keep(self, step: int) -> None:
        """Publish it there, without any effect on learning."""
        return None

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

    def places(self, chosen: Sequence[int]) -> list[int]:
        """Where in this process's share the chosen rows of a global batch are, those it has."""
        processes, mine = self.accelerator.num_processes, self.accelerator.process_index
        return [place // processes for place in chosen if place % processes == mine]

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
    """Run a learner to its end. Raises StopAsked or Paused; the checkpoint is then written, unless
    what was learnt last is not finite."""
    settings = folder.config.train
    assert isinstance(settings, Optimisation)
    folder.total_steps = total = learner.total_steps
    if shards := learner.optimiser.shards:
        folder.say(f"weights are sharded: this process holds {shards.share:.0%} of them")
    resumed = _resume(learner, folder, resume)
    step, saved = resumed or 0, -1 if resumed is None else resumed
    # Where it began from: without this row nobody could tell learning from luck.
    if resumed is None and settings.evaluate_every:
        with learner.optimiser.whole():
            learner.evaluate(0)
    while step < total:
        # A signal may reach one process a step before the next one: all leave together, or some
        # hang.
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
                "lr": rate,
                **numbers,
                "steps/skipped": learner.optimiser.skipped,
                "seconds/update": time.perf_counter() - started,
            },
        )
        kept, every = learner.kept(step), settings.evaluate_every
        if step == total or kept or every and step % every == 0:
            with learner.optimiser.whole():
                learner.evaluate(step)
                if kept:  # before the checkpoint: whoever goes on from that one finds it
                    learner.keep(step)
        try:
            learner.guard(numbers)
        except Paused as paused:
            # What is not finite is not worth going on from: the checkpoint before it is.
            if paused.reason != "not_finite":
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
                "follows_from": folder.follows_from,
                "learner": learner.state(),
                "measured": folder.measured,
                "optimizer_steps": optimiser.steps,
                "skipped": [optimiser.skipped, optimiser.skipped_in_a_row],
                "random": random_state(),
            },
        )
    learner.accelerator.wait_for_everyone()


def _resume(learner: Learner, folder: RunFolder, resume: Path | None) -> int | None:
    """Go on from the checkpoint asked for, else from the folder's own; returns its step, or None
    where there is none yet. What this folder holds of later steps is forgotten."""
    place = resume or folder.checkpoints
    before = ""
    if place.name.startswith("step-"):
        place, before = place.parent, place.name
    found = checkpoint.latest_good(place, before)
    if found is None:
        if resume:
            raise Corrupt(f"{resume}: no checkpoint here")
        folder.rewind(-1, {})
        return None
    good, complaints = found
    for complaint in complaints:
        folder.say(f"corrupt checkpoint passed over: {complaint}")
    _check_same_run(folder, good)
    learner.optimiser.restore(good.tensors)
    learner.optimiser.steps = good.state["optimizer_steps"]
    learner.optimiser.skipped, learner.optimiser.skipped_in_a_row = good.state["skipped"]
    learner.restore(good.state["learner"])
    restore_random(good.state["random"])
    folder.rewind(good.step, good.state["measured"])
    if folder.writes:
        checkpoint.drop_later(folder.checkpoints, good.step)
    learner.accelerator.wait_for_everyone()
    # Models published on the way may lie in the folder of an attempt before this one.
    for kept in filter(None, map(learner.kept, range(1, good.step + 1))):
        folder.adopt(place.parent, kept)
    folder.say(f"resumed at step {good.step}")
    return good.step


def _check_same_run(folder: RunFolder, good: checkpoint.Checkpoint) -> None:
    """Raises ConfigError where the checkpoint is of another run: half of one and half of another
    would be neither, and nobody could have it again."""
    if good.state.get("kind", folder.config.kind) != folder.config.kind:
        raise ConfigError(
            f"step-{good.step:08d} is a checkpoint of {good.state['kind']}, and this run is"
            f" {folder.config.kind}: start it in a folder of its own"
        )
    before, now = good.state.get("follows_from") or {}, folder.follows_from
    names = now.keys() & before.keys()  # a release may know fields more, or fewer
    names |= {name for name in now.keys() ^ before.keys() if name.startswith(("data.", "models."))}
    changed = sorted(name for name in names if before.get(name) != now.get(name))
    if not (before and now):
        return
    if not changed:
        return
    said = "; ".join(f"{name} was {_short(before.get(name))} and is {_short(now.get(name))}"
                     for name in changed)  # fmt: skip
    if not folder.allows_changes:
        raise ConfigError(
            f"step-{good.step:08d} is a checkpoint of another run: {said}. Start in a folder of"
            " its own, or pass --allow-changes to go on with what changed"
        )
    folder.say(f"goes on with changes from step {good.step}: {said}")


def _short(value: object) -> str:
    return str(value)[:12] if isinstance(value, str) else str(value)


def random_state() -> dict[str, Any]:
    """State of all random generators of the process, as plain JSON."""
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
    """Puts back what `random_state` gave."""
    torch.set_rng_state(_bytes_tensor(state["torch"]))
    np.random.set_state(tuple(state["numpy"]))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(_bytes_tensor(state["cuda"]))


def _bytes_tensor(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)


class Epochs:
    """Batches of a data set, epoch after epoch; which rows a step sees follows from the seed."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.steps_per_epoch = math.ceil(len(lengths) / batch_size)
        self._planned: tuple[int, list[list[int]]] = (-1, [])

    def rows(self, step: int) -> list[int]:
        """Indices of the rows of a step, counted from 0."""
        epoch, number = divmod(step, self.steps_per_epoch)
        if self._planned[0] != epoch:
            self._planned = epoch, epoch_batches(self.lengths, self.batch_size, self.seed, epoch)
        return self._planned[1][number]


def epoch_batches(
    lengths: Sequence[int], batch_size: int, seed: int, epoch: int, window: int = 8
) -> list[list[int]]:
    """Every row once, in batches of like length: sorted within windows of a shuffled order.

    What is over is spread: no batch is more than one row larger than another, or a last row would
    move the weights as far as a whole batch."""
    # A generator of its own: what else was drawn in the process moves nothing here.
    generator = torch.Generator().manual_seed(derive(seed, "epoch", epoch))
    order = torch.randperm(len(lengths), generator=generator).tolist()
    count = math.ceil(len(order) / batch_size)
    ends = [len(order) * i // count for i in range(count + 1)] if count else [0]
    batches = []
    for first in range(0, count, window):
        inside = ends[first : first + window + 1]
        near = sorted(order[inside[0] : inside[-1]], key=lambda i: lengths[i])
        batches += [near[start - inside[0] : end - inside[0]] for start, end in pairwise(inside)]
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
