"""From scores to advantages: a reward for every token, then what each was better than expected.

B episodes, T tokens of the longest answer; `mask_BT` is True on the tokens of an answer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlhf.learning.contract.kinds.ppo import PPO
from rlhf.learning.models.losses import kl_k1
from rlhf.learning.run.training import Learner

from .rollout import Rollout


def estimate_advantages(rollout: Rollout, kl_coef: float, settings: PPO) -> None:
    """Sets the advantages and returns of a rollout that has its scores and values."""
    kl_BT = kl_k1(rollout.logprobs_BT, rollout.ref_logprobs_BT)
    rewards_BT = token_rewards(rollout.scores_B, kl_BT, rollout.mask_BT, kl_coef)
    rollout.advantages_BT, rollout.returns_BT = gae(
        rewards_BT, rollout.values_BT, rollout.mask_BT, settings.gamma, settings.gae_lambda
    )


def token_rewards(scores_B: Tensor, kl_BT: Tensor, mask_BT: Tensor, kl_coef: float) -> Tensor:
    """Reward of each token (InstructGPT eq. 2): -kl_coef * KL, plus the score on the last one."""
    rewards_BT = -kl_coef * kl_BT * mask_BT
    last_B = mask_BT.long().sum(-1) - 1
    return rewards_BT.scatter_add(1, last_B[:, None], scores_B[:, None].to(rewards_BT))


def gae(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """(advantages_BT, returns_BT) by generalised advantage estimation, arXiv 1506.02438 eq. 16.

    Nothing is expected beyond the last valid token; 0 where `mask_BT` is False."""
    valid_BT = mask_BT.to(values_BT)
    advantages_BT = torch.zeros_like(values_BT)
    next_value_B = next_advantage_B = torch.zeros_like(values_BT[:, 0])
    for t in reversed(range(values_BT.shape[1])):
        delta_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        next_advantage_B = (delta_B + gamma * gae_lambda * next_advantage_B) * valid_BT[:, t]
        next_value_B = values_BT[:, t] * valid_BT[:, t]
        advantages_BT[:, t] = next_advantage_B
    return advantages_BT, (advantages_BT + values_BT) * valid_BT


def whiten(learner: Learner, rollout: Rollout) -> None:
    """Shifts and scales a rollout's advantages to mean 0 and standard deviation 1 (n, not n - 1, in
    the denominator) over the valid tokens of all processes."""
    valid_N: Tensor = rollout.advantages_BT[rollout.mask_BT].double()
    total, count = learner.total(float(valid_N.sum()), float(len(valid_N)))
    mean = total / count
    squares = learner.total(float(((valid_N - mean) ** 2).sum()))[0]
    spread = math.sqrt(squares / count) + 1e-8
    rollout.advantages_BT = (rollout.advantages_BT - mean) / spread * rollout.mask_BT
