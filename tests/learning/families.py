"""Tiny random models of the families people bring, with a tokenizer and rows for every kind."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

WORDS = (
    *("the", "a", "red", "blue", "green", "cat", "dog", "bird", "sky", "sea", "tree", "says"),
    *("sings", "eats", "runs", "tells", "why", "how", "what", "is", "in", "on", "under", "over"),
    *("happy", "sad", "big", "small", "answer", "question", "please", "write", "poem", "story"),
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PAD, END, START = "<pad>", "<|im_end|>", "<|im_start|>"
SHAPE: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 256, "initializer_range": 0.15,
}  # fmt: skip
SHARED: dict[str, Any] = {"num_key_value_heads": 2}
HEADS: dict[str, Any] = {"head_dim": 16}
APART: dict[str, Any] = {"tie_word_embeddings": False}
OPT: dict[str, Any] = {
    "hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 256, "init_std": 0.15,
}  # fmt: skip
EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
LATENT: dict[str, Any] = dict(  # multi-head latent attention
    num_key_value_heads=4, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8,
    v_head_dim=16, n_routed_experts=4, n_shared_experts=1, n_group=1, topk_group=1,
    first_k_dense_replace=1, **EXPERTS,
)  # fmt: skip


def seeing(text: hf.PreTrainedConfig, size: int) -> hf.PreTrainedConfig:
    """Gemma 3 with eyes; only its text part learns."""
    eyes = hf.SiglipVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=5, num_attention_heads=2,
        image_size=28, patch_size=14,
    )  # fmt: skip
    return hf.Gemma3Config(
        text_config=text, vision_config=eyes, mm_tokens_per_image=4, boi_token_index=size - 4,
        eoi_token_index=size - 3, image_token_index=size - 2,
    )  # fmt: skip


def family(cls: str, *parts: dict[str, Any], **more: Any) -> Callable[..., hf.PreTrainedConfig]:
    settings = {**{k: v for part in parts for k, v in part.items()}, **more}
    return lambda **ids: getattr(hf, cls)(**ids, **settings)


def gemma3_text(**ids: Any) -> hf.PreTrainedConfig:
    return family("Gemma3TextConfig", SHAPE, SHARED, HEADS, sliding_window=8)(**ids)


FAMILIES: dict[str, Callable[..., hf.PreTrainedConfig]] = {
    "bloom": family("BloomConfig", hidden_size=64, n_layer=3, n_head=4, initializer_range=0.15),
    "cohere": family("CohereConfig", SHAPE, SHARED),
    "deepseek_v3": family("DeepseekV3Config", SHAPE, LATENT),
    "falcon": family(
        "FalconConfig", hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=256, initializer_range=0.15,
    ),
    "gemma": family("GemmaConfig", SHAPE, SHARED, HEADS),
    "gemma2": family("Gemma2Config", SHAPE, SHARED, HEADS, sliding_window=8),
    "gemma3": gemma3_text,
    "gemma3_with_eyes": lambda **ids: seeing(gemma3_text(**ids), ids["vocab_size"]),
    "glm4": family("Glm4Config", SHAPE, SHARED, HEADS),
    "gpt2": family(
        "GPT2Config", n_positions=256, n_embd=64, n_layer=3, n_head=4, initializer_range=0.15
    ),
    "gpt_neo": family(
        "GPTNeoConfig", hidden_size=64, num_layers=2, attention_types=[[["global", "local"], 1]],
        num_heads=4, window_size=8, max_position_embeddings=256, intermediate_size=128,
        initializer_range=0.15,
    ),
    "gpt_neox": family("GPTNeoXConfig", SHAPE, APART, rotary_pct=0.25),
    "gpt_oss": family(
        "GptOssConfig", SHAPE, SHARED, HEADS, num_local_experts=4, num_experts_per_tok=2,
        sliding_window=8,
    ),
    "gptj": family(
        "GPTJConfig", n_positions=256, n_embd=64, n_layer=3, n_head=4, rotary_dim=8,
        initializer_range=0.15,
    ),
    "granite": family("GraniteConfig", SHAPE, SHARED, logits_scaling=8.0),
    "llama": family("LlamaConfig", SHAPE, APART),
    "llama3": family(
        "LlamaConfig", SHAPE, SHARED, rope_parameters=LLAMA3, tie_word_embeddings=True
    ),
    "mamba": family("MambaConfig", hidden_size=64, num_hidden_layers=3, state_size=8),
    "mistral": family("MistralConfig", SHAPE, SHARED, APART, sliding_window=8),
    "mixtral": family("MixtralConfig", SHAPE, SHARED, num_local_experts=8),
    "mpt": lambda vocab_size, **ids: hf.MptConfig(
        vocab_size=vocab_size, d_model=64, n_layers=3, n_heads=4, max_seq_len=256,
        initializer_range=0.15,
    ),
    "olmo2": family("Olmo2Config", SHAPE, SHARED, APART),
    "opt": family("OPTConfig", OPT, word_embed_proj_dim=64),
    "opt_350m": family("OPTConfig", OPT, word_embed_proj_dim=32, do_layer_norm_before=False),
    "phi": family("PhiConfig", SHAPE),
    "phi3": family("Phi3Config", SHAPE, SHARED, APART, original_max_position_embeddings=256),
    "qwen2": family("Qwen2Config", SHAPE, SHARED, tie_word_embeddings=True),
    "qwen3": family("Qwen3Config", SHAPE, SHARED, HEADS, tie_word_embeddings=True),
    "qwen3_moe": family("Qwen3MoeConfig", SHAPE, SHARED, HEADS, EXPERTS, num_experts=8),
    "qwen3_next": family(
        "Qwen3NextConfig", SHAPE, SHARED, HEADS, EXPERTS, num_experts=4,
        shared_expert_intermediate_size=32, linear_num_key_heads=2, linear_num_value_heads=4,
        linear_key_head_dim=16, linear_value_head_dim=16,
        layer_types=["linear_attention", "linear_attention", "full_attention"],
    ),
    "smollm3": family("SmolLM3Config", SHAPE, SHARED),
    "stablelm": family("StableLmConfig", SHAPE, num_key_value_heads=4),
    "starcoder2": family("Starcoder2Config", SHAPE, SHARED),
}  # fmt: skip


def sentences(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [
        " ".join(draw.choices(WORDS, k=draw.randint(3, 12))).capitalize() + "."
        for _ in range(count)
    ]


def make_tokenizer(
    *, pad: str | None = PAD, template: str | None = CHATML, specials: tuple[str, ...] = ()
) -> hf.PreTrainedTokenizerFast:
    named = [*dict.fromkeys([*filter(None, [pad]), END, START, *specials])]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        sentences(200),
        trainers.BpeTrainer(
            vocab_size=320, special_tokens=named, show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )  # fmt: skip
    others = [token for token in named if token not in (pad, END)]
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END, pad_token=pad, extra_special_tokens=others,
        model_max_length=256,
    )  # fmt: skip
    tokenizer.chat_template = template
    return tokenizer


def make_model(
    name: str,
    out: Path,
    tokenizer: hf.PreTrainedTokenizerBase | None = None,
    *,
    vocabulary: int = 0,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> Path:
    """Writes a random model of a family; `vocabulary` 0: as large as the tokenizer's."""
    tokenizer = tokenizer or make_tokenizer()
    config = FAMILIES[name](
        vocab_size=vocabulary or len(tokenizer), bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    for key, value in changes.items():
        setattr(config, key, value)
    torch.manual_seed(0)
    cls = hf.Gemma3ForConditionalGeneration if name == "gemma3_with_eyes" else None
    lm = cls(config) if cls else hf.AutoModelForCausalLM.from_config(config)
    lm.to(dtype).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out
