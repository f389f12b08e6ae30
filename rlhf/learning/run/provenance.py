"""What a run was made of and where it ran: `provenance.json`, rewritten at every start."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from rlhf.learning.contract.config import Config
from rlhf.learning.contract.manifest import MANIFEST, sha256

from .run_folder import RunFolder
from .sharding import is_asked

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors", "numpy")
MODELS = ("policy", "reference", "reward", "held_out_reward", "critic")
# How often something is written down, how much is in memory at once, and when a run is stopped.
OF_NO_CONSEQUENCE = (
    *("checkpoint_every", "evaluate_every", "sample_every", "sample_prompts", "evaluate_prompts"),
    *("micro_batch_size", "forward_rows", "offload_frozen", "bootstrap", "max_skipped"),
    *("kl_limit", "min_entropy", "max_length", "min_length", "max_identical", "min_distinct"),
    *("stop_over_optimised", "vllm_server"),
)
READ = (".safetensors", ".json", ".jinja", ".model", ".txt")  # files of a model folder
DATA = ("train", "test", "held_out_labelers", "calibration", "demonstrations")


def write_provenance(folder: RunFolder, accelerator: Accelerator) -> str:
    """Say it in the log too; returns the hash of the training data. From here on the folder knows
    what its checkpoints follow from."""
    config, models = folder.config, folder.config.models
    places = {name: getattr(models, name) for name in MODELS}
    places |= {name: each["path"] for name, each in models.policies.items()}
    named = {name: getattr(config.data, name) for name in DATA}
    data = {
        name: sha256(folder.resolve(path))
        for name, path in named.items()
        if path and folder.resolve(path).is_file()
    }
    weights = {name: folder_hash(folder.resolve(place)) for name, place in places.items() if place}
    folder.follows_from = what_decides(config, data, weights)
    known: dict[str, Any] = {
        "config": config.as_dict(),
        "data_sha256": data,
        "models_sha256": weights,
        "code_version": config.code_version,
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "device": str(accelerator.device),
        "processes": accelerator.num_processes,
        "sharded": is_asked(accelerator),
        "threads": torch.get_num_threads(),
        "mixed_precision": accelerator.mixed_precision,
    }
    if folder.writes:
        (folder.path / "provenance.json").write_text(json.dumps(known, indent=1))
    trained, processes = data.get("train", ""), accelerator.num_processes
    folder.say(
        f"{config.kind}, seed {config.seed}, data {trained[:12]}, base"
        f" {weights.get('policy', '')[:12] or 'none'}, code {config.code_version or 'unknown'},"
        f" {accelerator.device.type.upper()}, {processes} process{'es' if processes > 1 else ''}"
    )
    return trained


def what_decides(
    config: Config, data: Mapping[str, str], weights: Mapping[str, str]
) -> dict[str, Any]:
    """All that the course of a run follows from, by the names of the config's fields; data and
    models by their hashes, for they may have been moved."""
    parts = {"train": asdict(config.train), "tune": asdict(config.tune)}
    return {
        "kind": config.kind,
        "seed": config.seed,
        **{
            f"{part}.{name}": value
            for part, fields in parts.items()
            for name, value in fields.items()
            if name not in OF_NO_CONSEQUENCE
        },
        **{f"data.{name}": value for name, value in data.items()},
        **{f"models.{name}": value for name, value in weights.items()},
        "models.reward_function": config.models.reward_function,
    }


def folder_hash(folder: Path) -> str:
    """Of its manifest, which names every file's hash; without one, of all that a model is read
    from: another chat template makes other rows of the same data."""
    if (folder / MANIFEST).is_file():
        return sha256(folder / MANIFEST)
    read = sorted(path for ending in READ for path in folder.glob(f"*{ending}"))
    listed = "".join(f"{path.name} {sha256(path)}\n" for path in read)
    return hashlib.sha256(listed.encode()).hexdigest()
