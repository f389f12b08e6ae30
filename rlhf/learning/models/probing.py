"""What a family does, found out by sending a few tokens through the model.

Configs do not say it, and names in them differ from family to family.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf.learning.contract.hyperparameters import ConfigError

from .networks import Batch, LMHead, output_head, trunk

TOKENS = 7
LOUD = 100.0  # logits of a model that is sure
CLOSE = 1e-4  # of the largest


@torch.no_grad()
def check_causal(lm: PreTrainedModel, folder: Path) -> None:
    """Raises ConfigError where the model looks ahead, says what is no number, or changes its logits
    after the LM head in a way that is not known here."""
    ids = torch.arange(TOKENS, device=lm.device)[None] % lm.config.get_text_config().vocab_size
    hidden = trunk(lm, _rows(ids))
    if not hidden.isfinite().all():
        raise ConfigError(f"{folder}: the model's numbers are not finite: its weights are damaged")
    other = ids.clone()
    other[0, -1] = 0
    if not _are_close(trunk(lm, _rows(other))[:, :-1], hidden[:, :-1]):
        raise ConfigError(f"{folder}: {type(lm).__name__} looks ahead, so it can be no policy")
    # A cap shows on large logits only, and a young model has small ones.
    linear = output_head(lm)
    factor = LOUD / max(float(linear(hidden).abs().max()), 1e-6)
    louder = linear.register_forward_hook(lambda _module, _input, out: out * factor)
    head = LMHead(lm)
    head.textless = None
    try:
        mine, whole = head(hidden), lm(ids).logits
    finally:
        louder.remove()
    if not _are_close(mine, whole):
        raise ConfigError(
            f"{folder}: {type(lm).__name__} changes its logits after the LM head in a way that is"
            " not known here; such models are not supported"
        )


@torch.no_grad()
def reads_packed(lm: PreTrainedModel) -> float:
    """The longest packed row in which no text sees another and each sees all of itself, in tokens;
    0: none, because layers are recurrent, or take neither mask nor positions."""
    ids = torch.arange(TOKENS, device=lm.device)[None] % lm.config.get_text_config().vocab_size
    segments = (torch.arange(TOKENS, device=lm.device) >= TOKENS // 2).long()[None] + 1
    packed = Batch(ids, segments > 0, segments > 1, segments)
    try:
        together = trunk(lm, packed)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return 0
    return _window(lm) if _are_close(together, trunk(lm, packed, 0)) else 0


def _window(lm: PreTrainedModel) -> float:
    """How far its most short-sighted layer looks back, in tokens."""
    config: Any = lm.config.get_text_config()
    sizes = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return min((float(size) for size in sizes if size), default=math.inf)


def _rows(ids_BL: Tensor) -> Batch:
    is_there = torch.ones_like(ids_BL, dtype=torch.bool)
    return Batch(ids_BL, is_there, is_there)


def _are_close(one: Tensor, other: Tensor) -> bool:
    scale = max(1.0, float(other.abs().max()))
    return bool((one - other).abs().max() <= CLOSE * scale)
