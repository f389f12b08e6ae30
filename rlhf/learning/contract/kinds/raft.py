"""Reward-ranked fine-tuning: what it is told, and its recipes."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf.learning.contract.hyperparameters import Kind, OnGroups
from rlhf.learning.contract.kinds.rloo import KIND as RLOO


@dataclass(frozen=True)
class RAFT(OnGroups):
    """Settings of reward-ranked fine-tuning (arXiv 2304.06767), also called rejection sampling or
    best-of-n fine-tuning (Llama 2, arXiv 2307.09288, section 3.2.3)."""


KIND = Kind(
    settings=RAFT,
    learner="rlhf.learning.ppo.raft:RAFTLearner",
    card="Reward-ranked fine-tuning (arXiv 2304.06767): supervised learning from the best of its"
    " own answers to each prompt.",
    recipes={
        size: {**recipe, "train": {**recipe["train"], "minibatches": 1, "rollout_epochs": 2}}
        for size, recipe in RLOO.recipes.items()
    },
)
