"""Answers from a policy: one batched decode, stops compacted away, randomness handed in.

A token is drawn by inverting the CDF at a uniform number that belongs to (answer, position), so an
answer depends on its own seed alone, and neither on its neighbours nor on who finished before it.
B answers, P prompt tokens (left-padded), T answer tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf.learning.models.networks import LMHead

from .decoding import decoder, product


@dataclass(frozen=True)
class Answer:
    """Token ids with EOS when finished; their log-probabilities in nats under the sampler.

    `values_T`: what a value head said before each token, where one listened.
    """

    ids: list[int]
    logprobs_T: Tensor
    finished: bool
    values_T: Tensor | None = None


def uniforms(seeds: Iterable[int], length: int) -> Tensor:
    """uniforms_BT, one row a seed."""
    return torch.stack(
        [torch.rand(length, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )


def draw(logits_BV: Tensor, uniforms_B: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(ids_B, logprobs_B): the first token whose cumulative probability passes the uniform.

    Temperature 0 takes the most likely token.
    """
    if temperature == 0:
        logprobs_B, ids_B = logits_BV.float().log_softmax(-1).max(-1)
        return ids_B, logprobs_B
    logits_BV = logits_BV.float() if temperature == 1 else logits_BV.float() / temperature
    probabilities_BV = logits_BV.softmax(-1)
    cdf_BV = probabilities_BV.cumsum(-1)
    threshold_B1 = uniforms_B[:, None].to(cdf_BV) * cdf_BV[:, -1:]
    ids_B1 = torch.searchsorted(cdf_BV, threshold_B1, right=True).clamp(max=cdf_BV.shape[1] - 1)
    return ids_B1.squeeze(1), probabilities_BV.gather(1, ids_B1).squeeze(1).log()


def within(logits_BV: Tensor, top_p: float, temperature: float) -> Tensor:
    """The logits with -inf for all but the fewest tokens that have `top_p` of the probability
    together (nucleus sampling, arXiv 1904.09751, section 3.1)."""
    if top_p >= 1 or temperature == 0:
        return logits_BV
    probabilities_BV, ids_BV = (logits_BV.float() / temperature).softmax(-1).sort(-1, True)
    before_BV = probabilities_BV.cumsum(-1) - probabilities_BV
    outside_BV = (before_BV >= top_p).scatter(-1, ids_BV, before_BV >= top_p)
    outside_BV.scatter_(-1, ids_BV[:, :1], False)
    return logits_BV.masked_fill(outside_BV, -torch.inf)


@torch.no_grad()
def generate(
    lm: PreTrainedModel,
    prompts: Sequence[list[int]],
    uniforms_BT: Tensor,
    temperature: float,
    stops: Sequence[int],
    pad: int,
    value_head: nn.Linear | None = None,
) -> list[Answer]:
    """Answers the prompts with one batched decode; a row that ends leaves the batch.

    `uniforms_BT` holds one number in [0, 1) for each answer and token; T is the longest answer.
    Temperature 0 is greedy. With a `value_head`, its values are kept as well."""
    device = lm.device
    count, length = uniforms_BT.shape
    head = LMHead(lm)
    project = product(head.linear, count)
    uniforms_BT = uniforms_BT.to(device)
    # 1. Left-pad, so that every row's next token comes in the same column.
    longest = max(map(len, prompts))
    ids = torch.full((count, longest), pad, device=device)
    mask = torch.zeros(count, longest, dtype=torch.long, device=device)
    for i, prompt in enumerate(prompts):
        ids[i, longest - len(prompt) :] = torch.tensor(prompt, device=device)
        mask[i, longest - len(prompt) :] = 1
    tokens_BT = torch.zeros(count, length, dtype=torch.long, device=device)
    logprobs_BT = torch.zeros(count, length, device=device)
    values_BT = torch.zeros(count, length, device=device)
    lengths_B = torch.zeros(count, dtype=torch.long, device=device)
    finished_B = torch.zeros(count, dtype=torch.bool, device=device)
    stops_S = torch.tensor(list(stops), device=device)
    rows = torch.arange(count, device=device)  # whose answer each live row is
    decode = decoder(lm, length)
    hidden = decode.begin(ids, mask)
    for t in range(length):
        # 2. A token for each live row, from what the last one led to.
        chosen, logprobs = draw(head.finish(project(hidden)), uniforms_BT[rows, t], temperature)
        if value_head is not None:
            values_BT[rows, t] = value_head(hidden.float()).squeeze(-1)
        tokens_BT[rows, t], logprobs_BT[rows, t] = chosen, logprobs
        lengths_B[rows] = t + 1
        # 3. Finished rows leave the batch and the cache.
        done = torch.isin(chosen, stops_S)
        finished_B[rows[done]] = True
        if done.any():
            live = (~done).nonzero().squeeze(1)
            decode.keep(live)
            rows, chosen = rows[live], chosen[live]
        if not len(rows) or t + 1 == length:
            break
        hidden = decode.advance(chosen)
    return [
        Answer(
            tokens_BT[i, :n].tolist(),
            logprobs_BT[i, :n].clone(),
            finished,
            None if value_head is None else values_BT[i, :n].clone(),
        )
        for i, (n, finished) in enumerate(zip(lengths_B.tolist(), finished_B.tolist(), strict=True))
    ]
