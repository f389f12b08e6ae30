"""Reward-ranked fine-tuning (RAFT, arXiv 2304.06767), or rejection sampling (Llama 2, arXiv
2307.09288, section 3.2.3).

Of the answers to each prompt the policy learns the best, as SFT learns a demonstration; the others
are thrown away. The best has the highest score - kl_coef * KL to the reference. A prompt whose
answers are all worth the same has no best one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlhf.learning.contract.kinds.raft import RAFT

from .groups import GroupLearner
from .minibatch import Stats
from .rollout import Rollout


class RAFTLearner(GroupLearner):
    """RAFT: an update is one rollout with k answers to each prompt, and a pass or more over the
    best of them."""

    settings: RAFT

    def _advantages(self, rollout: Rollout) -> Tensor:
        rewards_B = rollout.scores_B - self.kl_coef * rollout.kl_B
        return best_of(rewards_B.view(self.answers, -1)).flatten()

    def _parts(self, rollout: Rollout, rows: Sequence[int]) -> list[list[int]]:
        return super()._parts(rollout, kept(rollout, rows))

    def _tokens(self, rollout: Rollout, rows: Sequence[int]) -> float:
        return super()._tokens(rollout, kept(rollout, rows))

    def _loss(
        self,
        rollout: Rollout,
        rows: Sequence[int],
        logprobs_N: Tensor,
        entropy_N: Tensor,
        counts: tuple[float, float],
    ) -> tuple[Tensor, Stats]:
        return best_answer_loss(rollout, rows, logprobs_N, entropy_N, counts[1])


def best_of(rewards_KP: Tensor) -> Tensor:
    """kept_KP: 1 for the best of K answers to each of P prompts, the first where several are; 0 for
    the others, and for all where they are worth the same."""
    kept_KP = torch.zeros_like(rewards_KP).scatter_(0, rewards_KP.argmax(0, keepdim=True), 1.0)
    # The paper takes the best in any case; where a check passes all answers or none, the first
    # would be learnt for being first.
    return kept_KP * (rewards_KP != rewards_KP[0]).any(0)


def kept(rollout: Rollout, rows: Sequence[int]) -> list[int]:
    """The episodes among `rows` that are learnt from."""
    return [row for row in rows if rollout.advantages_BT[row].any()]


def best_answer_loss(
    rollout: Rollout,
    rows: Sequence[int],
    logprobs_N: Tensor,
    entropy_N: Tensor,
    tokens: float,
) -> tuple[Tensor, Stats]:
    """SFT's loss, the mean -log probability of a token: (loss, stats) of a micro-batch.

    N answer tokens of the episodes `rows`, all of them kept, in row-major order; `tokens`: those of
    the kept answers of the global mini-batch. Nothing is clipped, nor weighed for an engine: the
    kept answers are demonstrations, whoever drew them."""
    old_N = rollout.flat(rollout.logprobs_BT, rows).to(logprobs_N.device)
    loss = -logprobs_N.sum() / tokens
    with torch.no_grad():
        log_ratio_N = (logprobs_N - old_N).clamp(-20, 20)
        off_N = log_ratio_N.expm1().abs()
        return loss, {
            "loss": float(loss),
            "policy/loss": float(loss),
            "policy/entropy": float(entropy_N.sum()) / tokens,
            "policy/approx_kl": float((log_ratio_N.expm1() - log_ratio_N).sum()) / tokens,
            "ratio/off": float(off_N.sum()) / tokens,
            "ratio/deviation": float(off_N.max()),
            "ratio/max": float(log_ratio_N.exp().max()),
        }
