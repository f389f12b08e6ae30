"""Kahneman-Tversky optimisation: what it is told, and its recipes."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf.learning.contract.hyperparameters import Kind, Optimisation, Speaking, setting


@dataclass(frozen=True)
class KTO(Speaking, Optimisation):
    """Settings of Kahneman-Tversky optimisation (arXiv 2402.01306)."""

    learning_rate: float = setting(1e-6, "Peak learning rate of Adam.", least=0)
    epochs: int = setting(1, "Times each thumb is seen.", least=1)
    batch_size: int = setting(16, "Thumbs per optimizer step; KL is estimated on them.", least=2)
    max_completion_tokens: int = setting(256, "Longer completions are cut here.", least=1)
    beta: float = setting(0.1, "Strength of the pull towards the reference policy.", least=0)
    up_weight: float = setting(1.0, "Weight of a thumb up.", least=0)
    down_weight: float = setting(1.0, "Weight of a thumb down.", least=0)
    balance: bool = setting(True, "Weigh the rarer thumb up, so that both sides count the same.")


KIND = Kind(
    settings=KTO,
    learner="rlhf.learning.algorithms.kto:KTOLearner",
    card="Kahneman-Tversky optimisation on thumbs (arXiv 2402.01306).",
    recipes={
        "tiny": {
            "tune": {"mode": "full"},
            "train": {
                "learning_rate": 2e-4,
                "epochs": 2,
                "batch_size": 16,
                "micro_batch_size": 16,
                "adam_beta2": 0.99,
                "evaluate_every": 10,
                "checkpoint_every": 10,
            },
        },
        "small": {
            "tune": {"mode": "lora", "layers": 10},
            "train": {
                "learning_rate": 2e-4,
                "epochs": 1,
                "batch_size": 16,
                "micro_batch_size": 8,
                "max_completion_tokens": 96,
                "evaluate_every": 0,
                "checkpoint_every": 10,
                "max_new_tokens": 48,
            },
        },
        "large": {
            "tune": {"mode": "full"},
            "train": {
                "learning_rate": 5e-7,
                "epochs": 1,
                "batch_size": 128,
                "micro_batch_size": 8,
                "max_completion_tokens": 1024,
                "adam_beta2": 0.95,
                "evaluate_every": 100,
                "checkpoint_every": 100,
                "max_new_tokens": 256,
            },
        },
    },
)
