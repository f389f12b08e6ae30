"""REINFORCE leave-one-out: what it is told, and its recipes."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf.learning.contract.hyperparameters import COLLAPSED, Kind, OnGroups, setting


@dataclass(frozen=True)
class RLOO(OnGroups):
    """Settings of REINFORCE leave-one-out against a reward model (arXiv 2402.14740)."""

    clip_range: float = setting(0.2, "Probability ratios are clipped to 1 +/- this.", least=0)


KIND = Kind(
    settings=RLOO,
    learner="rlhf.learning.ppo.rloo:RLOOLearner",
    card="REINFORCE leave-one-out (arXiv 2402.14740) against a reward model, held to its reference"
    " by a KL penalty.",
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
