"""How much memory and disk a round takes, before it takes them: from the sizes in the base's
safetensors headers and what the recipe lets learn.

Weights are loaded as float32, those under a qlora adapter in four bits. What learns has a gradient
and the two moments of Adam beside it (Kingma and Ba, 2015); a checkpoint keeps the weights that
learn and those moments. Activations come on top: they depend on lengths that only the trainer
knows."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from django.conf import settings

from rlhf.data.checks import Finding

GB = 10**9
FLOAT, FOUR_BITS = 4, 0.5
KEPT = 3 * FLOAT  # weight, two moments
CHECKPOINTS = 4  # the last three, and the one that is being written
ADAPTER_SHARE = 0.05  # of an adapter or a head: generous

ADAPTERS = ("lora", "qlora")


@dataclass(frozen=True)
class Resources:
    """Bytes."""

    memory: int  # at its greediest
    disk: int


NOTHING = Resources(0, 0)


@dataclass(frozen=True)
class Networks:
    """What a training keeps in memory at once."""

    learning: int = 1  # policy and critic: weights, gradients, moments
    staying: bool = False  # a frozen reference that stays beside the policy
    # Frozen networks that are loaded one at a time, before there is a gradient. The gradients of
    # policy and critic come one after the other, too.
    visiting: bool = False


def training_resources(
    parameters: int, layers: int, config: Mapping[str, Any], networks: Networks
) -> Resources:
    """Estimates what one training takes. `config`: {"tune": {mode, layers}, "train": {epochs,
    keep_epochs}}."""
    tune = config["tune"]
    learns = _learning(parameters, layers, tune)
    weights = parameters * (FOUR_BITS if tune["mode"] == "qlora" else FLOAT)
    kept = networks.learning * (weights + learns * (KEPT - FLOAT)) + networks.staying * weights
    memory = int(kept + max(learns, parameters if networks.visiting else 0) * FLOAT)
    disk = int(networks.learning * CHECKPOINTS * learns * KEPT + parameters * FLOAT)
    return Resources(memory, disk + _epochs_kept(config["train"]) * parameters * FLOAT)


def together(stages: Iterable[Resources]) -> Resources:
    """Adds up what stages take that run one after the other: the memory of the greediest, the disk
    of all."""
    each = [NOTHING, *stages]
    return Resources(max(one.memory for one in each), sum(one.disk for one in each))


def check_resources(needed: Resources) -> Iterator[Finding]:
    """Compares what a round takes with what this machine has."""
    free, memory = free_disk(), memory_of_this_machine()
    if needed.disk > free:
        message = (
            f"The round writes about {needed.disk / GB:.1f} GB and {free / GB:.1f} GB are free. "
            "Make room in DATA_DIR, or choose an adapter (mode lora): its checkpoints are small."
        )
        yield Finding("too_little_disk", message, is_error=True)
    if needed.memory > memory:
        message = (
            f"The largest stage needs about {needed.memory / GB:.1f} GB of memory without its "
            f"activations; this machine has {memory / GB:.1f} GB. Choose an adapter (mode lora), "
            "a smaller base, or a worker on a larger machine."
        )
        yield Finding("too_little_memory", message)


def parameters_of(folder: Path) -> int:
    """Counts the weights of a model folder, from the headers of its safetensors files; the weights
    are not read."""
    return sum(_parameters_in(file) for file in folder.glob("*.safetensors"))


LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def context_of(folder: Path) -> tuple[int, int]:
    """Reads (tokens a model can read, its layers) from its config; 0 where that does not say."""
    whole = json.loads((folder / "config.json").read_text())
    config = whole.get("text_config") or whole  # of a model that also sees: what it reads with
    lengths = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
    tokens = next((config[name] for name in lengths if config.get(name)), 0)
    layers = next((config[each] for each in LAYERS if config.get(each)), 0)
    return int(tokens), int(layers)


def free_disk() -> int:
    return shutil.disk_usage(settings.DATA_DIR).free


def memory_of_this_machine() -> int:
    """Returns the bytes of memory of this machine, or of the container it is."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else ""
    return min(physical, int(text)) if text.isdecimal() else physical


def _learning(parameters: int, layers: int, tune: Mapping[str, Any]) -> float:
    if tune["mode"] == "full":
        return parameters
    if tune["mode"] == "last_layers" and layers:
        return parameters * min(tune["layers"] / layers, 1)
    return parameters * ADAPTER_SHARE


def _epochs_kept(train: Mapping[str, Any]) -> int:
    """Models published beside the final one."""
    return int(train["epochs"]) - 1 if train.get("keep_epochs") else 0


def _parameters_in(file: Path) -> int:
    with file.open("rb") as data:
        size = int.from_bytes(data.read(8), "little")
        # Of a file that is none, the loader says more than an estimate could.
        if not 0 < size <= file.stat().st_size - 8:
            return 0
        header = json.loads(data.read(size))
    return sum(prod(each["shape"]) for name, each in header.items() if name != "__metadata__")
