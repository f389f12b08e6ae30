"""The reward model: what its training is told, and its recipes."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf.learning.contract.hyperparameters import Kind, OnRankings, setting


@dataclass(frozen=True)
class Reward(OnRankings):
    """Settings of the training of a reward model on rankings."""

    margin: float = setting(
        0.1, "Score distance asked for per unit of a ranking's strength.", least=0
    )
    heads: int = setting(
        1, "Scalar heads, each taught by its own draw of the rankings; they may disagree.", least=1
    )
    calibration_samples: int = setting(
        64, "Answers drawn from the policy it starts from, for the spread of scores.", least=0
    )
    calibration_tokens: int = setting(64, "Longest of those answers, in tokens.", least=1)


KIND = Kind(
    settings=Reward,
    learner="rlhf.learning.algorithms.reward:RewardLearner",
    card="A reward model learnt from whole rankings (InstructGPT, step 2). It scores answers"
    " and does not write any.",
    recipes={
        "tiny": {
            "tune": {"mode": "full"},
            "train": {
                "learning_rate": 3e-4,
                "epochs": 2,
                "batch_size": 8,
                "micro_batch_size": 8,
                "forward_rows": 32,
                "evaluate_every": 10,
                "checkpoint_every": 10,
            },
        },
        "small": {
            "tune": {"mode": "lora", "layers": 8},
            "train": {
                "learning_rate": 3e-4,
                "epochs": 1,
                "batch_size": 4,
                "micro_batch_size": 4,
                "max_completion_tokens": 96,
                "calibration_samples": 32,
                "calibration_tokens": 48,
                "forward_rows": 8,
                "evaluate_every": 0,
                "checkpoint_every": 10,
            },
        },
        "large": {
            "tune": {"mode": "full"},
            "train": {
                "learning_rate": 9e-6,
                "epochs": 1,
                "batch_size": 64,
                "micro_batch_size": 4,
                "max_completion_tokens": 1024,
                "forward_rows": 16,
                "adam_beta2": 0.95,
                "evaluate_every": 100,
                "checkpoint_every": 100,
            },
        },
    },
)
