"""Sampling: what it is told, and its recipes."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf.learning.contract.hyperparameters import (
    ConfigError,
    Data,
    Kind,
    Models,
    Train,
    Tune,
    setting,
)


@dataclass(frozen=True)
class Sample(Train):
    """Answers of several policies to the same prompts."""

    k: int = setting(4, "Completions per prompt and policy.", least=1)
    temperature: float = setting(1.0, "Sampling temperature; 0 = greedy.", least=0)
    max_new_tokens: int = setting(64, "Maximum length, in tokens.", least=1)
    batch_size: int = setting(32, "Answers written at once.", least=1)

    def check_inputs(self, models: Models, data: Data, tune: Tune) -> None:
        if not models.policies:
            raise ConfigError("models.policies is missing")
        for name in models.policies:
            if not models.sampled(name).path:
                raise ConfigError(f"models.policies.{name}.path is missing")


KIND = Kind(
    settings=Sample,
    recipes={
        "tiny": {"tune": {}, "train": {"batch_size": 128}},
        "small": {"tune": {}, "train": {"batch_size": 32, "max_new_tokens": 96}},
        "large": {"tune": {}, "train": {"batch_size": 128, "max_new_tokens": 512}},
    },
)
