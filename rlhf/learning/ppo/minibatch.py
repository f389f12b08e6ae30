"""The two losses of a micro-batch of episodes, and the figures that are said of them.

Both are divided by `tokens`, the count over the global mini-batch, and so is all that they add to
`sums` but the extremes of the ratio. N answer tokens of the episodes `rows`, in row-major order.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from rlhf.learning.contract.kinds.ppo import PPO
from rlhf.learning.models.losses import policy_loss, value_loss

from .rollout import Rollout

Sums = dict[str, float]


def no_sums() -> Sums:
    """Of a mini-batch, before its first rows; a process that holds none of it says so much."""
    named = (
        *("loss", "policy/loss", "policy/entropy", "policy/clipfrac", "policy/approx_kl"),
        *("val/loss", "val/clipfrac", "ratio/off", "ratio/deviation", "ratio/max"),
    )
    return dict.fromkeys(named, 0.0)


def policy_part(
    rollout: Rollout,
    rows: Sequence[int],
    tokens: float,
    settings: PPO,
    warming: bool,
    sums: Sums,
    logprobs_N: Tensor,
    entropy_N: Tensor,
) -> Tensor:
    """The clipped surrogate; while the critic is `warming` up, 0 with the same figures."""
    old_logprobs_N, advantages_N, weights_N = (
        rollout.flat(each, rows).to(logprobs_N.device)
        for each in (rollout.logprobs_BT, rollout.advantages_BT, rollout.weights_BT)
    )
    surrogate, ratio_N, clipped_N = policy_loss(
        logprobs_N, old_logprobs_N, advantages_N * weights_N, settings.clip_range
    )
    loss: Tensor = (0.0 if warming else 1.0) * surrogate / tokens
    with torch.no_grad():
        log_ratio_N = (logprobs_N - old_logprobs_N).clamp(-20, 20)
        for name, value in (
            ("loss", loss * tokens),
            ("policy/loss", surrogate),
            ("policy/entropy", entropy_N.sum()),
            ("policy/clipfrac", clipped_N.sum()),
            ("policy/approx_kl", (log_ratio_N.expm1() - log_ratio_N).sum()),
            ("ratio/off", (ratio_N - 1).abs().sum()),
        ):
            sums[name] += float(value) / tokens
        deviation = float((ratio_N - 1).abs().max())
        sums["ratio/deviation"] = max(sums["ratio/deviation"], deviation)
        sums["ratio/max"] = max(sums["ratio/max"], float(ratio_N.max()))
    return loss


def value_part(
    rollout: Rollout,
    rows: Sequence[int],
    tokens: float,
    settings: PPO,
    sums: Sums,
    values_N: Tensor,
) -> Tensor:
    """The clipped squared error of the values, times its weight."""
    old_values_N, returns_N = (
        rollout.flat(each, rows).to(values_N.device)
        for each in (rollout.values_BT, rollout.returns_BT)
    )
    error, clipped_N = value_loss(values_N, old_values_N, returns_N, settings.value_clip)
    loss: Tensor = settings.value_weight * error / tokens
    with torch.no_grad():
        for name, value in (
            ("loss", loss * tokens),
            ("val/loss", error),
            ("val/clipfrac", clipped_N.sum()),
        ):
            sums[name] += float(value) / tokens
    return loss


def mean_norms(norms: Sequence[Sequence[float]]) -> dict[str, float]:
    """Over the steps, of the gradients of policy and critic, or of both together where they share
    weights. Skipped steps have none; those in a row are the optimiser's to count."""
    names = ("gradient/norm", "gradient/critic_norm")[: len(norms[0])]
    columns = zip(names, zip(*norms, strict=True), strict=True)
    finite = {name: [norm for norm in said if math.isfinite(norm)] for name, said in columns}
    return {name: statistics.fmean(said) for name, said in finite.items() if said}
