"""Group relative policy optimisation: what it is told, and its recipes."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf.learning.contract.hyperparameters import Kind, OnGroups, setting
from rlhf.learning.contract.kinds.rloo import KIND as RLOO


@dataclass(frozen=True)
class GRPO(OnGroups):
    """Settings of group relative policy optimisation (arXiv 2402.03300), with the variants Dr. GRPO
    (arXiv 2503.20783) and DAPO (arXiv 2503.14476)."""

    kl_coef: float = setting(
        0.04, "Weight of the KL to the reference, which is part of the loss.", least=0
    )
    clip_range: float = setting(0.2, "Probability ratios are clipped to 1 +/- this.", least=0)
    unbiased_kl: bool = setting(
        True, "Weigh the KL by the ratio: its gradient is then that of the reverse KL itself."
    )
    loss: str = setting(
        "grpo",
        "What a token's loss is divided by: grpo, its answer's length; dr_grpo, max_new_tokens;"
        " dapo, the mean length of the mini-batch.",
        ("grpo", "dr_grpo", "dapo"),
    )
    scale_advantages: bool = setting(
        True, "Divide by the spread of a prompt's scores; Dr. GRPO does not."
    )
    clip_range_high: float = setting(
        0.0, "Ratios are clipped to 1 + this above; 0 = as clip_range. DAPO: 0.28.", least=0
    )


KIND = Kind(
    settings=GRPO,
    learner="rlhf.learning.ppo.grpo:GRPOLearner",
    card="Group relative policy optimisation (arXiv 2402.03300) against a reward model, held to its"
    " reference by a KL penalty in the loss.",
    recipes=RLOO.recipes,  # answers, updates and rates are of the same kind
)
