"""Decoding: the hidden state after every new token, from a cache of keys and values.

transformers spends a millisecond of Python on a layer and a token, more than the arithmetic takes
in a small model. `LlamaDecoder` does the same sums with a tenth of the calls; a model that is no
Llama goes through transformers itself.
B answers, P columns of the left-padded prompts, S columns with those to come, H hidden units,
G pairs of an answer and a key head, Q queries of a key head, D units of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, LlamaModel, PreTrainedModel, Qwen2Model
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from rlhf.learning.models.networks import positions

THIN = 64  # rows
FIXED_ROTATIONS = ("default", "linear", "llama3", "yarn")  # whatever the length
WithMore = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Decoder:
    """Any model, a token at a time, through transformers."""

    def __init__(self, lm: PreTrainedModel) -> None:
        self.lm: PreTrainedModel = lm
        self.cache: Any = DynamicCache(config=lm.config)

    def begin(self, ids_BP: Tensor, mask_BP: Tensor) -> Tensor:
        """hidden_BH after the last token of each prompt, which ends in the last column."""
        self.mask_BS = mask_BP
        return self._read(ids_BP, positions(mask_BP))

    def advance(self, ids_B: Tensor) -> Tensor:
        """hidden_BH after one token more for every answer."""
        self.mask_BS = functional.pad(self.mask_BS, (0, 1), value=1)
        return self._read(ids_B[:, None], positions(self.mask_BS)[:, -1:])

    def keep(self, rows: Tensor) -> None:
        """Goes on with these answers alone."""
        self.mask_BS = self.mask_BS[rows]
        self.cache.batch_select_indices(rows)

    def _read(self, ids_BP: Tensor, positions_BP: Tensor) -> Tensor:
        takes_positions = "position_ids" in signature(self.lm.base_model.forward).parameters
        out = self.lm.base_model(
            input_ids=ids_BP,
            attention_mask=self.mask_BS,
            past_key_values=self.cache,
            use_cache=True,
            **({"position_ids": positions_BP} if takes_positions else {}),
        )
        hidden_BH: Tensor = out.last_hidden_state[:, -1]
        return hidden_BH


class Rereader(Decoder):
    """Reads every answer again from its first token: slow, and right for any causal network.

    For recurrent layers, whose state cannot skip padding, nor forget the rows that have ended."""

    def __init__(self, lm: PreTrainedModel) -> None:
        self.lm = lm

    def begin(self, ids_BP: Tensor, mask_BP: Tensor) -> Tensor:
        self.rows = [ids[mask.bool()] for ids, mask in zip(ids_BP, mask_BP, strict=True)]
        return self._hidden()

    def advance(self, ids_B: Tensor) -> Tensor:
        self.rows = [torch.cat([row, ids_B[i : i + 1]]) for i, row in enumerate(self.rows)]
        return self._hidden()

    def keep(self, rows: Tensor) -> None:
        self.rows = [self.rows[i] for i in rows.tolist()]

    def _hidden(self) -> Tensor:
        ids_BL = pad_sequence(self.rows, batch_first=True)  # a causal network sees no padding
        out = self.lm.base_model(input_ids=ids_BL, use_cache=False)
        last_B = torch.tensor([len(row) - 1 for row in self.rows], device=ids_BL.device)
        hidden_BH: Tensor = out.last_hidden_state[torch.arange(len(last_B)), last_B]
        return hidden_BH


class LlamaDecoder(Decoder):
    """A Llama, or what is built like one: transformers reads the prompts, and we what follows."""

    def __init__(self, lm: PreTrainedModel, room: int) -> None:
        """`room` for so many tokens after the prompt."""
        super().__init__(lm)
        self.room = room

    def begin(self, ids_BP: Tensor, mask_BP: Tensor) -> Tensor:
        hidden_BH = super().begin(ids_BP, mask_BP)
        model: Any = self.lm.base_model
        self.length = ids_BP.shape[1]
        self.place_B = mask_BP.sum(1)
        self.layers = [Layer(each, len(ids_BP)) for each in model.layers]
        self.pasts = [_Past(each.keys, each.values, self.room) for each in self.cache.layers]
        self.cache.reset()  # the pasts are copies
        places = torch.arange(self.length + self.room, device=ids_BP.device)
        cos_1SD, sin_1SD = model.rotary_emb(hidden_BH, places[None])
        self.cos_SD, self.sin_SD = cos_1SD[0], sin_1SD[0]
        unseen_BS = functional.pad(~mask_BP.bool(), (0, self.room))
        self.bias_BS = hidden_BH.new_zeros(unseen_BS.shape).masked_fill(unseen_BS, -torch.inf)
        return hidden_BH

    def advance(self, ids_B: Tensor) -> Tensor:
        model: Any = self.lm.base_model
        cos_B1D, sin_B1D = self.cos_SD[self.place_B, None], self.sin_SD[self.place_B, None]
        bias_G1S = self.bias_BS.repeat_interleave(self.layers[0].key_heads, 0)[:, None]
        x_BH = model.embed_tokens(ids_B)
        for layer, past in zip(self.layers, self.pasts, strict=True):
            x_BH = layer.after(x_BH, past.with_more, cos_B1D, sin_B1D, bias_G1S)
        self.length += 1
        self.place_B = self.place_B + 1
        hidden_BH: Tensor = model.norm(x_BH)
        return hidden_BH

    def keep(self, rows: Tensor) -> None:
        self.place_B, self.bias_BS = self.place_B[rows], self.bias_BS[rows]
        for past in self.pasts:
            past.keep(rows)


class _Past:
    """What one layer remembers of rows that all stand in the same column."""

    def __init__(self, keys_BGPD: Tensor, values_BGPD: Tensor, room: int) -> None:
        _, self.key_heads, self.length, _ = keys_BGPD.shape
        self.keys_GSD, self.values_GSD = (
            functional.pad(past, (0, 0, 0, room)).flatten(0, 1) for past in (keys_BGPD, values_BGPD)
        )

    def with_more(self, keys_BGD: Tensor, values_BGD: Tensor) -> tuple[Tensor, Tensor]:
        """Adds a column; all there are."""
        self.keys_GSD[:, self.length] = keys_BGD.flatten(0, 1)
        self.values_GSD[:, self.length] = values_BGD.flatten(0, 1)
        self.length += 1
        return self.keys_GSD[:, : self.length], self.values_GSD[:, : self.length]

    def keep(self, rows: Tensor) -> None:
        self.keys_GSD, self.values_GSD = (
            past.view(-1, self.key_heads, *past.shape[1:])[rows].flatten(0, 1)
            for past in (self.keys_GSD, self.values_GSD)
        )


class Layer:
    """One layer's sums, for a token of every row. It remembers nothing."""

    def __init__(self, layer: Any, rows: int) -> None:
        """`rows` at most."""
        attention, mlp = layer.self_attn, layer.mlp
        self.scale, self.size = attention.scaling, attention.head_dim
        self.key_heads = plain(attention.k_proj).out_features // self.size
        self.before, self.between = layer.input_layernorm, layer.post_attention_layernorm
        self.queries, self.keys, self.values, self.join, self.gate, self.up, self.down = (
            product(each, rows)
            for each in (
                *(attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj),
                *(mlp.gate_proj, mlp.up_proj, mlp.down_proj),
            )
        )
        self.activation = mlp.act_fn

    def after(
        self, x_BH: Tensor, with_more: WithMore, cos_B1D: Tensor, sin_B1D: Tensor, bias_G1S: Tensor
    ) -> Tensor:
        """x_BH after the layer. `with_more` remembers this token's keys_BGD and values_BGD, and
        returns keys_GSD and values_GSD of all so far; `bias_G1S` is -inf for what is not seen."""
        count, size = len(x_BH), self.size
        # 1. Queries and keys, turned by where they stand (RoPE, arXiv 2104.09864 section 3.4.2).
        n_BH = _normed(self.before, x_BH)
        both = torch.cat([self.queries(n_BH), self.keys(n_BH)], 1).view(count, -1, size)
        left, right = both.chunk(2, -1)
        both = both * cos_B1D + torch.cat([-right, left], -1) * sin_B1D
        # 2. Every query looks at the past of its key head.
        queries_GQD = both[:, : -self.key_heads].reshape(count * self.key_heads, -1, size)
        keys_GSD, values_GSD = with_more(
            both[:, -self.key_heads :], self.values(n_BH).view(count, -1, size)
        )
        scores_GQS = torch.baddbmm(
            bias_G1S[:, :, : keys_GSD.shape[1]], queries_GQD, keys_GSD.mT, alpha=self.scale
        )
        weights_GQS = scores_GQS.softmax(-1, dtype=torch.float32).to(x_BH.dtype)
        x_BH = x_BH + self.join(torch.bmm(weights_GQS, values_GSD).view(count, -1))
        # 3. And then the MLP.
        n_BH = _normed(self.between, x_BH)
        return x_BH + self.down(self.activation(self.gate(n_BH)) * self.up(n_BH))


def decoder(lm: PreTrainedModel, room: int) -> Decoder:
    """What decodes this model fastest, with `room` tokens to come."""
    if is_like_llama(lm):
        return LlamaDecoder(lm, room)
    return Decoder(lm) if _can_be_cached(lm) else Rereader(lm)


def _can_be_cached(lm: PreTrainedModel) -> bool:
    """All layers attend, so that a cache of keys and values is all they remember."""
    if "past_key_values" not in signature(lm.base_model.forward).parameters:
        return False
    layers = DynamicCache(config=lm.config).layers
    return not any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers)


def is_like_llama(lm: PreTrainedModel) -> bool:
    """Whether `Layer` does the same sums as its layers."""
    model: Any = lm.base_model
    if type(model) not in (LlamaModel, Qwen2Model):
        return False
    slides = "sliding_attention" in (getattr(lm.config, "layer_types", None) or ())
    if slides or model.rotary_emb.rope_type not in FIXED_ROTATIONS:
        return False
    return all(
        type(plain(each)) is nn.Linear and type(plain(each).weight) is nn.Parameter
        for name, each in model.layers.named_modules()
        if name.endswith("_proj")
    )


def plain(layer: Any) -> Any:
    """The linear layer under an adapter that is off."""
    is_off = isinstance(layer, LoraLayer) and layer.disable_adapters
    return layer.get_base_layer() if is_off else layer


def product(layer: Any, rows: int) -> Callable[[Tensor], Tensor]:
    """y = x Wᵀ + b. With a few rows in x a CPU reads W a third faster as y = (W xᵀ)ᵀ."""
    weight, bias = plain(layer).weight, plain(layer).bias
    if rows > THIN or not weight.is_cpu or weight.dtype != torch.float32:
        return partial(functional.linear, weight=weight, bias=bias)
    if bias is None:
        return lambda x_BH: (weight @ x_BH.mT).mT
    return lambda x_BH: torch.addmm(bias[:, None], weight, x_BH.mT).mT


def _normed(norm: Any, x_BH: Tensor) -> Tensor:
    return functional.rms_norm(x_BH, x_BH.shape[-1:], norm.weight, norm.variance_epsilon)
