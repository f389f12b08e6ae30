"""Reads the weights of a model folder: all of them, or none and a list of what does not fit.

transformers fills in weights that a folder lacks with random numbers and leaves out those it has no
place for. Who trains such a model learns nothing of it but a bad score.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from rlhf.learning.contract.hyperparameters import ConfigError

# What torch.compile and DistributedDataParallel put into the names of a module they wrap.
WRAPPED = {r"^(?:module\.)+": "", r"(^|\.)(?:_orig_mod\.)+": r"\1"}
LM_HEADS = ("lm_head.", "embed_out.", "output_projection.")
SHOWN = 6
UNREADABLE = (OSError, ValueError, KeyError, AttributeError, ImportError, SafetensorError)


def read_config(folder: Path) -> PreTrainedConfig:
    """The folder's config; raises ConfigError where transformers knows no such model."""
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except UNREADABLE as error:
        raise ConfigError(f"{folder}: config.json is of no model known here: {error}") from error
    if config.is_encoder_decoder:
        raise ConfigError(f"{folder}: {config.model_type} is an encoder and decoder, no policy")
    return config


def read_weights(
    auto: Any, folder: Path, *, makes_head: bool = False, **more: Any
) -> tuple[PreTrainedModel, bool]:
    """(the model in fp32, whether its scalar head was drawn at random).

    With `makes_head` a language model is read as a reward model: its LM head may be left over and
    `score` missing. Raises ConfigError where any other weight is missing, left over or of another
    shape."""
    mapping = dict(WRAPPED) if any(map(is_wrapped, weight_names(folder))) else None
    try:
        model, report = auto.from_pretrained(
            folder,
            dtype=torch.float32,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            key_mapping=mapping,
            ignore_mismatched_sizes=True,  # they are in the report
            **more,
        )
    except UNREADABLE as error:
        raise ConfigError(f"{folder} cannot be read as {_noun(auto)}: {error}") from error
    if mapping:  # or the wrapper's names would be written again
        del model._weight_conversions
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    is_new = makes_head and any(map(_is_score, missing))
    if is_new:
        missing = [name for name in missing if not _is_score(name)]
        unexpected = [name for name in unexpected if not name.startswith(LM_HEADS)]
    sizes = sorted(
        f"{name} {tuple(here)} for {tuple(wanted)}"
        for name, here, wanted in report["mismatched_keys"]
    )
    said = {"missing": missing, "left over": unexpected, "of another shape": sizes}
    wrong = [f"{what}: {_shortened(names)}" for what, names in said.items() if names]
    if wrong:
        raise ConfigError(
            f"{folder}: its weights are not those of {type(model).__name__}; {'; '.join(wrong)}."
            " Save the model again with save_pretrained, or correct its config.json"
        )
    return model, is_new


def weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def weight_names(folder: Path) -> Iterator[str]:
    """Names of all weights of a folder; raises ConfigError where a file is damaged."""
    for path in weight_files(folder):
        try:
            with safe_open(path, "pt") as file:
                yield from file.keys()  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"{path} is damaged or cut off: {error}") from error


def stored_precision(folder: Path) -> torch.dtype:
    """The precision of most of the folder's weights: bf16, fp16 or fp32."""
    sizes = dict.fromkeys((torch.float32, torch.bfloat16, torch.float16), 0)
    named = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
    for path in weight_files(folder):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                piece = file.get_slice(name)
                if kind := named.get(piece.get_dtype()):
                    sizes[kind] += torch.Size(piece.get_shape()).numel()
    return max(sizes, key=lambda each: sizes[each])


def is_wrapped(name: str) -> bool:
    return any(re.search(pattern, name) for pattern in WRAPPED)


def _is_score(name: str) -> bool:
    return name.split(".")[0] == "score"


def _noun(auto: Any) -> str:
    return "a reward model" if auto is AutoModelForSequenceClassification else "a policy"


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
