"""Attention over short rows on a CPU, as two batched products.

torch's flash attention for CPUs goes through a row in blocks of 32 queries. With rows of a hundred
tokens or so most of its time goes into that, and even more of it backwards; the weights of all
queries at once are then small enough to be kept. What it is asked beside that goes to torch.
B rows, T tokens, H query heads, G key heads, D units of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "short_rows"
LONGEST = 128  # tokens


def attend(
    module: nn.Module,
    query_BHTD: Tensor,
    key_BGTD: Tensor,
    value_BGTD: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """out_BTHD, in transformers' form; without a mask every token sees those up to itself."""
    count, heads, length, size = query_BHTD.shape
    is_short = attention_mask is None and 1 < length == key_BGTD.shape[2] <= LONGEST
    if not (is_short and query_BHTD.is_cpu):
        said: tuple[Tensor, None] = sdpa_attention_forward(
            module, query_BHTD, key_BGTD, value_BGTD, attention_mask, scaling=scaling, **more
        )
        return said
    groups = key_BGTD.shape[1]
    key_XTD, value_XTD = key_BGTD.flatten(0, 1), value_BGTD.flatten(0, 1)
    query_XQD = query_BHTD.reshape(count * groups, -1, size)
    future_TT = query_BHTD.new_full((length, length), -torch.inf).triu(1)
    scores_XQT = torch.baddbmm(
        future_TT.repeat(heads // groups, 1),
        query_XQD,
        key_XTD.mT,
        alpha=size**-0.5 if scaling is None else scaling,
    )
    out_XQD = torch.bmm(scores_XQT.softmax(-1), value_XTD)
    return out_XQD.view(count, heads, length, size).transpose(1, 2), None


def attend_short_rows(model: PreTrainedModel) -> None:
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
