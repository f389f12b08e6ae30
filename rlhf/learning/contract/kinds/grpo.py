"""Group relative policy optimisation: what it is told, and its recipes."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf.learning.contract.hyperparameters import COLLAPSED, Kind, OnGroups, setting


@dataclass(frozen=True)
class GRPO(OnGroups):
    """Settings of group relative policy optimisation (arXiv 2402.03300), with the variants Dr. GRPO
    (arXiv 2503.20783) and DAPO (arXiv 2503.14476)."""

    kl_coef: float = setting(
        0.04, "Weight of the KL to the reference, which is part of the loss.", least=0
    )
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
    recipes={
        "tiny": {
            "tune": {"mode": "full"},
            "train": {
                **COLLAPSED,
                "learning_rate": 3e-4,
                "schedule": "constant",
                "updates": 24,
                "batch_size": 64,
                "micro_batch_size": 64,
                "minibatches": 2,
                "adam_beta2": 0.99,
                "warmup": 0.0,
                "kl_coef": 0.05,
                "checkpoint_every": 4,
                "evaluate_every": 4,
            },
        },
        "small": {
            "tune": {"mode": "lora", "layers": 10},
            "train": {
                **COLLAPSED,
                "learning_rate": 1e-3,
                "schedule": "constant",
                "updates": 20,
                "batch_size": 16,
                "micro_batch_size": 16,
                "minibatches": 2,
                "max_new_tokens": 64,
                "warmup": 0.0,
                "adam_beta2": 0.99,
                "checkpoint_every": 2,
                "evaluate_every": 5,
                "kl_coef": 0.05,
                "evaluate_prompts": 16,
            },
        },
        "large": {
            "tune": {"mode": "full"},
            "train": {
                **COLLAPSED,
                "learning_rate": 1e-6,
                "updates": 500,
                "batch_size": 512,
                "micro_batch_size": 16,
                "max_new_tokens": 512,
                "adam_beta2": 0.95,
                "kl_limit": 100.0,
                "min_entropy": 0.25,
                "max_length": 2.0,
                "max_identical": 0.3,
                "checkpoint_every": 10,
                "evaluate_every": 20,
                "evaluate_prompts": 128,
            },
        },
    },
)
