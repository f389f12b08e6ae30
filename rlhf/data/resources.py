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
from collections.abc import Iterator, Mapping
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

KINDS = ("pretrain", "sft", "reward", "ppo", "dpo", "kto")


@dataclass(frozen=True)
class Footprint:
    memory: int  # of the greediest stage
    disk: int  # of all stages together


def footprint(parameters: int, layers: int, configs: Mapping[str, Mapping[str, Any]]) -> Footprint:
    """Bytes. `configs`: kind → {"tune": {mode, layers}, "train": {critic, keep_epochs}}."""
    memory, disk = [0], 0
    for kind, config in configs.items():
        if kind not in KINDS:
            continue
        tune, is_ppo = config["tune"], kind == "ppo"
        learns = _learning(parameters, layers, tune)
        has_critic = is_ppo and config["train"]["critic"] in ("reward", "policy")
        weights = parameters * (FOUR_BITS if tune["mode"] == "qlora" else FLOAT)
        kept = (1 + has_critic) * (weights + learns * (KEPT - FLOAT))
        # KTO's reference stays. Those whom PPO asks are awake one at a time, before there is a
        # gradient, and the gradients of policy and critic come one after the other.
        if kind == "kto" and tune["mode"] not in ("lora", "qlora"):
            kept += weights
        memory.append(int(kept + max(learns, parameters if is_ppo else 0) * FLOAT))
        disk += int((1 + has_critic) * CHECKPOINTS * learns * KEPT + parameters * FLOAT)
        disk += _epochs_kept(config.get("train", {})) * parameters * FLOAT
    return Footprint(max(memory), disk)


def check_room(folder: Path, configs: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    needed = footprint(parameters_of(folder), context_of(folder)[1], configs)
    free, memory = free_disk(), memory_of_this_machine()
    if needed.disk > free:
        message = (
            f"The round writes about {needed.disk / GB:.1f} GB and {free / GB:.1f} GB are free. "
            "Make room in DATA_DIR, or choose an adapter (mode lora): its checkpoints are small."
        )
        yield Finding("too_little_disk", message, is_error=True)
    if needed.memory > memory:
        message = (
            f"The greediest stage takes about {needed.memory / GB:.1f} GB of memory without its "
            f"activations; this machine has {memory / GB:.1f} GB. Choose an adapter (mode lora), "
            "a smaller base, or a worker on a larger machine."
        )
        yield Finding("too_little_memory", message)


def parameters_of(folder: Path) -> int:
    """Counted from the headers of its safetensors files; the weights are not read."""
    return sum(_parameters_in(file) for file in folder.glob("*.safetensors"))


def context_of(folder: Path) -> tuple[int, int]:
    """(tokens it can read, layers); 0 where the config does not say."""
    config = json.loads((folder / "config.json").read_text())
    tokens = config.get("max_position_embeddings") or config.get("n_positions") or 0
    return int(tokens), int(config.get("num_hidden_layers") or config.get("n_layer") or 0)


def free_disk() -> int:
    return shutil.disk_usage(settings.DATA_DIR).free


def memory_of_this_machine() -> int:
    """Or of the container it is."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    said = limit.read_text().strip() if limit.is_file() else ""
    return min(physical, int(said)) if said.isdecimal() else physical


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
