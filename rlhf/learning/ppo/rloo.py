"""REINFORCE leave-one-out against the reward model (arXiv 2402.14740).

An answer is one action: its reward is its score - kl_coef * KL to the reference over all of it, and
what was to be expected is the mean reward of the other answers to the same prompt. No critic, no
reward for single tokens. The clipped ratio, of whole answers as in TRL's RLOOTrainer, acts once the
policy has moved since the rollout: in later mini-batches and passes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlhf.learning.contract.kinds.rloo import RLOO
from rlhf.learning.generation.engines import importance
from rlhf.learning.models.losses import policy_loss

from .groups import GroupLearner
from .minibatch import Stats
from .rollout import Rollout


class RLOOLearner(GroupLearner):
    """RLOO: an update is one rollout with k answers to each prompt, and a pass or more over it."""

    settings: RLOO

    def _advantages(self, rollout: Rollout) -> Tensor:
        rewards_B = rollout.scores_B - self.kl_coef * rollout.kl_B
        return leave_one_out(rewards_B.view(self.answers, -1)).flatten()

    def _loss(
        self,
        rollout: Rollout,
        rows: Sequence[int],
        logprobs_N: Tensor,
        entropy_N: Tensor,
        counts: tuple[float, float],
    ) -> tuple[Tensor, Stats]:
        return answer_policy_loss(
            rollout,
            rows,
            logprobs_N,
            entropy_N,
            counts,
            self.settings.clip_range,
            self.config.engine.importance_cap,
        )


def leave_one_out(rewards_KP: Tensor) -> Tensor:
    """advantages_KP of K answers to each of P prompts: reward - mean reward of the other K - 1."""
    # Not whitened afterwards: the baseline has centred them, and their size is what the reward
    # says.
    others_KP = (rewards_KP.sum(0) - rewards_KP) / (len(rewards_KP) - 1)
    return rewards_KP - others_KP


def answer_policy_loss(
    rollout: Rollout,
    rows: Sequence[int],
    logprobs_N: Tensor,
    entropy_N: Tensor,
    counts: tuple[float, float],
    clip_range: float,
    importance_cap: float,
) -> tuple[Tensor, Stats]:
    """REINFORCE on whole answers, their ratios clipped: (loss, stats) of a micro-batch.

    N answer tokens of the episodes `rows`, in row-major order; `counts`: answers and answer tokens
    of the global mini-batch. The loss is a mean over answers, as are clipfrac and the largest
    ratio; the other figures are of tokens, as PPO's are. An answer drawn by an engine that is not
    exact is weighed once, by min(ours / the engine's, importance_cap)."""
    answers, tokens = counts
    lengths = rollout.lengths_B[list(rows)].tolist()
    old_N, engine_N = (
        rollout.flat(each, rows).to(logprobs_N.device)
        for each in (rollout.logprobs_BT, rollout.engine_logprobs_BT)
    )
    logprobs_R, old_R, engine_R = (
        torch.stack([part.sum() for part in torch.split(each_N, lengths)])
        for each_N in (logprobs_N, old_N, engine_N)
    )
    advantages_R = rollout.advantages_BT[list(rows), 0].to(logprobs_N.device)
    weights_R = importance(old_R, engine_R, importance_cap)
    surrogate, ratio_R, clipped_R = policy_loss(
        logprobs_R, old_R, advantages_R * weights_R, clip_range
    )
    loss = surrogate / answers
    with torch.no_grad():
        log_ratio_N = (logprobs_N - old_N).clamp(-20, 20)
        off_N = log_ratio_N.expm1().abs()
        return loss, {
            "loss": float(loss),
            "policy/loss": float(loss),
            "policy/clipfrac": float(clipped_R.sum()) / answers,
            "policy/entropy": float(entropy_N.sum()) / tokens,
            "policy/approx_kl": float((log_ratio_N.expm1() - log_ratio_N).sum()) / tokens,
            "ratio/off": float(off_N.sum()) / tokens,
            "ratio/deviation": float(off_N.max()),
            "ratio/max": float(ratio_R.max()),
        }
