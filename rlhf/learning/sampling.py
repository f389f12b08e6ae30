"""Answers from a policy: one batched decode, stops compacted away, randomness handed in.

A token is drawn by inverting the CDF at a uniform number that belongs to (answer, position), so an
answer depends on its own seed alone, and neither on its neighbours nor on who finished before it.
B answers, P prompt tokens (left-padded), T answer tokens, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel

from .networks import output_head, positions

THIN = 64  # rows


@dataclass(frozen=True)
class Answer:
    """Token ids with EOS when finished; their log-probabilities in nats under the sampler.

    `values_T`: what a value head said before each token, where one listened.
    """

    ids: list[int]
    logprobs_T: Tensor
    finished: bool
    values_T: Tensor | None = None


def derive(*parts: object) -> int:
    """A seed that follows from named parts: no generator whose state could be forgotten."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


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
    all_BV = (logits_BV.float() / temperature).log_softmax(-1)
    cdf_BV = all_BV.exp().cumsum(-1)
    threshold_B1 = uniforms_B[:, None].to(cdf_BV) * cdf_BV[:, -1:]
    ids_B1 = torch.searchsorted(cdf_BV, threshold_B1, right=True).clamp(max=all_BV.shape[1] - 1)
    return ids_B1.squeeze(1), all_BV.gather(1, ids_B1).squeeze(1)


@contextmanager
def thin(lm: nn.Module) -> Iterator[None]:
    """Linear layers multiply from the left: y = (W xᵀ)ᵀ, the same product.

    With a few rows in x a CPU reads W a third faster that way; a GPU does not care.
    """
    layers = [each for each in lm.modules() if type(each) is nn.Linear and each.weight.is_cpu]
    for layer in layers:
        layer.forward = partial(_from_the_left, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _from_the_left(layer: nn.Linear, x: Tensor) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) > THIN or layer.weight.dtype != torch.float32:
        return functional.linear(x, layer.weight, layer.bias)
    y = (layer.weight @ rows.T).T
    if layer.bias is not None:
        y = y + layer.bias
    return y.reshape(*x.shape[:-1], layer.out_features)


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
    device, head = lm.device, output_head(lm)
    count, length = uniforms_BT.shape
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
    cache = DynamicCache(config=lm.config)
    rows = torch.arange(count, device=device)  # whose answer each live row is
    step_positions = positions(mask)
    with thin(lm):
        for t in range(length):
            # 2. One forward of the live rows: the prompt first, then a token at a time.
            out = lm.base_model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=step_positions,
                past_key_values=cache,
                use_cache=True,
            )
            hidden = out.last_hidden_state[:, -1]
            logits = head(hidden)
            chosen, logprobs = draw(logits, uniforms_BT[rows, t], temperature)
            if value_head is not None:
                values_BT[rows, t] = value_head(hidden.float()).squeeze(-1)
            tokens_BT[rows, t], logprobs_BT[rows, t] = chosen, logprobs
            lengths_B[rows] = t + 1
            # 3. Finished rows leave the batch and the cache.
            done = torch.isin(chosen, stops_S)
            finished_B[rows[done]] = True
            if done.any():
                live = (~done).nonzero().squeeze(1)
                if not len(live):
                    break
                cache.batch_select_indices(live)
                rows, mask, chosen = rows[live], mask[live], chosen[live]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
            ids, step_positions = chosen[:, None], positions(mask)[:, -1:]
    return [
        Answer(
            tokens_BT[i, :n].tolist(),
            logprobs_BT[i, :n].clone(),
            finished,
            None if value_head is None else values_BT[i, :n].clone(),
        )
        for i, (n, finished) in enumerate(zip(lengths_B.tolist(), finished_B.tolist(), strict=True))
    ]
