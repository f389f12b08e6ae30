"""REINFORCE leave-one-out: what it is told, and its recipes."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf.learning.contract.hyperparameters import (
    COLLAPSED,
    ConfigError,
    Kind,
    OnRollouts,
    setting,
)


@dataclass(frozen=True)
class RLOO(OnRollouts):
    """Settings of REINFORCE leave-one-out against a reward model (arXiv 2402.14740)."""

    k: int = setting(4, "Answers to each prompt; each is measured against the others.", least=2)
    rollout_epochs: int = setting(1, "Passes over one rollout.", least=1)

    def validate(self) -> None:
        super().validate()
        if self.batch_size % self.k:
            raise ConfigError(
                f"RLOO.batch_size {self.batch_size} is not a multiple of RLOO.k {self.k}: it counts"
                " answers, k to each prompt"
            )


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
