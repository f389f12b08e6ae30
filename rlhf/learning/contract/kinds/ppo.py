"""PPO: what it is told, and its recipes."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf.learning.contract.hyperparameters import (
    COLLAPSED,
    ConfigError,
    Data,
    Kind,
    Models,
    OnRollouts,
    Tune,
    setting,
)


@dataclass(frozen=True)
class PPO(OnRollouts):
    """Settings of PPO against a reward model (arXiv 1707.06347, 2203.02155)."""

    adam_epsilon: float = setting(1e-5, "Added to the root of Adam's second moment.", least=0)
    clip_range: float = setting(0.2, "Probability ratios are clipped to 1 +/- this.", least=0)
    ppo_epochs: int = setting(4, "Passes over one rollout.", least=1)
    kl_control: str = setting("fixed", "Whether kl_coef follows the KL.", ("fixed", "adaptive"))
    kl_target: float = setting(
        6.0, "KL per answer that adaptive control aims at, in nats.", least=0
    )
    kl_horizon: int = setting(10000, "Episodes over which adaptive control acts.", least=1)
    gamma: float = setting(1.0, "Discount of rewards per token.", least=0)
    gae_lambda: float = setting(0.95, "Lambda of generalised advantage estimation.", least=0)
    value_clip: float = setting(0.2, "New values are clipped to the old +/- this.", least=0)
    value_weight: float = setting(
        0.1,
        "Weight of the value loss; it moves a critic of its own hardly at all, as Adam evens out"
        " its scale.",
        least=0,
    )
    whiten_advantages: bool = setting(True, "Shift and scale advantages over the batch.")
    critic: str = setting(
        "reward",
        "Source of values: a network that starts from the reward model or the policy, a second"
        " adapter, a head on the policy.",
        ("reward", "policy", "adapter", "shared"),
    )
    save_critic: bool = setting(False, "Keep the critic beside the policy, for the next PPO.")
    critic_learning_rate: float = setting(1e-5, "Peak learning rate of the critic.", least=0)
    critic_warmup: int = setting(0, "First updates in which only the critic learns.", least=0)
    ptx_weight: float = setting(
        0.0,
        "Weight of the language-modelling loss on data.demonstrations mixed in (an SFT anchor);"
        " they are cut at 4 x max_new_tokens.",
        least=0,
    )
    ptx_batch_size: int = setting(
        8, "Demonstrations of that loss per optimizer step, over all processes.", least=1
    )

    def validate(self) -> None:
        super().validate()
        if self.kl_control == "adaptive":
            self._validate_adaptive()

    def _validate_adaptive(self) -> None:
        """An update multiplies kl_coef by 1 +/- at most a fifth of batch_size / kl_horizon."""
        if not self.kl_coef:
            raise ConfigError(
                "PPO.kl_coef is 0, and adaptive control can only multiply it: begin with more, e.g."
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
                f" {self.batch_size}: one update could take kl_coef below 0; choose"
                f" {self.batch_size} or more"
            )

    def check_inputs(self, models: Models, data: Data, tune: Tune) -> None:
        super().check_inputs(models, data, tune)
        if self.critic == "reward" and not models.reward and not models.critic:
            raise ConfigError(
                "PPO.critic is reward, but there is no reward model: choose policy, adapter or"
                " shared, or name models.critic"
            )
        if self.critic == "adapter" and not tune.is_adapter:
            raise ConfigError("PPO.critic adapter needs Tune.mode lora or qlora")
        if self.ptx_weight and not data.demonstrations:
            raise ConfigError("data.demonstrations is missing, but PPO.ptx_weight is set")


KIND = Kind(
    settings=PPO,
    learner="rlhf.learning.ppo.learner:PPOLearner",
    card="PPO against a reward model, held to its reference by a KL penalty (InstructGPT, step 3).",
    recipes={
        "tiny": {
            "tune": {"mode": "full"},
            "train": {
                **COLLAPSED,
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
                "kl_coef": 0.05,
                "checkpoint_every": 4,
                "evaluate_every": 4,
            },
        },
        "small": {
            "tune": {"mode": "lora", "layers": 10},
            "train": {
                **COLLAPSED,
                "learning_rate": 1e-3,
                "critic_learning_rate": 1e-3,
                "schedule": "constant",
                "updates": 10,
                "batch_size": 16,
                "micro_batch_size": 16,
                "minibatches": 2,
                "ppo_epochs": 2,
                "critic": "shared",
                "max_new_tokens": 64,
                "warmup": 0.0,
                "adam_beta2": 0.99,
                "checkpoint_every": 2,
                "evaluate_every": 5,
                "kl_coef": 0.05,
                "evaluate_prompts": 16,
            },
        },
        "large": {
            "tune": {"mode": "full"},
            "train": {
                **COLLAPSED,
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
)
