"""What a run is told: its kind, its models, its data and the algorithm's own settings."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .hyperparameters import PPO, SFT, TRAIN, Checked, ConfigError, Train, Tune, knob
from .recipes import RECIPES

T = TypeVar("T")

KINDS = ("pretrain", "sft", "reward", "ppo", "dpo", "kto", "sample")


@dataclass(frozen=True)
class Models(Checked):
    policy: str = knob("", "Model folder to start from (reward: the SFT policy).")
    reference: str = knob("", "PPO, DPO, KTO: what KL is measured against; empty = the policy.")
    reward: str = knob("", "PPO and sample: the reward model's folder.")
    reward_function: str = knob(
        "", "PPO: module:function instead of a reward model; needs --allow-code."
    )
    held_out_reward: str = knob(
        "", "PPO: a reward model that never trains the policy, and watches it."
    )
    critic: str = knob("", "PPO: a reward model or the critic of another PPO to start from.")
    policies: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "Sample: name -> {path, system_prompt?, few_shot?, prompt_format?,"
            " temperature?, max_new_tokens?}."
        },
    )


@dataclass(frozen=True)
class Engine(Checked):
    """Who answers PPO's prompts; no part of a recipe, as it names an address."""

    name: str = knob("hf", "The model in training itself, or a vLLM server.", ("hf", "vllm"))
    url: str = knob("", "Address of the vLLM server, e.g. http://127.0.0.1:8000.")
    model: str = knob("", "Name under which the server knows the policy it began with.")
    importance_cap: float = knob(2.0, "Importance weights of its tokens are cut here.", least=1)
    timeout: float = knob(600.0, "Seconds to wait for an answer.", least=1)

    def validate(self) -> None:
        super().validate()
        if self.name == "vllm" and not (self.url.startswith("http") and self.model):
            raise ConfigError("engine.name is vllm, but engine.url or engine.model is missing")


@dataclass(frozen=True)
class SampledPolicy(Checked):
    """One entry of `models.policies`: weights + prompt template + sampling parameters."""

    path: str = knob("", "Model folder.")
    system_prompt: str = knob("", "Put before every prompt.")
    few_shot: list[Any] = field(
        default_factory=list,
        metadata={"help": "Example messages between the system prompt and the prompt."},
    )
    prompt_format: str = knob("", "Sent for the last message, with {prompt} in its place.")
    temperature: float | None = knob(None, "Instead of train.temperature.")
    max_new_tokens: int | None = knob(None, "Instead of train.max_new_tokens.")


@dataclass(frozen=True)
class Data(Checked):
    train: str = knob("", "JSONL file to learn from (sample: prompts).")
    test: str = knob("", "JSONL file of held-out rows.")
    held_out_labelers: str = knob(
        "", "Reward: rankings by people whose judgement never trains it, on prompts it never saw."
    )
    calibration: str = knob("", "Reward: demonstrations whose mean score becomes 0.")
    demonstrations: str = knob("", "PPO: demonstrations for the ptx term.")
    sha256: str | dict[str, Any] = field(
        default="", metadata={"help": "Hash of train, or {name: hash}; checked before training."}
    )


@dataclass(frozen=True)
class Config(Checked):
    kind: str = knob("sft", "What to do.", KINDS)
    train: Train = field(default_factory=SFT, metadata={"help": "The recipe's fields."})
    seed: int = knob(0, "Everything random follows from it.", least=0)
    models: Models = field(default_factory=Models, metadata={"help": "Model folders."})
    tune: Tune = field(default_factory=Tune, metadata={"help": "Which weights learn."})
    data: Data = field(default_factory=Data, metadata={"help": "Data files."})
    engine: Engine = field(default_factory=Engine, metadata={"help": "PPO: who answers."})
    code_version: str = knob("", "Version of the code that wrote this config.")

    def validate(self) -> None:
        super().validate()
        for part in (self.train, self.models, self.tune, self.data, self.engine):
            part.validate()
        if not isinstance(self.train, TRAIN[self.kind]):
            raise ConfigError(f"kind is {self.kind} but train is {type(self.train).__name__}")
        if not self.data.train:
            raise ConfigError("data.train is missing")
        if self.kind == "sample":
            if not self.models.policies:
                raise ConfigError("models.policies is missing")
            for name in self.models.policies:
                if not self.sampled_policy(name).path:
                    raise ConfigError(f"models.policies.{name}.path is missing")
        elif not self.models.policy:
            raise ConfigError("models.policy is missing")
        if isinstance(self.train, PPO):
            self._validate_ppo(self.train)

    def _validate_ppo(self, train: PPO) -> None:
        models = self.models
        if not models.reward and not models.reward_function:
            raise ConfigError("models.reward is missing")
        if models.reward and models.reward_function:
            raise ConfigError("models.reward and models.reward_function cannot both score")
        if train.critic == "reward" and not models.reward and not models.critic:
            raise ConfigError(
                "PPO.critic is reward, but there is no reward model: choose policy, adapter or"
                " shared, or name models.critic"
            )
        if train.critic == "adapter" and not self.tune.is_adapter:
            raise ConfigError("PPO.critic adapter needs Tune.mode lora or qlora")
        if train.ptx_weight and not self.data.demonstrations:
            raise ConfigError("data.demonstrations is missing, but PPO.ptx_weight is set")

    def sampled_policy(self, name: str) -> SampledPolicy:
        policy = _build(SampledPolicy, self.models.policies[name], f"models.policies.{name}")
        policy.validate()
        return policy

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def from_dict(raw: Mapping[str, Any]) -> Config:
    kind = raw.get("kind")
    if kind not in KINDS:
        raise ConfigError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    parts: dict[str, Any] = {**raw}
    if kind == "ppo":
        _refuse_truncated_sampling(raw.get("train"))
    classes = (
        ("train", TRAIN[kind]),
        ("models", Models),
        ("tune", Tune),
        ("data", Data),
        ("engine", Engine),
    )
    for name, cls in classes:
        parts[name] = _build(cls, raw.get(name, {}), name)
    config = _build(Config, parts, "config")
    config.validate()
    return config


TRUNCATING = ("top_p", "top_k", "min_p", "typical_p", "repetition_penalty", "no_repeat_ngram_size")


def _refuse_truncated_sampling(train: Any) -> None:
    for name in TRUNCATING:
        if isinstance(train, Mapping) and name in train:
            raise ConfigError(
                f"train.{name} is refused: PPO learns from the probabilities it sampled with, and"
                " answers drawn in another way would have the wrong ones; use train.temperature"
            )


def load(path: Path) -> Config:
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: not a JSON object")
    return from_dict(raw)


def recipe(kind: str, size: str) -> dict[str, Any]:
    """{"train": every field of the kind, "tune": every field}: merge it into a config."""
    if kind not in RECIPES or size not in RECIPES[kind]:
        raise ConfigError(
            f"no recipe {size!r} for {kind!r}: kinds are {', '.join(RECIPES)},"
            " sizes are tiny, small, large"
        )
    chosen = RECIPES[kind][size]
    train = _build(TRAIN[kind], chosen["train"], "train")
    tune = _build(Tune, chosen["tune"], "tune")
    return {"train": asdict(train), "tune": asdict(tune)}


def _build(cls: type[T], raw: Any, where: str) -> T:
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where} must be an object, not {raw!r}")
    known = [each.name for each in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for name in raw:
        if name not in known:
            raise ConfigError(f"unknown field {where}.{name}; known are {', '.join(known)}")
    return cls(**{name: value for name, value in raw.items() if value is not None})
