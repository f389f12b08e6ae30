"""What an algorithm is told: frozen dataclasses, with one help line a field."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


class ConfigError(ValueError):
    """The user's mistake in a config; the message says which field and what is allowed."""


def knob(
    default: T,
    help: str,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    below: float | None = None,
) -> T:
    """`least` <= value < `below`."""
    said = {"help": help, "choices": choices, "least": least, "below": below}
    return field(default=default, metadata=said)


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
            below = each.metadata.get("below")
            if below is not None and not value < below:
                raise ConfigError(f"{name} must be less than {below}, not {value!r}")


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
    warmup: float = knob(
        0.05, "Share of the steps over which the rate rises from zero.", least=0, below=1
    )
    weight_decay: float = knob(0.0, "Decoupled weight decay.", least=0)
    adam_beta2: float = knob(0.999, "Decay of Adam's second moment.", least=0)
    adam_epsilon: float = knob(1e-8, "Added to the root of Adam's second moment.", least=0)
    max_grad_norm: float = knob(
        1.0,
        "Gradients of networks that share weights are clipped to this norm; 0 = never.",
        least=0,
    )
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
class OnText(Optimisation):
    epochs: int = knob(1, "Times each row is seen.", least=1)
    batch_size: int = knob(16, "Rows per optimizer step.", least=1)


@dataclass(frozen=True)
class Pretrain(OnText):
    row_tokens: int = knob(512, "Documents are packed into rows of this many tokens.", least=2)
    min_tokens: int = knob(8, "Remains of documents shorter than this are dropped.", least=2)


@dataclass(frozen=True)
class SFT(Speaking, OnText):
    epochs: int = knob(3, "Times each demonstration is seen.", least=1)
    keep_epochs: bool = knob(
        False, "Publish the policy of every epoch, to choose one by score or people."
    )
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
        0.15, "Share of the prompts held out when there is no test file.", least=0, below=1
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
    adam_epsilon: float = knob(1e-5, "Added to the root of Adam's second moment.", least=0)
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
    value_weight: float = knob(
        0.1,
        "Weight of the value loss; it moves a critic of its own hardly at all, as Adam evens out"
        " its scale.",
        least=0,
    )
    whiten_advantages: bool = knob(True, "Shift and scale advantages over the batch.")
    critic: str = knob(
        "reward",
        "Source of values: a network that starts from the reward model or the policy, a second"
        " adapter, a head on the policy.",
        ("reward", "policy", "adapter", "shared"),
    )
    save_critic: bool = knob(False, "Keep the critic beside the policy, for the next PPO.")
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
        "Weight of the language-modelling loss on data.demonstrations mixed in (an SFT anchor);"
        " they are cut at 4 x max_new_tokens.",
        least=0,
    )
    ptx_batch_size: int = knob(
        8, "Demonstrations of that loss per optimizer step, over all processes.", least=1
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
        if self.kl_control == "adaptive":
            self._validate_adaptive()

    def _validate_adaptive(self) -> None:
        """An update multiplies beta by 1 +/- at most a fifth of batch_size / kl_horizon."""
        if not self.beta:
            raise ConfigError(
                "PPO.beta is 0, and adaptive control can only multiply it: begin with more, e.g."
                " 0.02, or choose PPO.kl_control fixed"
            )
        if not self.kl_target:
            raise ConfigError(
                "PPO.kl_target must be above 0 where PPO.kl_control is adaptive: the KL per answer"
                " to aim at, in nats, e.g. 6"
            )
        if self.kl_horizon <= self.batch_size / 5:
            raise ConfigError(
                f"PPO.kl_horizon {self.kl_horizon} is too short for PPO.batch_size"
                f" {self.batch_size}: one update could take beta below 0; choose {self.batch_size}"
                " or more"
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


def _plain_types(hint: Any) -> tuple[type, ...]:
    """The classes isinstance understands: str | dict[str, Any] -> (str, dict)."""
    if get_origin(hint) is not None and get_origin(hint) not in (dict, list):
        return tuple(each for part in get_args(hint) for each in _plain_types(part))
    return (get_origin(hint) or hint,)
