"""Decoding step by step says what transformers says, whatever the model is built like."""

import pytest
import torch
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, Qwen2Config
from transformers import LlamaForCausalLM as Llama
from transformers import Qwen2ForCausalLM as Qwen2

from rlhf.learning.contract.hyperparameters import Tune
from rlhf.learning.generation.decoding import THIN, Decoder, LlamaDecoder, decoder, product
from rlhf.learning.models import adapters

SMALL = {
    "vocab_size": 50,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
ROPE = {"rope_theta": 10000.0}
BUILT = {
    "grouped queries": (Llama, LlamaConfig, {}),
    "a key head for each query": (Llama, LlamaConfig, {"num_key_value_heads": 4}),
    "one key head": (Llama, LlamaConfig, {"num_key_value_heads": 1}),
    "biases": (Llama, LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "wide heads": (Llama, LlamaConfig, {"head_dim": 16}),
    "another activation": (Llama, LlamaConfig, {"hidden_act": "gelu"}),
    "rotations stretched": (
        *(Llama, LlamaConfig),
        {"rope_parameters": {**ROPE, "rope_type": "linear", "factor": 4.0}},
    ),
    "rotations of Llama 3": (
        *(Llama, LlamaConfig),
        {
            "rope_parameters": {
                **ROPE,
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            }
        },
    ),
    "Qwen2": (Qwen2, Qwen2Config, {}),
}


def made(model, config, more):
    torch.manual_seed(0)
    lm = model(config(**{**SMALL, **more})).eval()
    for name, weight in lm.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.normal_(weight, mean=1.0, std=0.5)
    return lm


def walk(decode, rows):
    """What is said on the way: prompts of several lengths, six tokens, rows that leave early."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(2, 50, (rows, 7), generator=generator)
    mask = (torch.arange(7) >= torch.arange(rows)[:, None] % 5).long()
    said = [decode.begin(ids * mask, mask)]
    for step in range(6):
        if step in (2, 4) and rows > 1:
            stay = torch.arange(len(said[-1])) % 3 != step // 2
            decode.keep(stay.nonzero().squeeze(1))
            said.append(said[-1][stay])
        said.append(decode.advance(torch.randint(2, 50, (len(said[-1]),), generator=generator)))
    return said


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 5, THIN + 1])
@pytest.mark.parametrize("built", BUILT)
def test_a_llama_is_decoded_as_transformers_decodes_it(built, rows):
    lm = made(*BUILT[built])
    decode = decoder(lm, 6)
    assert type(decode) is LlamaDecoder
    for ours, theirs in zip(walk(decode, rows), walk(Decoder(lm), rows), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


@torch.no_grad()
def test_in_half_precision_too():
    lm = made(*BUILT["grouped queries"]).to(torch.bfloat16)
    for ours, theirs in zip(walk(decoder(lm, 6), 5), walk(Decoder(lm), 5), strict=True):
        assert ours.dtype == torch.bfloat16
        assert functional.cosine_similarity(ours.float(), theirs.float()).min() > 0.999


@torch.no_grad()
@pytest.mark.parametrize(
    ("model", "config", "more"),
    [
        (GPT2LMHeadModel, GPT2Config, {"n_positions": 64}),
        (
            *(Qwen2, Qwen2Config),
            {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
        ),
        (
            *(Llama, LlamaConfig),
            {"rope_parameters": {**ROPE, "rope_type": "dynamic", "factor": 2.0}},
        ),
    ],
)
def test_what_is_built_otherwise_goes_through_transformers(model, config, more):
    decode = decoder(made(model, config, more), 6)
    assert type(decode) is Decoder
    assert all(torch.isfinite(hidden).all() for hidden in walk(decode, 5))


@torch.no_grad()
def test_an_adapter_is_decoded_beside_the_weights_or_in_them():
    lm = made(*BUILT["biases"])
    adapters.choose_weights(lm, Tune("lora", rank=2))
    for name, weight in lm.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    assert type(decoder(lm, 6)) is Decoder
    beside = walk(Decoder(lm), 5)
    with adapters.merged(lm):
        assert type(decoder(lm, 6)) is LlamaDecoder
        for ours, theirs in zip(walk(decoder(lm, 6), 5), beside, strict=True):
            # Folded in, an adapter is added up in another order.
            torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)
    with adapters.adapter_off(lm):
        assert (walk(decoder(lm, 6), 5)[0] - beside[0]).abs().max() > 1e-3


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, THIN, THIN + 1])
def test_a_product_from_the_left_is_the_same(rows, bias):
    layer, x = torch.nn.Linear(8, 5, bias=bias), torch.randn(rows, 8)
    torch.testing.assert_close(product(layer, rows)(x), layer(x))
