"""The two losses of a micro-batch of episodes, each with its figures: (loss, stats).

Both are divided by `tokens`, the count over the global mini-batch, and so are the figures but the
extremes of the ratio: those of micro-batches add up to the mini-batch's. N answer tokens of the
episodes `rows`, in row-major order.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf.learning.contract.kinds.ppo import PPO
from rlhf.learning.models.losses import policy_loss, value_loss

from .rollout import Rollout

Stats = dict[str, float]
SUMMED = (
    *("loss", "policy/loss", "policy/entropy", "policy/clipfrac", "policy/approx_kl"),
    "ratio/off",
)
VALUE_SUMS = ("val/loss", "val/clipfrac")
EXTREMES = ("ratio/deviation", "ratio/max")


def clipped_policy_loss(
    rollout: Rollout,
    rows: Sequence[int],
    logprobs_N: Tensor,
    entropy_N: Tensor,
    tokens: float,
    clip_range: float,
) -> tuple[Tensor, Stats]:
    """Clipped surrogate of the policy (arXiv 1707.06347 eq. 7), weighted for the engine."""
    old_logprobs_N, advantages_N, weights_N = (
        rollout.flat(each, rows).to(logprobs_N.device)
        for each in (rollout.logprobs_BT, rollout.advantages_BT, rollout.weights_BT)
    )
    surrogate, ratio_N, clipped_N = policy_loss(
        logprobs_N, old_logprobs_N, advantages_N * weights_N, clip_range
    )
    loss = surrogate / tokens
    with torch.no_grad():
        log_ratio_N = (logprobs_N - old_logprobs_N).clamp(-20, 20)
        sums = {
            "loss": loss * tokens,
            "policy/loss": surrogate,
            "policy/entropy": entropy_N.sum(),
            "policy/clipfrac": clipped_N.sum(),
            "policy/approx_kl": (log_ratio_N.expm1() - log_ratio_N).sum(),
            "ratio/off": (ratio_N - 1).abs().sum(),
        }
        return loss, {
            **{name: float(value) / tokens for name, value in sums.items()},
            "ratio/deviation": float((ratio_N - 1).abs().max()),
            "ratio/max": float(ratio_N.max()),
        }


def clipped_value_loss(
    rollout: Rollout, rows: Sequence[int], values_N: Tensor, tokens: float, settings: PPO
) -> tuple[Tensor, Stats]:
    """Clipped squared error of the values, times its weight."""
    old_values_N, returns_N = (
        rollout.flat(each, rows).to(values_N.device)
        for each in (rollout.values_BT, rollout.returns_BT)
    )
    error, clipped_N = value_loss(values_N, old_values_N, returns_N, settings.value_clip)
    loss: Tensor = settings.value_weight * error / tokens
    with torch.no_grad():
        sums = {"loss": loss * tokens, "val/loss": error, "val/clipfrac": clipped_N.sum()}
        return loss, {name: float(value) / tokens for name, value in sums.items()}


def add_up(stats: Iterable[Stats], more: Sequence[str] = ()) -> Stats:
    """Stats of a mini-batch from those of its parts; a process without a part says zeros."""
    total = dict.fromkeys((*SUMMED, *EXTREMES, *more), 0.0)
    for part in stats:
        for name, value in part.items():
            total[name] = max(total[name], value) if name in EXTREMES else total[name] + value
    return total


@dataclass(frozen=True)
class Step:
    """One optimizer step: gradient norms, and the figures of its mini-batch, of all processes but
    for the extremes of the ratio."""

    norms: list[float]
    stats: Stats


def step_figures(steps: Sequence[Step]) -> Stats:
    """Means over the steps of an update, those that were skipped left out."""
    seen: dict[str, list[float]] = defaultdict(list)
    for step in steps:
        for name, value in step.stats.items():
            if not name.startswith("ratio/") and math.isfinite(value):  # else it was skipped
                seen[name].append(value)
    return {
        **{name: statistics.fmean(values) for name, values in seen.items()},
        **mean_norms([step.norms for step in steps]),
        "policy/optimizer_steps": len(steps),
    }


def mean_norms(norms: Sequence[Sequence[float]]) -> Stats:
    """Over the steps, of the gradients of policy and critic, or of both together where they share
    weights. Skipped steps have none; those in a row are the optimiser's to count."""
    names = ("gradient/norm", "gradient/critic_norm")[: len(norms[0])]
    columns = zip(names, zip(*norms, strict=True), strict=True)
    finite = {name: [norm for norm in said if math.isfinite(norm)] for name, said in columns}
    return {name: statistics.fmean(said) for name, said in finite.items() if said}
