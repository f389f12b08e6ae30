"""Group relative policy optimisation (DeepSeekMath, arXiv 2402.03300), and its variants.

What was to be expected of an answer is the mean score of all answers to its prompt; the difference,
in units of their spread, is the advantage of each of its tokens. No critic. The KL to the reference
is a term of the loss (k3) and no part of the reward. Dr. GRPO (arXiv 2503.20783) divides neither by
the spread nor by the length of an answer, DAPO (arXiv 2503.14476) weighs all tokens alike and clips
less from above.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlhf.learning.contract.kinds.grpo import GRPO
from rlhf.learning.models.losses import kl_k3, policy_losses

from .groups import GroupLearner
from .minibatch import Stats
from .rollout import Rollout

# As in TRL 1.16: answers worth almost the same would have advantages without end.
LEAST_SPREAD = 1e-4


class GRPOLearner(GroupLearner):
    """GRPO: an update is one rollout with k answers to each prompt, and a pass or more over it."""

    settings: GRPO

    def _advantages(self, rollout: Rollout) -> Tensor:
        scores_KP = rollout.scores_B.view(self.answers, -1)
        return group_advantages(scores_KP, scaled=self.settings.scale_advantages).flatten()

    def _loss(
        self,
        rollout: Rollout,
        rows: Sequence[int],
        logprobs_N: Tensor,
        entropy_N: Tensor,
        counts: tuple[float, float],
    ) -> tuple[Tensor, Stats]:
        return group_policy_loss(rollout, rows, logprobs_N, entropy_N, counts, self.settings)


def group_advantages(scores_KP: Tensor, *, scaled: bool) -> Tensor:
    """advantages_KP of K answers to each of P prompts: score - mean, over the standard deviation
    (of a sample, K - 1) where `scaled` (arXiv 2402.03300, section 4.1.2)."""
    advantages_KP = scores_KP - scores_KP.mean(0)
    return advantages_KP / (scores_KP.std(0) + LEAST_SPREAD) if scaled else advantages_KP


def token_weights(
    lengths_R: Tensor, counts: tuple[float, float], kind: str, longest: int
) -> Tensor:
    """weights_R: what each token of an answer counts in the loss of its mini-batch.

    `grpo`: a mean over answers of means over tokens (arXiv 2402.03300 eq. 3); `dr_grpo`: a sum
    over tokens divided by the `longest` there may be (arXiv 2503.20783, section 3.2); `dapo`: a
    mean over all tokens (arXiv 2503.14476 eq. 12)."""
    answers, tokens = counts
    if kind == "grpo":
        return 1 / (answers * lengths_R.clamp(min=1))
    return torch.full(lengths_R.shape, 1 / (answers * longest if kind == "dr_grpo" else tokens))


def group_policy_loss(
    rollout: Rollout,
    rows: Sequence[int],
    logprobs_N: Tensor,
    entropy_N: Tensor,
    counts: tuple[float, float],
    settings: GRPO,
) -> tuple[Tensor, Stats]:
    """Clipped surrogate + kl_coef * KL to the reference: (loss, stats) of a micro-batch.

    N answer tokens of the episodes `rows`, in row-major order; `counts`: answers and answer tokens
    of the global mini-batch. Figures but the loss are means over tokens. Tokens that an engine drew
    are weighed by the rollout's `weights_BT`; the KL is not."""
    device = logprobs_N.device
    lengths_R = rollout.lengths_B[list(rows)]
    old_N, reference_N, advantages_N, engine_N = (
        rollout.flat(each, rows).to(device)
        for each in (
            rollout.logprobs_BT,
            rollout.ref_logprobs_BT,
            rollout.advantages_BT,
            rollout.weights_BT,
        )
    )
    weights_R = token_weights(lengths_R.float(), counts, settings.loss, settings.max_new_tokens)
    weights_N = weights_R.repeat_interleave(lengths_R).to(device)
    above = settings.clip_range_high or settings.clip_range
    losses_N, ratio_N, clipped_N = policy_losses(
        logprobs_N, old_N, advantages_N, settings.clip_range, above
    )
    surrogate = (weights_N * engine_N * losses_N).sum()
    kl_N = kl_k3(logprobs_N, reference_N)
    if settings.unbiased_kl:  # the gradient of k3 alone is another's (arXiv 2512.02556)
        kl_N = kl_N * (logprobs_N - old_N).clamp(-20, 20).exp()
    loss = surrogate + settings.kl_coef * (weights_N * kl_N).sum()
    with torch.no_grad():
        tokens = counts[1]
        log_ratio_N = (logprobs_N - old_N).clamp(-20, 20)
        sums = {
            "policy/entropy": entropy_N.sum(),
            "policy/clipfrac": clipped_N.sum(),
            "policy/approx_kl": (log_ratio_N.expm1() - log_ratio_N).sum(),
            "ratio/off": (ratio_N - 1).abs().sum(),
        }
        return loss, {
            "loss": float(loss),
            "policy/loss": float(surrogate),
            **{name: float(value) / tokens for name, value in sums.items()},
            "ratio/deviation": float((ratio_N - 1).abs().max()),
            "ratio/max": float(ratio_N.max()),
        }
