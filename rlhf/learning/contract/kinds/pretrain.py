"""Supplemental pre-training: what it is told, and its recipes."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf.learning.contract.hyperparameters import Kind, OnText, setting


@dataclass(frozen=True)
class Pretrain(OnText):
    """Settings of supplemental pre-training on documents."""

    row_tokens: int = setting(512, "Documents are packed into rows of this many tokens.", least=2)
    min_tokens: int = setting(8, "Remains of documents shorter than this are dropped.", least=2)


KIND = Kind(
    settings=Pretrain,
    learner="rlhf.learning.algorithms.pretrain:PretrainLearner",
    card="Supplemental pre-training on documents.",
    recipes={
        "tiny": {
            "tune": {"mode": "full"},
            "train": {
                "learning_rate": 5e-4,
                "batch_size": 8,
                "row_tokens": 128,
                "adam_beta2": 0.99,
                "evaluate_every": 10,
                "checkpoint_every": 10,
            },
        },
        "small": {
            "tune": {"mode": "lora", "layers": 10},
            "train": {
                "learning_rate": 2e-4,
                "batch_size": 8,
                "micro_batch_size": 2,
                "row_tokens": 256,
                "evaluate_every": 0,
                "checkpoint_every": 10,
            },
        },
        "large": {
            "tune": {"mode": "full"},
            "train": {
                "learning_rate": 1e-5,
                "batch_size": 128,
                "micro_batch_size": 8,
                "row_tokens": 2048,
                "weight_decay": 0.1,
                "adam_beta2": 0.95,
                "evaluate_every": 100,
                "checkpoint_every": 100,
            },
        },
    },
)
