"""What a run is told: frozen dataclasses, with one help line a field."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from .recipes import RECIPES

T = TypeVar("T")

KINDS = ("pretrain", "sft", "reward", "ppo", "dpo", "kto", "sample")


class ConfigError(ValueError):
    """The user's mistake in a config; the message says which field and what is allowed."""


def knob(default: T, help: str, choices: tuple[str, ...] = (), least: float | None = None) -> T:
    return field(default=default, metadata={"help": help, "choices": choices, "least": least})


@dataclass(frozen=True)
class Checked:
    def validate(self) -> None:
        hints = get_type_hints(type(self))
        for each in dataclasses.fields(self):
            value, name = getattr(self, each.name), f"{type(self).__name__}.{each.name}"
            allowed = _plain_types(hints[each.name])
            if float in allowed and isinstance(value, int) and not isinstance(value, bool):
                allowed = (*allowed, int)
            if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
                raise ConfigError(f"{name} must be {each.type}, not {value!r}")
            choices, least = each.metadata.get("choices"), each.metadata.get("least")
            if choices and value not in choices:
                raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
            if least is not None and not value >= least:
                raise ConfigError(f"{name} must be at least {least}, not {value!r}")


@dataclass(frozen=True)
class Tune(Checked):
    mode: str = knob(
        "full",
        "Which weights learn; qlora: an adapter on a 4-bit model, on a CUDA GPU only.",
        ("full", "lora", "qlora", "last_layers", "head"),
    )
    layers: int = knob(
        0, "How many top layers learn (last_layers, lora, qlora); 0 = all of them.", least=0
    )
    rank: int = knob(16, "Rank of the LoRA matrices.", least=1)
    alpha: int = knob(32, "LoRA scale: updates are multiplied by alpha / rank.", least=1)

    @property
    def is_adapter(self) -> bool:
        """Only an adapter learns: switched off, the model is what it was."""
        return self.mode in ("lora", "qlora")

    def validate(self) -> None:
        super().validate()
        if self.mode == "last_layers" and self.layers < 1:
            raise ConfigError("Tune.layers must be at least 1 when Tune.mode is last_layers")


@dataclass(frozen=True)
class Optimisation(Checked):
    learning_rate: float = knob(1e-5, "Peak learning rate of Adam.", least=0)
    schedule: str = knob(
        "cosine", "Shape of the learning rate after warm-up.", ("constant", "linear", "cosine")
    )
    warmup: float = knob(0.05, "Share of the steps over which the rate rises from zero.", least=0)
    weight_decay: float = knob(0.0, "Decoupled weight decay.", least=0)
    adam_beta2: float = knob(0.999, "Decay of Adam's second moment.", least=0)
    max_grad_norm: float = knob(1.0, "Gradients are clipped to this global norm.", least=0)
    micro_batch_size: int = knob(8, "Rows in memory at once (rankings: prompts).", least=1)
    max_skipped: int = knob(3, "Pause after so many non-finite steps in a row.", least=1)
    checkpoint_every: int = knob(20, "Steps between checkpoints.", least=1)
    evaluate_every: int = knob(
        20, "Steps between looks at the held-out data; 0 = at the end.", least=0
    )


@dataclass(frozen=True)
class Speaking(Checked):
    """A policy in training answers the same prompts now and then."""

    sample_prompts: int = knob(8, "Fixed prompts answered at each evaluation.", least=0)
    max_new_tokens: int = knob(64, "Longest sampled answer, in tokens.", least=1)
    temperature: float = knob(1.0, "Sampling temperature of those answers.", least=0)


@dataclass(frozen=True)
class OnText(Speaking, Optimisation):
    epochs: int = knob(1, "Times each row is seen.", least=1)
    batch_size: int = knob(16, "Rows per optimizer step.", least=1)


@dataclass(frozen=True)
class Pretrain(OnText):
    row_tokens: int = knob(512, "Documents are packed into rows of this many tokens.", least=2)
    min_tokens: int = knob(8, "Remains of documents shorter than this are dropped.", least=2)


@dataclass(frozen=True)
class SFT(OnText):
    epochs: int = knob(3, "Times each demonstration is seen.", least=1)
    batch_size: int = knob(16, "Demonstrations per optimizer step.", least=1)
    max_completion_tokens: int = knob(256, "Longer completions are cut here.", least=1)


@dataclass(frozen=True)
class OnRankings(Optimisation):
    epochs: int = knob(1, "Times each ranking is seen.", least=1)
    batch_size: int = knob(8, "Ranked prompts per optimizer step.", least=1)
    max_completion_tokens: int = knob(256, "Longer completions are cut here.", least=1)
    forward_rows: int = knob(8, "Completions of like length encoded together.", least=1)
    ties: str = knob("skip", "A tie teaches nothing, or counts half each way.", ("skip", "half"))
    reliability: str = knob(
        "given",
        "What a labeler's vote weighs: as the rows say (else 1), or by agreement with the others.",
        ("given", "agreement"),
    )
    margin: float = knob(0.0, "Score distance asked for per unit of a ranking's strength.", least=0)
    holdout: float = knob(
        0.15, "Share of the prompts held out when there is no test file.", least=0
    )
    bootstrap: int = knob(1000, "Resamples behind the interval of the accuracy.", least=10)


@dataclass(frozen=True)
class Reward(OnRankings):
    margin: float = knob(0.1, "Score distance asked for per unit of a ranking's strength.", least=0)
    heads: int = knob(
        1, "Scalar heads, each taught by its own draw of the rankings; they may disagree.", least=1
    )
    calibration_samples: int = knob(
        64, "Answers drawn from the policy it starts from, for the spread of scores.", least=0
    )
    calibration_tokens: int = knob(64, "Longest of those answers, in tokens.", least=1)


@dataclass(frozen=True)
class DPO(Speaking, OnRankings):
    learning_rate: float = knob(1e-6, "Peak learning rate of Adam.", least=0)
    beta: float = knob(0.1, "Strength of the pull towards the reference policy.", least=0)


@dataclass(frozen=True)
class KTO(Speaking, Optimisation):
    learning_rate: float = knob(1e-6, "Peak learning rate of Adam.", least=0)
    epochs: int = knob(1, "Times each thumb is seen.", least=1)
    batch_size: int = knob(16, "Thumbs per optimizer step; KL is estimated on them.", least=2)
    max_completion_tokens: int = knob(256, "Longer completions are cut here.", least=1)
    beta: float = knob(0.1, "Strength of the pull towards the reference policy.", least=0)
    up_weight: float = knob(1.0, "Weight of a thumb up.", least=0)
    down_weight: float = knob(1.0, "Weight of a thumb down.", least=0)
    balance: bool = knob(True, "Weigh the rarer thumb up, so that both sides count the same.")


@dataclass(frozen=True)
class PPO(Optimisation):
    updates: int = knob(50, "Rollout-and-learn turns.", least=1)
    batch_size: int = knob(32, "Episodes per update, over all processes.", least=1)
    minibatches: int = knob(1, "Optimizer steps per epoch over the rollout.", least=1)
    ppo_epochs: int = knob(4, "Passes over one rollout.", least=1)
    max_new_tokens: int = knob(64, "Longest answer, in tokens.", least=1)
    temperature: float = knob(
        1.0, "Sampling temperature, in rollout and training alike.", least=1e-3
    )
    beta: float = knob(0.02, "Price of one nat of KL to the reference, in units of score.", least=0)
    kl_control: str = knob("fixed", "Whether beta follows the KL.", ("fixed", "adaptive"))
    kl_target: float = knob(6.0, "KL per answer that adaptive control aims at, in nats.", least=0)
    kl_horizon: int = knob(10000, "Episodes over which adaptive control acts.", least=1)
    gamma: float = knob(1.0, "Discount of rewards per token.", least=0)
    lam: float = knob(0.95, "Lambda of generalised advantage estimation.", least=0)
    clip: float = knob(0.2, "Probability ratios are clipped to 1 +/- this.", least=0)
    value_clip: float = knob(0.2, "New values are clipped to the old +/- this.", least=0)
    value_weight: float = knob(0.1, "Weight of the value loss.", least=0)
    whiten_advantages: bool = knob(True, "Shift and scale advantages over the batch.")
    critic: str = knob(
        "reward",
        "Source of values: a network that starts from the reward model or the policy, a second"
        " adapter, a head on the policy.",
        ("reward", "policy", "adapter", "shared"),
    )
    save_critic: bool = knob(True, "Keep the critic beside the policy, for the next PPO.")
    critic_learning_rate: float = knob(1e-5, "Peak learning rate of the critic.", least=0)
    critic_warmup: int = knob(0, "First updates in which only the critic learns.", least=0)
    normalise_score: bool = knob(
        True, "Divide scores by their spread on samples of the SFT policy."
    )
    missing_eos: str = knob(
        "subtract",
        "What happens to the score of an unfinished answer.",
        ("none", "subtract", "replace"),
    )
    missing_eos_penalty: float = knob(1.0, "Size of that penalty, in units of score.", least=0)
    target_kl: float = knob(
        0.1, "Leave the epochs once approx_kl passes 1.5 x this; 0 = never.", least=0
    )
    rest_frozen: bool = knob(
        True, "Reference and reward model leave memory while the policy learns."
    )
    ptx_weight: float = knob(
        0.0,
        "Weight of the language-modelling loss on data.demonstrations mixed in (an SFT anchor).",
        least=0,
    )
    sample_every: int = knob(5, "Updates between samples on the fixed prompts.", least=1)
    sample_prompts: int = knob(8, "How many fixed prompts.", least=0)
    evaluate_prompts: int = knob(32, "Held-out prompts answered at each evaluation.", least=1)
    kl_limit: float = knob(
        0.0, "Pause when KL per answer passes this, in nats; 0 = never.", least=0
    )
    min_entropy: float = knob(
        0.0, "Pause below this share of the first entropy; 0 = never.", least=0
    )
    max_length: float = knob(
        0.0, "Pause above this multiple of the first length; 0 = never.", least=0
    )
    max_identical: float = knob(
        0.0,
        "Pause when more than this share of different prompts get the same answer; 0 = never.",
        least=0,
    )

    def validate(self) -> None:
        super().validate()
        if self.batch_size % self.minibatches:
            raise ConfigError(
                f"PPO.batch_size {self.batch_size} is not a multiple of"
                f" PPO.minibatches {self.minibatches}"
            )


@dataclass(frozen=True)
class Sample(Checked):
    k: int = knob(4, "Completions per prompt and policy.", least=1)
    temperature: float = knob(1.0, "Sampling temperature; 0 = greedy.", least=0)
    max_new_tokens: int = knob(64, "Longest answer, in tokens.", least=1)
    batch_size: int = knob(32, "Answers written at once.", least=1)


Train = Pretrain | SFT | Reward | PPO | DPO | KTO | Sample
TRAIN: dict[str, type[Train]] = {
    "pretrain": Pretrain,
    "sft": SFT,
    "reward": Reward,
    "ppo": PPO,
    "dpo": DPO,
    "kto": KTO,
    "sample": Sample,
}


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


def _plain_types(hint: Any) -> tuple[type, ...]:
    """The classes isinstance understands: str | dict[str, Any] -> (str, dict)."""
    if get_origin(hint) is not None and get_origin(hint) not in (dict, list):
        return tuple(each for part in get_args(hint) for each in _plain_types(part))
    return (get_origin(hint) or hint,)
