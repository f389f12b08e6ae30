"""Supervised fine-tuning: what it is told, and its recipes."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf.learning.contract.hyperparameters import Kind, OnText, Speaking, setting


@dataclass(frozen=True)
class SFT(Speaking, OnText):
    """Settings of supervised fine-tuning on demonstrations."""

    epochs: int = setting(3, "Times each demonstration is seen.", least=1)
    keep_epochs: bool = setting(
        False, "Publish the policy of every epoch, to choose one by score or people."
    )
    batch_size: int = setting(16, "Demonstrations per optimizer step.", least=1)
    max_completion_tokens: int = setting(256, "Longer completions are cut here.", least=1)


KIND = Kind(
    settings=SFT,
    learner="rlhf.learning.algorithms.sft:SFTLearner",
    card="Supervised fine-tuning on demonstrations (InstructGPT, arXiv 2203.02155, step 1).",
    recipes={
        "tiny": {
            "tune": {"mode": "full"},
            "train": {
                "learning_rate": 5e-4,
                "epochs": 5,
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
                "learning_rate": 5e-4,
                "epochs": 2,
                "batch_size": 8,
                "micro_batch_size": 8,
                "max_completion_tokens": 160,
                "evaluate_every": 0,
                "checkpoint_every": 10,
                "max_new_tokens": 48,
            },
        },
        "large": {
            "tune": {"mode": "full"},
            "train": {
                "learning_rate": 9.65e-6,
                "epochs": 2,
                "batch_size": 32,
                "micro_batch_size": 8,
                "max_completion_tokens": 1024,
                "max_new_tokens": 256,
                "weight_decay": 0.0,
                "adam_beta2": 0.95,
                "evaluate_every": 100,
                "checkpoint_every": 100,
            },
        },
    },
)
