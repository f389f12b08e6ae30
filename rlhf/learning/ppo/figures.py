"""Figures of a rollout, before any learning, over the episodes of all processes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch

from rlhf.learning.contract.figures import correlation
from rlhf.learning.models.losses import kl_k3
from rlhf.learning.run.training import Learner

from .rollout import Rollout

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def rollout_figures(learner: Learner, rollout: Rollout, kl_coef: float) -> dict[str, float]:
    """Figures of a rollout over the episodes of all processes: scores, KL in nats, lengths, ends,
    repetition, and how far an engine was off."""
    episodes_BX = torch.stack(
        [
            rollout.scores_B,
            rollout.kl_B,
            rollout.kl_k3_B,
            rollout.lengths_B.float(),
            rollout.finished_B.float(),
            *rollout.parts_B.values(),
        ],
        1,
    )
    scores_B, kl_B, k3_B, lengths_B, finished_B, *parts_B = learner.everyone(episodes_BX).unbind(1)
    kl = float(kl_B.mean())
    return {
        "objective/scores": float(scores_B.mean()),
        "objective/scores_std": float(scores_B.std(correction=0)),
        **{
            f"objective/scores_q{round(100 * q):02}": float(scores_B.quantile(q)) for q in QUANTILES
        },
        "objective/kl": kl,
        "objective/kl_k3": float(k3_B.mean()),
        "objective/sqrt_kl": math.sqrt(max(kl, 0.0)),
        "objective/rlhf_reward": float(scores_B.mean()) - kl_coef * kl,
        "response/length": float(lengths_B.mean()),
        "response/length_p95": float(lengths_B.quantile(0.95)),
        "response/eos_rate": float(finished_B.mean()),
        "response/score_length_correlation": correlation(scores_B.tolist(), lengths_B.tolist()),
        **{
            f"reward/{name}": float(part_B.mean())
            for name, part_B in zip(rollout.parts_B, parts_B, strict=True)
        },
        **_text_figures(learner, rollout),
        **_engine_figures(learner, rollout),
    }


def _text_figures(learner: Learner, rollout: Rollout) -> dict[str, float]:
    """How much the answers differ: within each process, then the mean."""
    answers = [episode.completion for episode in rollout.episodes]
    numbers = {
        "response/identical": rollout.identical(),
        "response/duplicates": 1 - len(set(rollout.texts)) / len(rollout.texts),
        "response/distinct_1": distinct(answers, 1),
        "response/distinct_2": distinct(answers, 2),
    }
    processes = learner.accelerator.num_processes
    means = [value / processes for value in learner.total(*numbers.values())]
    return dict(zip(numbers, means, strict=True))


def distinct(answers: Sequence[Sequence[int]], n: int) -> float:
    """Different n-grams over all n-grams (arXiv 1510.03055)."""
    grams = Counter(
        tuple(ids[i : i + n]) for ids in answers for i in range(max(len(ids) - n + 1, 0))
    )
    return len(grams) / max(grams.total(), 1)


def value_figures(learner: Learner, rollout: Rollout) -> dict[str, float]:
    """Figures of values, returns and advantages over the tokens of all processes."""
    mask_BT = rollout.mask_BT
    returns_N, values_N = rollout.returns_BT[mask_BT], rollout.values_BT[mask_BT]
    advantages_N = rollout.advantages_BT[mask_BT]
    moments = [(each, float(each.sum()), float((each**2).sum())) for each in
               (returns_N, returns_N - values_N, values_N, advantages_N)]  # fmt: skip
    tokens, *sums = learner.total(
        float(mask_BT.sum()), *(number for _, one, two in moments for number in (one, two))
    )
    means = [one / tokens for one in sums[::2]]
    returns, error, values, advantages = (
        max(two / tokens - mean**2, 0.0) for two, mean in zip(sums[1::2], means, strict=True)
    )
    return {
        "val/explained_variance": 1 - error / returns if returns > 0 else 0.0,
        "val/mean": means[2],
        "val/std": math.sqrt(values),
        "objective/returns": means[0],
        "objective/advantage_mean": means[3],
        "objective/advantage_std": math.sqrt(advantages),
    }


def _engine_figures(learner: Learner, rollout: Rollout) -> dict[str, float]:
    """How far the engine's log-probabilities are from ours; nothing when they are ours."""
    if rollout.engine_logprobs_BT is rollout.logprobs_BT:
        return {}
    mask_BT, weights_BT = rollout.mask_BT, rollout.weights_BT
    ours_N, theirs_N = rollout.logprobs_BT[mask_BT], rollout.engine_logprobs_BT[mask_BT]
    weights_N = weights_BT[mask_BT]
    capped_N = (ours_N - theirs_N).exp() > weights_N * 1.0001
    tokens, kl, weight, capped = learner.total(
        float(mask_BT.sum()),
        float(kl_k3(theirs_N, ours_N).sum()),
        float(weights_N.sum()),
        float(capped_N.sum()),
    )
    worst = learner.everyone((ours_N - theirs_N).abs().max()[None, None]).max()
    return {
        "engine/mismatch_kl": kl / tokens,
        "engine/mismatch_max": float(worst),
        "engine/importance_mean": weight / tokens,
        "engine/importance_capped": capped / tokens,
    }
