"""The parts of a config: frozen dataclasses, with one help line a field.

What several kinds of runs share is here; what one kind alone is told is in `kinds/`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar, get_args, get_origin, get_type_hints

from feedback_site.answer_checks.check import CheckError
from feedback_site.answer_checks.written import read_checks

T = TypeVar("T")


class ConfigError(ValueError):
    """The user's mistake in a config; the message says which field and what is allowed."""


def setting(
    default: T,
    help: str,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    below: float | None = None,
) -> T:
    """Makes a dataclass field with one line of help; valid values are `choices`, or
    `least` <= value < `below`."""
    said = {"help": help, "choices": choices, "least": least, "below": below}
    return field(default=default, metadata=said)


@dataclass(frozen=True)
class Checked:
    """A part of a config whose fields are checked against their types and limits."""

    # Fields of other software that would do harm here, and why.
    refused: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def read(cls, raw: Any, where: str) -> Self:
        """Makes one of an object of JSON found at `where` in a config; null is the default.

        Raises ConfigError on a field that is not known; values are checked by `validate`."""
        if not isinstance(raw, Mapping):
            raise ConfigError(f"{where} must be an object, not {raw!r}")
        known = [each.name for each in dataclasses.fields(cls)]
        for name in raw:
            if reason := cls.refused.get(name):
                raise ConfigError(f"{where}.{name} is refused: {reason}")
            if name not in known:
                raise ConfigError(f"unknown field {where}.{name}; known are {', '.join(known)}")
        return cls(**{name: value for name, value in raw.items() if value is not None})

    def validate(self) -> None:
        """Raises ConfigError that names the first wrong field and what is allowed there."""
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
            below = each.metadata.get("below")
            if below is not None and not value < below:
                raise ConfigError(f"{name} must be less than {below}, not {value!r}")


@dataclass(frozen=True)
class Tune(Checked):
    """Which weights of the model learn."""

    mode: str = setting(
        "full",
        "Which weights learn; qlora: an adapter on a 4-bit model, on a CUDA GPU only.",
        ("full", "lora", "qlora", "last_layers", "head"),
    )
    layers: int = setting(
        0, "How many top layers learn (last_layers, lora, qlora); 0 = all of them.", least=0
    )
    rank: int = setting(16, "Rank of the LoRA matrices.", least=1)
    alpha: int = setting(32, "LoRA scale: updates are multiplied by alpha / rank.", least=1)

    @property
    def is_adapter(self) -> bool:
        """Only an adapter learns: switched off, the model is what it was."""
        return self.mode in ("lora", "qlora")

    def validate(self) -> None:
        super().validate()
        if self.mode == "last_layers" and self.layers < 1:
            raise ConfigError("Tune.layers must be at least 1 when Tune.mode is last_layers")


@dataclass(frozen=True)
class Models(Checked):
    """Model folders of a run, relative to the data directory."""

    policy: str = setting("", "Model folder to start from (reward: the SFT policy).")
    reference: str = setting(
        "", "What KL is measured against (not reward and SFT); empty = the policy."
    )
    reward: str = setting("", "PPO, RLOO, GRPO and sample: the reward model's folder.")
    reward_function: str = setting(
        "", "PPO, RLOO, GRPO: module:function instead of a reward model; needs --allow-code."
    )
    held_out_reward: str = setting(
        "", "PPO, RLOO, GRPO: a reward model that never trains the policy, and monitors it."
    )
    critic: str = setting("", "PPO: a reward model or the critic of another PPO to start from.")
    policies: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "Sample: name -> {path, system_prompt?, few_shot?, prompt_format?,"
            " temperature?, max_new_tokens?}."
        },
    )

    def sampled(self, name: str) -> SampledPolicy:
        """Reads and checks the entry `name` of `policies`; raises ConfigError."""
        policy = SampledPolicy.read(self.policies[name], f"models.policies.{name}")
        policy.validate()
        return policy


@dataclass(frozen=True)
class Data(Checked):
    """Data files of a run, relative to the data directory."""

    train: str = setting("", "JSONL file to learn from (sample: prompts).")
    test: str = setting("", "JSONL file of held-out rows.")
    held_out_labelers: str = setting(
        "", "Reward: rankings by people whose judgement never trains it, on prompts it never saw."
    )
    calibration: str = setting("", "Reward: demonstrations whose mean score becomes 0.")
    demonstrations: str = setting("", "PPO: demonstrations for the ptx term.")
    datasets: str = setting(
        "", "Data sets of the Hugging Face Hub it learns from, with commas, for the model card."
    )
    sha256: str | dict[str, Any] = field(
        default="", metadata={"help": "Hash of train, or {name: hash}; checked before training."}
    )


@dataclass(frozen=True)
class Engine(Checked):
    """Who answers the prompts of PPO, RLOO, GRPO; no part of a recipe, as it names an address."""

    name: str = setting("hf", "The model in training itself, or a vLLM server.", ("hf", "vllm"))
    url: str = setting("", "Address of the vLLM server, e.g. http://127.0.0.1:8000.")
    model: str = setting(
        "",
        "Name under which the server knows the policy it began with; empty = it is found by its"
        " folder.",
    )
    importance_cap: float = setting(2.0, "Importance weights of its tokens are cut here.", least=1)
    timeout: float = setting(600.0, "Seconds to wait for an answer.", least=1)

    def validate(self) -> None:
        super().validate()
        if self.name == "vllm" and not self.url.startswith("http"):
            raise ConfigError("engine.name is vllm, but engine.url is missing")


@dataclass(frozen=True)
class SampledPolicy(Checked):
    """One entry of `models.policies`: weights + prompt template + sampling parameters."""

    path: str = setting("", "Model folder.")
    system_prompt: str = setting("", "Put before every prompt.")
    few_shot: list[Any] = field(
        default_factory=list,
        metadata={"help": "Example messages between the system prompt and the prompt."},
    )
    prompt_format: str = setting("", "Sent for the last message, with {prompt} in its place.")
    temperature: float | None = setting(None, "Instead of train.temperature.")
    max_new_tokens: int | None = setting(None, "Instead of train.max_new_tokens.")


@dataclass(frozen=True)
class Train(Checked):
    """The settings of one kind of run."""

    def check_inputs(self, models: Models, data: Data, tune: Tune) -> None:
        """Raises ConfigError where the other parts of the config do not go with these settings."""
        if not models.policy:
            raise ConfigError("models.policy is missing")


@dataclass(frozen=True)
class Optimisation(Train):
    """What every algorithm asks of Adam and of the training loop."""

    learning_rate: float = setting(1e-5, "Peak learning rate of Adam.", least=0)
    schedule: str = setting(
        "cosine", "Shape of the learning rate after warm-up.", ("constant", "linear", "cosine")
    )
    warmup: float = setting(
        0.05, "Share of the steps over which the rate rises from zero.", least=0, below=1
    )
    weight_decay: float = setting(0.0, "Decoupled weight decay.", least=0)
    adam_beta2: float = setting(0.999, "Decay of Adam's second moment.", least=0)
    adam_epsilon: float = setting(1e-8, "Added to the root of Adam's second moment.", least=0)
    max_grad_norm: float = setting(
        1.0,
        "Gradients of networks that share weights are clipped to this norm; 0 = never.",
        least=0,
    )
    micro_batch_size: int = setting(8, "Rows in memory at once (rankings: prompts).", least=1)
    max_skipped: int = setting(3, "Pause after this many non-finite steps in a row.", least=1)
    checkpoint_every: int = setting(20, "Steps between checkpoints.", least=1)
    evaluate_every: int = setting(
        20, "Steps between looks at the held-out data; 0 = at the end.", least=0
    )


@dataclass(frozen=True)
class Speaking(Train):
    """A policy in training answers the same prompts now and then."""

    sample_prompts: int = setting(8, "Fixed prompts answered at each evaluation.", least=0)
    max_new_tokens: int = setting(64, "Longest sampled answer, in tokens.", least=1)
    temperature: float = setting(1.0, "Sampling temperature of those answers.", least=0)


@dataclass(frozen=True)
class OnText(Optimisation):
    """What learning from rows of text has in common."""

    epochs: int = setting(1, "Times each row is seen.", least=1)
    batch_size: int = setting(16, "Rows per optimizer step.", least=1)


@dataclass(frozen=True)
class OnRankings(Optimisation):
    """What learning from whole rankings has in common: the reward model and DPO."""

    epochs: int = setting(1, "Times each ranking is seen.", least=1)
    batch_size: int = setting(8, "Ranked prompts per optimizer step.", least=1)
    max_completion_tokens: int = setting(256, "Longer completions are cut here.", least=1)
    forward_rows: int = setting(8, "Completions of like length encoded together.", least=1)
    ties: str = setting("skip", "A tie teaches nothing, or counts half each way.", ("skip", "half"))
    reliability: str = setting(
        "given",
        "What a labeler's vote weighs: as the rows say (else 1), or by agreement with the others.",
        ("given", "agreement"),
    )
    margin: float = setting(
        0.0, "Score distance asked for per unit of a ranking's strength.", least=0
    )
    holdout: float = setting(
        0.15, "Share of the prompts held out when there is no test file.", least=0, below=1
    )


# What the recipes of learning from rollouts pause at: a policy that collapses is worth a look.
COLLAPSED = {"min_length": 0.5, "min_distinct": 0.5, "stop_over_optimised": True}


@dataclass(frozen=True)
class OnRollouts(Optimisation):
    """What learning from the policy's own answers has in common: PPO, RLOO, GRPO and RAFT."""

    updates: int = setting(50, "Rollout-and-learn turns.", least=1)
    batch_size: int = setting(32, "Episodes per update, over all processes.", least=1)
    minibatches: int = setting(1, "Optimizer steps per epoch over the rollout.", least=1)
    max_new_tokens: int = setting(64, "Maximum length, in tokens.", least=1)
    temperature: float = setting(
        1.0, "Sampling temperature, in rollout and training alike.", least=1e-3
    )
    kl_coef: float = setting(
        0.02, "Price of one nat of KL to the reference, in units of score.", least=0
    )
    target_kl: float = setting(
        0.1, "Leave the epochs once approx_kl passes 1.5 x this; 0 = never.", least=0
    )
    normalise_score: bool = setting(
        True, "Divide scores by their spread on samples of the SFT policy."
    )
    checks: str = setting(
        "",
        "Rules that score answers beside the reward model or instead of it, with settings and"
        " weights, e.g. number:1, length(5-200):0.2.",
    )
    reward_weight: float = setting(
        1.0, "Weight of the reward model's score beside those of the checks.", least=0
    )
    reward_clip: float = setting(
        0.0, "The reward model's score is clipped to +/- this; 0 = never.", least=0
    )
    reward_uncertainty: float = setting(
        0.0,
        "Taken off that score: this x the standard deviation among the heads of a reward model"
        " that has several.",
        least=0,
    )
    missing_eos: str = setting(
        "subtract",
        "What happens to the score of an unfinished answer.",
        ("none", "subtract", "replace"),
    )
    missing_eos_penalty: float = setting(1.0, "Size of that penalty, in units of score.", least=0)
    vllm_server: str = setting(
        "",
        "Address of a vLLM server that answers the prompts instead of the model in training, e.g."
        " http://127.0.0.1:8000.",
    )
    offload_frozen: bool = setting(
        True, "Reference and reward model leave memory while the policy learns."
    )
    sample_every: int = setting(5, "Updates between samples on the fixed prompts.", least=1)
    sample_prompts: int = setting(8, "How many fixed prompts.", least=0)
    evaluate_prompts: int = setting(32, "Held-out prompts answered at each evaluation.", least=1)
    kl_limit: float = setting(
        0.0, "Pause when KL per answer passes this, in nats; 0 = never.", least=0
    )
    min_entropy: float = setting(
        0.0, "Pause below this share of the first entropy; 0 = never.", least=0
    )
    max_length: float = setting(
        0.0, "Pause above this multiple of the first length; 0 = never.", least=0
    )
    min_length: float = setting(
        0.0, "Pause below this share of the first length; 0 = never.", least=0
    )
    min_distinct: float = setting(
        0.0, "Pause below this share of the first distinct-2; 0 = never.", least=0
    )
    stop_over_optimised: bool = setting(
        False, "Pause when the score rises while the held-out reward model's falls."
    )
    max_identical: float = setting(
        0.0,
        "Pause when more than this share of different prompts get the same answer; 0 = never.",
        least=0,
    )

    refused: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("top_p", "top_k", "min_p", "typical_p", "repetition_penalty", "no_repeat_ngram_size"),
        "the policy learns from the probabilities it sampled with, and answers drawn in another way"
        " would have the wrong ones; use train.temperature",
    )

    def validate(self) -> None:
        super().validate()
        if self.batch_size % self.minibatches:
            name = type(self).__name__
            raise ConfigError(
                f"{name}.batch_size {self.batch_size} is not a multiple of"
                f" {name}.minibatches {self.minibatches}"
            )
        if self.vllm_server and not self.vllm_server.startswith(("http://", "https://")):
            raise ConfigError(
                f"{type(self).__name__}.vllm_server must be an address such as"
                f" http://127.0.0.1:8000, not {self.vllm_server!r}"
            )
        try:
            read_checks(self.checks)
        except CheckError as error:
            raise ConfigError(f"{type(self).__name__}.checks: {error}") from None

    def check_inputs(self, models: Models, data: Data, tune: Tune) -> None:
        super().check_inputs(models, data, tune)
        if not models.reward and not models.reward_function and not self.checks.strip():
            raise ConfigError("models.reward is missing, and there are no train.checks")
        if models.reward and models.reward_function:
            raise ConfigError("models.reward and models.reward_function cannot both score")


@dataclass(frozen=True)
class OnGroups(OnRollouts):
    """What learning from several answers to each prompt has in common: RLOO, GRPO and RAFT."""

    k: int = setting(4, "Answers to each prompt; each is measured against the others.", least=2)
    rollout_epochs: int = setting(1, "Passes over one rollout.", least=1)

    def validate(self) -> None:
        super().validate()
        if self.batch_size % self.k:
            name = type(self).__name__
            raise ConfigError(
                f"{name}.batch_size {self.batch_size} is not a multiple of {name}.k {self.k}: it"
                " counts answers, k to each prompt"
            )


@dataclass(frozen=True)
class Kind:
    """One kind of run: all that is known of it without torch.

    `recipes` are by size, tiny, small and large: {"train": {field: value}, "tune": {...}}; what
    they leave out is the default of `settings`. `learner` is "module:class", "" where nothing is
    learnt. `card` opens the README of a model made this way."""

    settings: type[Train]
    recipes: Mapping[str, Mapping[str, Mapping[str, Any]]]
    learner: str = ""
    card: str = ""


def _plain_types(hint: Any) -> tuple[type, ...]:
    """Classes that isinstance understands: str | dict[str, Any] -> (str, dict)."""
    if get_origin(hint) is not None and get_origin(hint) not in (dict, list):
        return tuple(each for part in get_args(hint) for each in _plain_types(part))
    return (get_origin(hint) or hint,)
