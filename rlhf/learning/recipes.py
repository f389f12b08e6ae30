"""Three recipes a kind, one dial: whatever is not said here is the default in config.py.

`tiny` takes the whole wheel round on a toy model in about a minute,
`small` trains a 135-million-parameter model on two CPU cores, `large` is for GPUs and keeps close
to InstructGPT (arXiv 2203.02155, appendix C).
"""

from __future__ import annotations

from typing import Any

RECIPES: dict[str, dict[str, dict[str, dict[str, Any]]]] = {
    "sft": {
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
    "reward": {
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
    "ppo": {
        "tiny": {
            "tune": {"mode": "full"},
            "train": {
                "learning_rate": 3e-4,
                "critic_learning_rate": 1e-3,
                "schedule": "constant",
                "updates": 16,
                "batch_size": 64,
                "micro_batch_size": 64,
                "minibatches": 2,
                "ppo_epochs": 2,
                "adam_beta2": 0.99,
                "critic_warmup": 1,
                "warmup": 0.0,
                "beta": 0.05,
                "checkpoint_every": 4,
                "evaluate_every": 4,
            },
        },
        "small": {
            "tune": {"mode": "lora", "layers": 10},
            "train": {
                "learning_rate": 1e-3,
                "critic_learning_rate": 1e-3,
                "schedule": "constant",
                "updates": 16,
                "batch_size": 16,
                "micro_batch_size": 16,
                "minibatches": 2,
                "ppo_epochs": 2,
                "critic": "shared",
                "max_new_tokens": 64,
                "warmup": 0.0,
                "adam_beta2": 0.99,
                "checkpoint_every": 2,
                "evaluate_every": 8,
                "beta": 0.05,
                "evaluate_prompts": 16,
            },
        },
        "large": {
            "tune": {"mode": "full"},
            "train": {
                "learning_rate": 9.65e-6,
                "critic_learning_rate": 5e-6,
                "updates": 500,
                "batch_size": 512,
                "minibatches": 8,
                "ppo_epochs": 1,
                "micro_batch_size": 16,
                "max_new_tokens": 512,
                "adam_beta2": 0.95,
                "critic_warmup": 10,
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
    "sample": {
        "tiny": {"tune": {}, "train": {"batch_size": 128}},
        "small": {"tune": {}, "train": {"batch_size": 32, "max_new_tokens": 96}},
        "large": {"tune": {}, "train": {"batch_size": 128, "max_new_tokens": 512}},
    },
}
