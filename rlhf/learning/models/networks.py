"""The policy and the networks with a scalar head, and the batches they read.

Everything that is trained is run on right-padded rows `ids_BL` with an explicit `mask_BL` (True =
a real token) and a `keep_BL` (True = a token of the completion); padding is never recognised by its
id, so pad == eos is safe. A causal network never looks to the right, so these rows need no
attention mask, and nobody reads what it says of padding. B rows, L tokens of the longest row,
N kept tokens in row-major order, H hidden units, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from .losses import token_logprobs
from .render import Encoded

TEXTLESS = "ids_without_text"  # a buffer of a language model
NO_LOGIT = -1e30  # nothing is left of it in a softmax; times 0 it is 0, as -inf is not


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
        if getattr(lm.config, "_attn_implementation", "eager") != "eager":
            return seen_BLL[:, None]
        # Eager attention adds its mask.
        return torch.where(seen_BLL, 0.0, torch.finfo(lm.dtype).min)[:, None]

    def apart(self) -> Batch:
        """The packed texts, one a row, in the order in which they stand."""
        assert self.segments_BL is not None
        rows = self.ids_BL.shape[0]
        number_BL = torch.arange(rows, device=self.ids_BL.device)[:, None] * self.ids_BL.shape[1]
        number_N = (number_BL + self.segments_BL)[self.mask_BL]
        _, lengths = torch.unique_consecutive(number_N, return_counts=True)
        ids_TL, mask_TL, keep_TL = (
            pad_sequence(list(torch.split(each, lengths.tolist())), batch_first=True)
            for each in (
                *(self.ids_BL[self.mask_BL], torch.ones_like(number_N, dtype=torch.bool)),
                self.keep_BL[self.mask_BL],
            )
        )
        return Batch(ids_TL, mask_TL, keep_TL)


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


def trunk(model: PreTrainedModel, batch: Batch, row_tokens: float = math.inf) -> Tensor:
    """The final hidden state `hidden_BLH`; packed rows over `row_tokens` are read text by text."""
    if batch.segments_BL is not None and batch.ids_BL.shape[1] > row_tokens:
        apart = batch.apart()
        hidden_TLH = trunk(model, apart)
        hidden_BLH = hidden_TLH.new_zeros(*batch.ids_BL.shape, hidden_TLH.shape[-1])
        hidden_BLH[batch.mask_BL] = hidden_TLH[apart.mask_BL]
        return hidden_BLH
    # Not every family takes a mask and positions, and only packed rows need them.
    more = {"attention_mask": batch.attention(model), "position_ids": batch.positions_BL}
    told = {name: each for name, each in more.items() if each is not None}
    out = model.base_model(input_ids=batch.ids_BL, use_cache=False, **told)
    hidden: Tensor = out.last_hidden_state
    return hidden


class PolicyNetwork(nn.Module):
    """A causal language model that says how likely given completions were.

    `stored` is the precision its folder had, and is going to have. A packed row of more than
    `row_tokens` is read text by text: a sliding window, a recurrent layer or positions that cannot
    be given would let one text see another, or not all of itself."""

    def __init__(
        self,
        lm: PreTrainedModel,
        stored: torch.dtype = torch.float32,
        row_tokens: float = math.inf,
    ) -> None:
        super().__init__()
        self.lm, self.stored, self.row_tokens = lm, stored, row_tokens

    def hidden(self, batch: Batch) -> Tensor:
        """The final hidden state `hidden_BLH`, before the LM head."""
        return trunk(self.lm, batch, self.row_tokens)

    def forward(
        self, batch: Batch, temperature: float = 1.0, entropy: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(logprobs_N, entropy_N, hidden_NH) of the kept tokens; entropy 0 where not asked for.

        The hidden state that predicts token i stands at i - 1; the LM head runs on those alone.
        """
        before_BL = batch.keep_BL.roll(-1, dims=1)
        hidden_NH = self.hidden(batch)[before_BL]
        logprobs_N, entropy_N = token_logprobs(
            hidden_NH, LMHead(self.lm), batch.ids_BL[batch.keep_BL], temperature, entropy
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
    """A language model's trunk with one scalar head or several: the reward model, the critic.

    `stored`: see PolicyNetwork."""

    def __init__(self, model: PreTrainedModel, stored: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.model, self.stored = model, stored
        self.bias = nn.Parameter(torch.zeros(1), requires_grad=False)

    @property
    def head(self) -> nn.Linear:
        score = self.model.score
        assert isinstance(score, nn.Linear)
        return score

    def everywhere(self, batch: Batch) -> Tensor:
        """What each head E says at every position, values_BLE."""
        return in_full(self.head, trunk(self.model, batch)) + self.bias

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


class LMHead:
    """Hidden states to logits the way the family does it: its linear layer, the factor of Cohere
    and Granite, the soft cap of Gemma 2 (arXiv 2408.00118, section 2: cap * tanh(logits / cap)).

    Ids that stand for no text (a vocabulary padded to a round number) get no probability."""

    def __init__(self, lm: PreTrainedModel) -> None:
        self.linear, self.out_features = output_head(lm), output_head(lm).out_features
        config = lm.config.get_text_config()
        self.factor = getattr(config, "logit_scale", None) or 1.0
        self.factor /= getattr(config, "logits_scaling", None) or 1.0
        self.cap: float | None = getattr(config, "final_logit_softcapping", None)
        self.textless: Tensor | None = getattr(lm, TEXTLESS, None)

    def __call__(self, hidden: Tensor) -> Tensor:
        return self.finish(self.linear(hidden))

    def finish(self, logits: Tensor) -> Tensor:
        """Logits from what the linear layer says."""
        if self.factor != 1:
            logits = logits * self.factor
        if self.cap:
            logits = self.cap * torch.tanh(logits / self.cap)
        if self.textless is not None:
            logits = logits.index_fill(-1, self.textless, NO_LOGIT)
        return logits


def silence(lm: PreTrainedModel, ids: Sequence[int]) -> None:
    """Takes the probability of these ids away, in learning and in sampling."""
    if ids:
        lm.register_buffer(TEXTLESS, torch.tensor(ids, device=lm.device), persistent=False)
