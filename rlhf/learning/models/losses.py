"""The formulas, as pure functions of tensors.

B rows, T tokens of a completion, N kept tokens in one flat row, H hidden units, V vocabulary.
Losses are sums; the caller divides by the count over the whole global batch.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 1 << 26  # logits held at once: 256 MB of them


class Head(Protocol):
    """Hidden states to logits over a vocabulary of `out_features`."""

    @property
    def out_features(self) -> int: ...

    def __call__(self, hidden: Tensor, /) -> Tensor: ...


def token_logprobs(
    hidden_NH: Tensor,
    head: Head,
    targets_N: Tensor,
    temperature: float = 1.0,
    entropy: bool = True,
) -> tuple[Tensor, Tensor]:
    """(logprobs_N of the targets, exact entropy_N without gradient), in nats.

    Entropy costs two more passes over the logits; where nobody asks for it, it is 0.
    Where N x V logits are too many to hold, chunks of them live only while they are used and are
    computed again in the backward pass.
    """
    rows = max(1, CHUNK // head.out_features)
    pieces = []
    for start in range(0, max(len(targets_N), 1), rows):
        hidden, targets = hidden_NH[start : start + rows], targets_N[start : start + rows]
        if torch.is_grad_enabled() and len(targets_N) > rows:
            pieces.append(
                checkpoint(
                    _logprobs, hidden, head, targets, temperature, entropy, use_reentrant=False
                )
            )
        else:
            pieces.append(_logprobs(hidden, head, targets, temperature, entropy))
    logprobs, entropies = zip(*pieces, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)


@torch.no_grad()
def greedy_hits(hidden_NH: Tensor, head: Head, targets_N: Tensor) -> int:
    """How many targets are the model's own first choice: token accuracy, before division."""
    rows, hits = max(1, CHUNK // head.out_features), 0
    for start in range(0, len(targets_N), rows):
        chosen = head(hidden_NH[start : start + rows]).argmax(-1)
        hits += int((chosen == targets_N[start : start + rows]).sum())
    return hits


def _logprobs(
    hidden_NH: Tensor, head: Head, targets_N: Tensor, temperature: float, entropy: bool
) -> tuple[Tensor, Tensor]:
    logits_NV = head(hidden_NH).float()
    if temperature != 1:
        logits_NV = logits_NV / temperature
    logprobs_N, entropy_N = _TargetLogprobs.apply(logits_NV, targets_N, entropy)  # type: ignore[no-untyped-call]
    return logprobs_N, entropy_N


class _TargetLogprobs(torch.autograd.Function):
    """log p(target) and entropy with two passes over the logits; autograd alone takes ten."""

    @staticmethod
    def forward(
        ctx: Any, logits_NV: Tensor, targets_N: Tensor, entropy: bool
    ) -> tuple[Tensor, Tensor]:
        total_N = logits_NV.logsumexp(-1)
        logprobs_N = logits_NV.gather(1, targets_N[:, None]).squeeze(1) - total_N
        entropy_N = torch.zeros_like(total_N)
        if entropy:
            probabilities_NV = (logits_NV - total_N[:, None]).exp_()
            entropy_N = total_N - torch.linalg.vecdot(probabilities_NV, logits_NV)
        ctx.save_for_backward(logits_NV, targets_N, total_N)
        ctx.mark_non_differentiable(entropy_N)
        return logprobs_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *gradients_N: Tensor) -> tuple[Tensor, None, None]:
        logits_NV, targets_N, total_N = ctx.saved_tensors
        gradient_N = gradients_N[0]
        gradient_NV = (logits_NV - total_N[:, None]).exp_().mul_(-gradient_N[:, None])
        gradient_NV[torch.arange(len(targets_N)), targets_N] += gradient_N
        return gradient_NV, None, None


def pairwise_loss(
    scores_K: Tensor, better_P: Tensor, worse_P: Tensor, weight_P: Tensor, margin_P: Tensor
) -> Tensor:
    """-sum_P w log sigmoid(r_better - r_worse - margin): InstructGPT eq. 1 with w = 1 / C(K,2)."""
    difference_P = scores_K[better_P] - scores_K[worse_P] - margin_P
    return -(weight_P * F.logsigmoid(difference_P)).sum()


def kto_losses(
    log_ratios_B: Tensor, up_B: Tensor, kl: float, beta: float, up_weight: float, down_weight: float
) -> Tensor:
    """losses_B = weight - value: KTO, arXiv 2402.01306 eq. 8, with `kl` as its reference point z0.

    The value of an answer saturates: a thumb up is worth sigmoid(beta (r - z0)), a thumb down
    sigmoid(beta (z0 - r)), with r the log-ratio of policy and reference.
    """
    gain_B = torch.where(up_B, log_ratios_B - kl, kl - log_ratios_B)
    weight_B = torch.where(up_B, up_weight, down_weight)
    return weight_B * (1 - torch.sigmoid(beta * gain_B))


def kl_k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """log p/q of sampled tokens: unbiased, may be negative. What the reward is charged."""
    return logprobs - ref_logprobs


def kl_k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """(q/p - 1) - log q/p: unbiased too, and never negative."""
    log_ratio = (ref_logprobs - logprobs).clamp(-20, 20)
    return log_ratio.expm1() - log_ratio


def policy_loss(
    logprobs_N: Tensor, old_logprobs_N: Tensor, advantages_N: Tensor, clip: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Clipped surrogate (arXiv 1707.06347 eq. 7): (summed loss, ratio_N, clipped_N)."""
    losses_N, ratio_N, clipped_N = policy_losses(
        logprobs_N, old_logprobs_N, advantages_N, clip, clip
    )
    return losses_N.sum(), ratio_N, clipped_N


def policy_losses(
    logprobs_N: Tensor, old_logprobs_N: Tensor, advantages_N: Tensor, below: float, above: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The same token by token, ratios clipped to 1 - below … 1 + above: what was good may grow
    further where `above` is larger (clip-higher, arXiv 2503.14476 section 3.1)."""
    ratio_N = (logprobs_N - old_logprobs_N).clamp(-20, 20).exp()
    plain_N = -advantages_N * ratio_N
    clipped_N = -advantages_N * ratio_N.clamp(1 - below, 1 + above)
    return torch.maximum(plain_N, clipped_N), ratio_N.detach(), (clipped_N > plain_N).detach()


def value_loss(
    values_N: Tensor, old_values_N: Tensor, returns_N: Tensor, clip: float
) -> tuple[Tensor, Tensor]:
    """1/2 max((v - R)^2, (clipped v - R)^2): (summed loss, clipped_N)."""
    near_N = old_values_N + (values_N - old_values_N).clamp(-clip, clip)
    plain_N, clipped_N = (values_N - returns_N) ** 2, (near_N - returns_N) ** 2
    return 0.5 * torch.maximum(plain_N, clipped_N).sum(), (clipped_N > plain_N).detach()


def adapted_kl_coef(kl_coef: float, kl: float, target: float, horizon: int, episodes: int) -> float:
    """Next price of KL, by proportional control in log space (arXiv 1909.08593, section 2.2)."""
    error = max(-0.2, min(0.2, kl / target - 1))
    return kl_coef * (1 + error * episodes / horizon)
