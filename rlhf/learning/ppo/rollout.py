"""One batch of PPO, RLOO or GRPO: answers, what they are worth, and how surprising that was.

B episodes of this process, T tokens of the longest answer, N valid answer tokens in row-major
order. `mask_BT` is True on the tokens of an answer, its EOS included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rlhf.learning.contract.hyperparameters import OnRollouts
from rlhf.learning.contract.records import Prompt
from rlhf.learning.contract.seeds import derive
from rlhf.learning.generation.engines import Engine, importance
from rlhf.learning.models.adapters import adapter_named, adapter_off
from rlhf.learning.models.losses import kl_k1, kl_k3
from rlhf.learning.models.networks import (
    Batch,
    PolicyNetwork,
    ScoreNetwork,
    collate,
    in_full,
    output_head,
)
from rlhf.learning.models.offload import Offloaded
from rlhf.learning.models.render import Encoded, Renderer
from rlhf.learning.models.rewards import ComposedReward

CRITIC = "critic"  # name of the adapter that values look through


class ActorCritic(nn.Module):
    """Policy and values: `critic` is a network of its own, or None for a head on the policy.

    With `adapter` that head looks through an adapter of its own, so that no gradient of the values
    reaches the policy.
    """

    def __init__(
        self, policy: PolicyNetwork, critic: ScoreNetwork | None, adapter: bool = False
    ) -> None:
        super().__init__()
        self.policy, self.critic, self.adapter = policy, critic, adapter
        if critic is None:
            self.value_head = nn.Linear(output_head(policy.lm).in_features, 1)
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)
            self.value_head.to(policy.lm.device)

    def forward(self, batch: Batch, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """(logprobs_N, entropy_N, values_N); a value is what is expected before its token."""
        logprobs_N, entropy_N, hidden_NH = self.policy(batch, temperature)
        if self.critic is None and not self.adapter:
            return logprobs_N, entropy_N, in_full(self.value_head, hidden_NH).squeeze(-1)
        return logprobs_N, entropy_N, self.values(batch)

    def values(self, batch: Batch) -> Tensor:
        before_BL = batch.keep_BL.roll(-1, dims=1)
        if self.critic is not None:
            return self.critic.values(batch)[before_BL]
        with adapter_named(self.policy, CRITIC) if self.adapter else nullcontext():
            hidden_NH = self.policy.hidden(batch)[before_BL]
        return in_full(self.value_head, hidden_NH).squeeze(-1)

    def critic_weights(self) -> dict[str, Tensor]:
        """What learns the values and lives in the policy's network: the head, and its adapter."""
        return {
            name: weight
            for name, weight in self.named_parameters()
            if name.startswith("value_head.") or f".{CRITIC}." in name
        }


@dataclass
class Rollout:
    """Answers of this process to a batch of prompts, and all that is known of their tokens.

    Log-probabilities are in nats at the sampling temperature; `weights_BT` correct for an engine
    whose own `engine_logprobs_BT` differ from them."""

    prompts: list[Prompt]
    episodes: list[Encoded]
    texts: list[str]
    mask_BT: Tensor
    logprobs_BT: Tensor
    ref_logprobs_BT: Tensor
    scores_B: Tensor
    engine_logprobs_BT: Tensor
    weights_BT: Tensor
    values_BT: Tensor = field(default_factory=lambda: torch.zeros(0))
    advantages_BT: Tensor = field(default_factory=lambda: torch.zeros(0))
    returns_BT: Tensor = field(default_factory=lambda: torch.zeros(0))
    parts_B: dict[str, Tensor] = field(default_factory=dict)  # of the scores, before their weights

    @property
    def lengths_B(self) -> Tensor:
        return self.mask_BT.sum(1)

    @property
    def kl_B(self) -> Tensor:
        """k1 summed over each answer, in nats."""
        return (kl_k1(self.logprobs_BT, self.ref_logprobs_BT) * self.mask_BT).sum(1)

    @property
    def kl_k3_B(self) -> Tensor:
        return (kl_k3(self.logprobs_BT, self.ref_logprobs_BT) * self.mask_BT).sum(1)

    @property
    def finished_B(self) -> Tensor:
        return torch.tensor([episode.finished for episode in self.episodes])

    def flat(self, values_BT: Tensor, rows: Sequence[int]) -> Tensor:
        """values_N of some rows, in the order in which the networks return theirs."""
        return values_BT[list(rows)][self.mask_BT[list(rows)]]

    def identical(self) -> float:
        """Share of the different prompts that got the most common answer."""
        given = {(prompt.key, text) for prompt, text in zip(self.prompts, self.texts, strict=True)}
        prompts = len({key for key, _ in given})
        most = Counter(text for _, text in given).most_common(1)[0][1]
        return most / prompts if prompts > 1 else 0.0


class Sampler:
    """Makes rollouts with the policy as it is now."""

    def __init__(
        self,
        policy: PolicyNetwork,
        reference: Offloaded[PolicyNetwork] | None,
        reward: ComposedReward,
        render: Renderer,
        engine: Engine,
        settings: OnRollouts,
        seed: int,
        autocast: Callable[[], AbstractContextManager[Any]],
        importance_cap: float = 2.0,
    ) -> None:
        """`reference` None: the policy with its adapter off. `autocast`: as the policy learns."""
        self.policy, self.reference, self.reward = policy, reference, reward
        self.render, self.engine, self.settings, self.seed = render, engine, settings, seed
        self.autocast, self.importance_cap = autocast, importance_cap

    @torch.no_grad()
    def rollout(self, prompts: Sequence[Prompt], names: Sequence[object]) -> Rollout:
        """Answers the prompts and scores the answers; `names` give each its own randomness."""
        settings, lm = self.settings, self.policy.lm
        # 1. Sample.
        ids = [self.render.prompt(prompt, settings.max_new_tokens) for prompt in prompts]
        drawn = self.engine.generate(ids, [derive(self.seed, "answer", name) for name in names])
        mask_BT, logprobs_BT = drawn.mask_BT, drawn.logprobs_BT
        finished = drawn.finished_B.tolist()
        answers = [row[keep].tolist() for row, keep in zip(drawn.ids_BT, mask_BT, strict=True)]
        episodes = [Encoded(*each) for each in zip(ids, answers, finished, strict=True)]
        texts = [self.render.text(answer) for answer in answers]
        weights_BT = torch.ones_like(logprobs_BT)
        if not self.engine.is_exact:
            logprobs_BT = self._per_token(
                episodes, mask_BT, lambda batch: self._logprobs(self.policy, batch)
            )
            weights_BT = importance(logprobs_BT, drawn.logprobs_BT, self.importance_cap)
        # 2. The same tokens under the reference, at the same temperature.
        own = nullcontext(self.policy)
        with self.reference.loaded() if self.reference else own as network, adapter_off(lm):
            ref_logprobs_BT = self._per_token(
                episodes, mask_BT, lambda batch: self._logprobs(network, batch)
            )
        # 3. Score the text, as a reader would see it; unfinished answers pay.
        parts_B = self.reward.parts(prompts, texts, finished)
        scores_B = self.reward.total(parts_B)
        unfinished_B = ~torch.tensor(finished)
        if settings.missing_eos == "subtract":
            scores_B = scores_B - settings.missing_eos_penalty * unfinished_B
        elif settings.missing_eos == "replace":
            scores_B = scores_B.masked_fill(unfinished_B, -settings.missing_eos_penalty)
        return Rollout(
            list(prompts),
            episodes,
            texts,
            mask_BT,
            logprobs_BT,
            ref_logprobs_BT,
            scores_B,
            drawn.logprobs_BT,
            weights_BT,
            torch.zeros(0) if drawn.values_BT is None else drawn.values_BT,
            parts_B=parts_B,
        )

    def _logprobs(self, network: PolicyNetwork, batch: Batch) -> Tensor:
        logprobs_N: Tensor = network(batch, self.settings.temperature, entropy=False)[0]
        return logprobs_N

    @torch.no_grad()
    def estimate_values(self, rollout: Rollout, values: Callable[[Batch], Tensor]) -> None:
        """Sets the values of a rollout, where no value head spoke while it was sampled."""
        if not rollout.values_BT.numel():
            rollout.values_BT = self._per_token(rollout.episodes, rollout.mask_BT, values)

    def _per_token(self, episodes: Sequence[Encoded], mask_BT: Tensor, forward: object) -> Tensor:
        """Something for every answer token, computed in micro-batches of like length."""
        assert callable(forward)
        result_BT = torch.zeros(mask_BT.shape)
        order = sorted(range(len(episodes)), key=lambda i: len(episodes[i].ids))
        size = self.settings.micro_batch_size
        device = self.policy.lm.device
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            with self.autocast():
                values_N = forward(collate([episodes[i] for i in rows], self.render.pad, device))
            part_RT = torch.zeros(len(rows), mask_BT.shape[1])
            part_RT[mask_BT[rows]] = values_N.float().cpu()
            result_BT[rows] = part_RT
        return result_BT
