"""Learning from several answers to each prompt, which stand in for a critic: what RLOO and GRPO
have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial

from accelerate import Accelerator
from torch import Tensor

from rlhf.learning.contract.hyperparameters import ConfigError, OnGroups
from rlhf.learning.run.optimiser import Loss, Optimiser
from rlhf.learning.run.run_folder import RunFolder

from .figures import rollout_figures
from .minibatch import Stats
from .on_rollouts import RolloutLearner, Tell
from .rollout import Rollout


class GroupLearner(RolloutLearner):
    """An update is one rollout with k answers to each prompt, and a pass or more over it."""

    settings: OnGroups

    def __init__(self, folder: RunFolder, accelerator: Accelerator) -> None:
        super().__init__(folder, accelerator)
        settings = self.settings
        self.epochs, self.answers = settings.rollout_epochs, settings.k
        share = accelerator.num_processes * settings.k
        if settings.batch_size % share:
            raise ConfigError(
                f"{type(settings).__name__}.batch_size {settings.batch_size} is not a multiple of"
                f" {share} = processes x k"
            )
        self.optimiser = Optimiser(
            accelerator, self.policy, [("", settings.learning_rate)], settings
        )

    @abstractmethod
    def _advantages(self, rollout: Rollout) -> Tensor:
        """advantages_B: how much better each answer was than the others to its prompt."""

    @abstractmethod
    def _loss(
        self,
        rollout: Rollout,
        rows: Sequence[int],
        logprobs_N: Tensor,
        entropy_N: Tensor,
        counts: tuple[float, float],
    ) -> tuple[Tensor, Stats]:
        """(loss, stats) of a micro-batch: N answer tokens of the episodes `rows`, in row-major
        order; `counts`: answers and answer tokens of the global mini-batch."""

    def _judge(self, rollout: Rollout) -> dict[str, float]:
        advantages_B = self._advantages(rollout)
        rollout.advantages_BT = advantages_B[:, None] * rollout.mask_BT
        everyones_B = self.everyone(advantages_B)
        groups_KP = advantages_B.view(self.answers, -1)
        is_flat_P = (groups_KP == 0).all(0)
        flat, prompts = self.total(float(is_flat_P.sum()), float(len(is_flat_P)))
        return {
            **rollout_figures(self, rollout, self.kl_coef),
            "objective/advantage_std": float(everyones_B.std(correction=0)),
            # Prompts that teach nothing, as all answers to them are worth the same.
            "objective/flat_prompts": flat / prompts,
        }

    def _turns(
        self, rollout: Rollout, rows: Sequence[int], step: int, number: int, tell: Tell
    ) -> Sequence[Sequence[Loss]]:
        answers = self.settings.batch_size // self.settings.minibatches
        counts = (float(answers), self._tokens(rollout, rows))

        def loss(part: Sequence[int]) -> Tensor:
            logprobs_N, entropy_N, *_ = self._forward(rollout, part)
            value, stats = self._loss(rollout, part, logprobs_N, entropy_N, counts)
            tell(stats)
            return value

        return [[partial(loss, part) for part in self._parts(rollout, rows)]]
