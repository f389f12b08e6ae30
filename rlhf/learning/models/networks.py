"""The policy and the networks with a scalar head, and the batches they read.

Everything that is trained is run on right-padded rows `ids_BL` with an explicit `mask_BL` (True =
a real token) and a `keep_BL` (True = a token of the completion); padding is never recognised by its
id, so pad == eos is safe. A causal network never looks to the right, so these rows need no
attention mask, and nobody reads what it says of padding. B rows, L tokens of the longest row,
N kept tokens in row-major order, H hidden units, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .losses import token_logprobs
from .render import Encoded


class Batch(NamedTuple):
    """`segments_BL` numbers the texts packed into a row from 1 (0 = padding); none sees another."""

    ids_BL: Tensor
    mask_BL: Tensor
    keep_BL: Tensor
    segments_BL: Tensor | None = None

    @property
    def positions_BL(self) -> Tensor | None:
        """Place of every token in its own text; None = in its row."""
        if self.segments_BL is None:
            return None
        place_L = torch.arange(self.ids_BL.shape[1], device=self.ids_BL.device)
        begins_BL = self.segments_BL.diff(dim=1, prepend=self.segments_BL[:, :1] * 0 - 1) != 0
        return place_L - (place_L * begins_BL).cummax(1).values

    def attention(self, lm: PreTrainedModel) -> Tensor | None:
        """What transformers takes as attention_mask: None = causal, B x 1 x L x L when packed."""
        if self.segments_BL is None:
            return None
        seen_BLL = (self.segments_BL[:, :, None] == self.segments_BL[:, None, :]).tril()
        if lm.config._attn_implementation != "eager":
            return seen_BLL[:, None]
        # Eager attention adds its mask.
        return torch.where(seen_BLL, 0.0, torch.finfo(lm.dtype).min)[:, None]


def positions(mask_BL: Tensor) -> Tensor:
    """Place of every real token in its own row, whatever the padding."""
    return (mask_BL.long().cumsum(-1) - 1).clamp(min=0)


def collate(rows: Sequence[Encoded], pad: int, device: torch.device | str = "cpu") -> Batch:
    """Makes right-padded tensors of rows, on the device: ids_BL, mask_BL and keep_BL."""
    longest = max(len(row.ids) for row in rows)
    ids_BL = torch.full((len(rows), longest), pad)
    mask_BL = torch.zeros(len(rows), longest, dtype=torch.bool)
    keep_BL = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids_BL[i, : len(row.ids)] = torch.tensor(row.ids)
        mask_BL[i, : len(row.ids)] = True
        keep_BL[i, len(row.prompt) : len(row.ids)] = True
    return Batch(ids_BL.to(device), mask_BL.to(device), keep_BL.to(device))


def last_valid(mask_BL: Tensor) -> Tensor:
    """Index of the last real token of each row."""
    length = mask_BL.shape[-1]
    return length - 1 - mask_BL.flip(-1).long().argmax(-1)


class PolicyNetwork(nn.Module):
    """A causal language model that says how likely given completions were."""

    def __init__(self, lm: PreTrainedModel) -> None:
        super().__init__()
        self.lm = lm

    def hidden(self, batch: Batch) -> Tensor:
        """The final hidden state `hidden_BLH`, before the LM head."""
        out = self.lm.base_model(
            input_ids=batch.ids_BL,
            attention_mask=batch.attention(self.lm),
            position_ids=batch.positions_BL,
            use_cache=False,
        )
        hidden_BLH: Tensor = out.last_hidden_state
        return hidden_BLH

    def forward(
        self, batch: Batch, temperature: float = 1.0, entropy: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(logprobs_N, entropy_N, hidden_NH) of the kept tokens; entropy 0 where not asked for.

        The hidden state that predicts token i stands at i - 1; the LM head runs on those alone.
        """
        before_BL = batch.keep_BL.roll(-1, dims=1)
        hidden_NH = self.hidden(batch)[before_BL]
        logprobs_N, entropy_N = token_logprobs(
            hidden_NH, output_head(self.lm), batch.ids_BL[batch.keep_BL], temperature, entropy
        )
        return logprobs_N, entropy_N, hidden_NH


class SequenceLogprob(nn.Module):
    """logprobs_B: how likely a policy gives each whole answer, in nats."""

    def __init__(self, policy: PolicyNetwork) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, batch: Batch) -> Tensor:
        logprobs_N, _, _ = self.policy(batch, entropy=False)
        row_N = batch.keep_BL.nonzero()[:, 0]
        logprobs_B: Tensor = logprobs_N.new_zeros(len(batch.ids_BL))
        return logprobs_B.index_add(0, row_N, logprobs_N)


class ScoreNetwork(nn.Module):
    """A language model's trunk with one scalar head or several: the reward model, the critic."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.bias = nn.Parameter(torch.zeros(1), requires_grad=False)

    @property
    def head(self) -> nn.Linear:
        score = self.model.score
        assert isinstance(score, nn.Linear)
        return score

    def everywhere(self, batch: Batch) -> Tensor:
        """What each head E says at every position, values_BLE."""
        out = self.model.base_model(
            input_ids=batch.ids_BL,
            attention_mask=batch.attention(self.model),
            position_ids=batch.positions_BL,
            use_cache=False,
        )
        return in_full(self.head, out.last_hidden_state) + self.bias

    def values(self, batch: Batch) -> Tensor:
        """values_BL, one number at every position: the mean of the heads."""
        return self.everywhere(batch).mean(-1)

    def forward(self, batch: Batch) -> Tensor:
        """scores_BE of each head, read at the last real token of each row."""
        row_B = torch.arange(len(batch.mask_BL), device=batch.mask_BL.device)
        return self.everywhere(batch)[row_B, last_valid(batch.mask_BL)]


def in_full(head: nn.Linear, hidden: Tensor) -> Tensor:
    """What a scalar head says, in fp32 where the trunk is in bf16 too: that knows no number
    between 2 and 2.016, and two answers would often have the same score."""
    with torch.autocast(hidden.device.type, enabled=False):
        said: Tensor = head(hidden.float())
    return said


def output_head(lm: PreTrainedModel) -> nn.Linear:
    """The LM head of a causal language model, H hidden units to V logits."""
    head = lm.get_output_embeddings()  # type: ignore[no-untyped-call]
    assert isinstance(head, nn.Linear)
    return head
