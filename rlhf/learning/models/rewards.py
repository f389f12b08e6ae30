"""What an answer is worth to PPO, RLOO and GRPO: a weighted sum of a reward model and checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from feedback_site.answer_checks.written import CheckedPart, read_checks
from rlhf.learning.contract.hyperparameters import ConfigError, OnRollouts
from rlhf.learning.contract.records import DataError, Prompt

from .scoring import RewardModel, Scorer

MODEL = "model"  # the part that a reward model or a function says


class ComposedReward:
    """Reward of whole answers, part by part: score = Σ weight · part.

    The part of a reward model is clip( mean of its heads − λ · their standard deviation ), with λ
    `reward_uncertainty` (arXiv 2310.02743, section 3); that of a check is 0 to 1."""

    def __init__(self, scorer: Scorer | None, settings: OnRollouts) -> None:
        """`scorer` None: checks alone. Raises ConfigError."""
        self.scorer, self.settings = scorer, settings
        self.checked: list[CheckedPart] = read_checks(settings.checks)
        self.weights = {MODEL: settings.reward_weight} if scorer else {}
        self.weights |= {part.name: part.weight for part in self.checked}
        is_ensemble = isinstance(scorer, RewardModel) and scorer.heads > 1
        if settings.reward_uncertainty and not is_ensemble:
            raise ConfigError(
                f"{type(settings).__name__}.reward_uncertainty is"
                f" {settings.reward_uncertainty:g}, but there is no reward model with several"
                " heads to disagree (Reward.heads)"
            )

    @property
    def names(self) -> list[str]:
        return list(self.weights)

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raises DataError where a check compares with references and no prompt has one, or rests
        on what only grids have."""
        for part in self.checked:
            if part.check.rests_on:
                raise DataError(
                    f"the check {part.name} rests on {part.check.rests_on}, which only a grid of"
                    " the playground knows"
                )
        if any(prompt.reference.strip() for prompt in prompts):
            return
        for part in self.checked:
            if part.check.needs_reference:
                raise DataError(
                    f"the check {part.name} compares with reference answers, and no prompt to learn"
                    ' from has one: {"prompt": …, "reference": "…"}'
                )

    def parts(
        self, prompts: Sequence[Prompt], texts: Sequence[str], finished: Sequence[bool]
    ) -> dict[str, Tensor]:
        """scores_B of each part, by its name, before its weight."""
        found = {MODEL: self._model(self.scorer, prompts, texts, finished)} if self.scorer else {}
        for part in self.checked:
            pairs = zip(texts, prompts, strict=True)
            scores = [part.check.score(text, prompt.reference) for text, prompt in pairs]
            found[part.name] = torch.tensor(scores)
        return found

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """scores_B of what `parts` gave."""
        return torch.stack([self.weights[name] * each_B for name, each_B in parts.items()]).sum(0)

    def _model(
        self,
        scorer: Scorer,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        finished: Sequence[bool],
    ) -> Tensor:
        settings = self.settings
        asked = (prompts, texts, finished, settings.normalise_score)
        if isinstance(scorer, RewardModel) and settings.reward_uncertainty:
            scores_B, disagreement_B = scorer.opinions(*asked)
            scores_B = scores_B - settings.reward_uncertainty * disagreement_B
        else:
            scores_B = scorer.score(*asked)
        limit = settings.reward_clip
        return scores_B.clamp(-limit, limit) if limit else scores_B
