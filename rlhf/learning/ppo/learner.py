"""PPO against the reward model (InstructGPT step 3).

reward = score of the whole answer on its last token - kl_coef * KL to the reference on every token.
A *score* is what the reward model says; a *reward* is what a token gets. Details and their sources:
the masks, the place of the score and the missing-EOS penalty follow arXiv 2403.17031, the clipped
losses arXiv 1707.06347, the KL controller arXiv 1909.08593.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from rlhf.learning.contract.kinds.ppo import PPO
from rlhf.learning.contract.reading import read_demonstrations
from rlhf.learning.models.losses import adapted_kl_coef
from rlhf.learning.models.networks import collate
from rlhf.learning.models.render import Encoded
from rlhf.learning.run.optimiser import Loss, Optimiser
from rlhf.learning.run.run_folder import RunFolder
from rlhf.learning.run.training import by_length, endless

from .advantages import estimate_advantages, whiten
from .critics import load_critic, publish_critic
from .figures import rollout_figures, value_figures
from .minibatch import VALUE_SUMS, clipped_policy_loss, clipped_value_loss
from .on_rollouts import RolloutLearner, Tell
from .rollout import Rollout

POLICY = "policy."  # what the names of its weights begin with


class PPOLearner(RolloutLearner):
    """PPO: an update is one rollout and several passes over it."""

    settings: PPO

    def __init__(self, folder: RunFolder, accelerator: Accelerator) -> None:
        super().__init__(folder, accelerator)
        settings = self.settings
        self.epochs = settings.ppo_epochs
        self.demonstrations = self._read_demonstrations()
        critic_rate = settings.critic_learning_rate
        self.optimiser = Optimiser(
            accelerator,
            self.model,
            [(".critic.", critic_rate), (POLICY, settings.learning_rate), ("", critic_rate)],
            settings,
            apart="" if settings.critic == "shared" else POLICY,
        )

    def _prepare(self) -> None:
        self.model, self.critic_wrapper = load_critic(
            self.folder, self.policy, self.wrapper, self.device
        )

    def _value_head(self) -> nn.Linear | None:
        is_heard = self.settings.critic == "shared" and self.is_exact
        return self.model.value_head if is_heard else None

    def _read_demonstrations(self) -> list[Encoded]:
        if not self.settings.ptx_weight:
            return []
        return [
            self.render.encode(each.prompt, each.text, 4 * self.settings.max_new_tokens)
            for each in read_demonstrations(self.folder.data("demonstrations"))
        ]

    def _judge(self, rollout: Rollout) -> dict[str, float]:
        """What each token was better than expected."""
        self.sampler.estimate_values(rollout, self.model.values)
        estimate_advantages(rollout, self.kl_coef, self.settings)
        numbers = rollout_figures(self, rollout, self.kl_coef) | value_figures(self, rollout)
        if self.settings.whiten_advantages:
            whiten(self, rollout)
        return numbers

    def _adapt(self, numbers: dict[str, float]) -> None:
        settings = self.settings
        if settings.kl_control == "adaptive":
            self.kl_coef = adapted_kl_coef(
                self.kl_coef,
                numbers["objective/kl"],
                settings.kl_target,
                settings.kl_horizon,
                settings.batch_size,
            )

    def _learn(self, rollout: Rollout, step: int) -> dict[str, float]:
        """Passes over the rollout; the critic learns alone while it warms up."""
        warms_up = step < self.settings.critic_warmup
        self.optimiser.hold(POLICY if warms_up else None)
        return {**super()._learn(rollout, step), **({"lr": 0.0} if warms_up else {})}

    def _turns(
        self, rollout: Rollout, rows: Sequence[int], step: int, number: int, tell: Tell
    ) -> Sequence[Sequence[Loss]]:
        tokens = self._tokens(rollout, rows)
        parts = self._parts(rollout, rows)
        losses = [self._losses(rollout, part, tokens, step, tell) for part in parts]
        turns = [list(turn) for turn in zip(*losses, strict=True)] or [[]]
        if self._has_anchor(step):
            turns[0] = self._ptx_losses(step, number, tell) + turns[0]
        return turns

    def _has_anchor(self, step: int) -> bool:
        return bool(self.demonstrations) and step >= self.settings.critic_warmup

    def _more_sums(self, step: int) -> Sequence[str]:
        return (*VALUE_SUMS, "ptx/loss") if self._has_anchor(step) else VALUE_SUMS

    @property
    def learns_apart(self) -> bool:
        """Policy and critic share nothing that learns, so that activations and gradients of one
        need not wait for the other's; several processes exchange the gradients of both at once."""
        return self.settings.critic != "shared" and self.optimiser.module is self.model

    def _losses(
        self,
        rollout: Rollout,
        rows: Sequence[int],
        tokens: float,
        step: int,
        tell: Tell,
    ) -> list[Loss]:
        """Of a micro-batch, already divided by the tokens of the global mini-batch: the policy's
        and the critic's, or one of both. While the critic warms up, the policy is only heard."""
        settings = self.settings
        warms_up = step < settings.critic_warmup

        def policy_loss(logprobs_N: Tensor, entropy_N: Tensor) -> Tensor:
            loss, stats = clipped_policy_loss(
                rollout, rows, logprobs_N, entropy_N, tokens, settings.clip_range
            )
            tell({**stats, "loss": 0.0 * stats["loss"]} if warms_up else stats)
            return 0.0 * loss if warms_up else loss

        def value_loss(values_N: Tensor) -> Tensor:
            loss, stats = clipped_value_loss(rollout, rows, values_N, tokens, settings)
            tell(stats)
            return loss

        def of_policy() -> Tensor:
            heard = self._heard(self.model.policy, rollout, rows, settings.temperature)
            return policy_loss(*heard[:2])

        def of_critic() -> Tensor:
            return value_loss(self._heard(self.model.values, rollout, rows))

        def of_both() -> Tensor:
            logprobs_N, entropy_N, values_N = self._forward(rollout, rows)
            return policy_loss(logprobs_N, entropy_N) + value_loss(values_N)

        if not self.learns_apart:
            return [of_both]
        if not warms_up:
            return [of_policy, of_critic]
        with torch.no_grad():
            of_policy()
        return [of_critic]

    def _ptx_losses(self, step: int, number: int, tell: Tell) -> list[Loss]:
        """gamma x language-modelling loss on demonstrations (InstructGPT eq. 2, last term), for
        optimizer step `number` of an update."""
        settings = self.settings
        size = settings.ptx_batch_size
        cursor = (step * settings.ppo_epochs * settings.minibatches + number) * size
        chosen = endless(len(self.demonstrations), self.seed, cursor, size)
        rows = [self.demonstrations[i] for i in chosen]
        tokens = sum(len(row.completion) for row in rows)

        def loss(mine: list[Encoded]) -> Tensor:
            batch = collate(mine, self.render.pad, self.device)
            network = self.model.policy if self.learns_apart else self.optimiser.module
            with self.accelerator.autocast():
                logprobs_N, *others_N = network(batch, 1.0)
            value: Tensor = -logprobs_N.sum() / tokens
            tell({"ptx/loss": float(value.detach())})
            anchored: Tensor = settings.ptx_weight * value + 0.0 * others_N[-1].sum()
            return anchored

        parts = by_length(self.share(rows), lambda row: len(row.ids), settings.micro_batch_size)
        return [partial(loss, part) for part in parts]

    def _write(self, place: Path, card: str) -> None:
        if self.settings.save_critic:
            publish_critic(self.model, self.critic_wrapper, self.render, place / "critic")
        super()._write(place, card)
