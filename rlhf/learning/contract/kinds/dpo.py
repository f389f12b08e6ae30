"""Direct preference optimisation: what it is told, and its recipes."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf.learning.contract.hyperparameters import Kind, OnRankings, Speaking, setting


@dataclass(frozen=True)
class DPO(Speaking, OnRankings):
    """Settings of direct preference optimisation (arXiv 2305.18290)."""

    learning_rate: float = setting(1e-6, "Peak learning rate of Adam.", least=0)
    beta: float = setting(0.1, "Strength of the pull towards the reference policy.", least=0)


KIND = Kind(
    settings=DPO,
    learner="rlhf.learning.algorithms.dpo:DPOLearner",
    card="Direct preference optimisation (arXiv 2305.18290).",
    recipes={
        "tiny": {
            "tune": {"mode": "full"},
            "train": {
                "learning_rate": 2e-4,
                "epochs": 2,
                "batch_size": 8,
                "micro_batch_size": 8,
                "forward_rows": 32,
                "beta": 0.1,
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
                "batch_size": 4,
                "micro_batch_size": 4,
                "max_completion_tokens": 96,
                "forward_rows": 8,
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
                "batch_size": 64,
                "micro_batch_size": 4,
                "max_completion_tokens": 1024,
                "forward_rows": 16,
                "adam_beta2": 0.95,
                "evaluate_every": 100,
                "checkpoint_every": 100,
                "max_new_tokens": 256,
            },
        },
    },
)
