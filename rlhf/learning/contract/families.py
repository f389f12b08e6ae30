"""What families of models can do, without the libraries that would have to be imported to ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Language models (`model_type` of a config.json) of which transformers has none with a scalar head.
WITHOUT_SCORE = frozenset(
    {
        "afmoe", "apertus", "aria_text", "bailing_hybrid", "bamba", "beam", "bert-generation",
        "bitnet", "blenderbot", "blenderbot-small", "blt", "codegen", "cohere", "cohere2",
        "cohere2_moe", "cpmant", "cwm", "dbrx", "deepseek_v32", "deepseek_v4", "dots1",
        "dots3_note", "dots3_note_text", "emu3", "ernie4_5", "ernie4_5_moe", "exaone_moe",
        "falcon_h1", "falcon_mamba", "flex_olmo", "flint", "fuyu", "gemma3n", "gemma3n_text",
        "gemma4", "gemma4_assistant", "gemma4_text", "gemma4_unified", "gemma4_unified_assistant",
        "gemma4_unified_text", "git", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "got_ocr2",
        "gpt_neox_japanese", "granite", "granite_swa", "granitemoe", "granitemoe_swa",
        "granitemoehybrid", "granitemoeshared", "hrm_text", "hy_v3", "hy_v4", "hyperclovax",
        "inkling2_text", "inkling_text", "internlm3", "iquestcoder", "jais2", "kimi_linear",
        "kolibri1", "laguna", "lfm2", "lfm2_moe", "lfm3", "llama4", "llama4_text", "longcat_flash",
        "mamba", "mamba2", "marian", "mellum", "mimo_v2_flash", "minimax_m2", "minimax_m3_vl_text",
        "mllama", "moshi", "moss_transcribe_diarize", "musicgen", "musicgen_melody", "nanochat",
        "nemotron_h", "olmo_hybrid", "olmoe", "pegasus", "phi4_multimodal", "prophetnet",
        "qwen3_5_moe", "qwen3_5_moe_text", "qwen4_exp", "qwen4_exp_text", "recurrent_gemma", "rwkv",
        "solar_open", "trocr", "vaultgemma", "whisper", "xglm", "xlstm", "youtu", "zaya",
    }
)  # fmt: skip


def refusal(model: Mapping[str, Any], runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Why a model cannot be trained in these runs, or "". `model`: what its config.json says;
    `runs`: kind -> what the run is told."""
    kind = str(model.get("model_type", ""))
    if kind not in WITHOUT_SCORE:
        return ""
    if "reward" in runs:
        return (
            f"transformers has no {kind} with a scalar head, so it cannot become a reward model."
            " Choose DPO or KTO, or a base of another family"
        )
    if runs.get("ppo", {}).get("train", {}).get("critic") == "policy":
        return (
            f"transformers has no {kind} with a scalar head, so it cannot be PPO's critic. Choose"
            " critic shared or adapter, or RLOO"
        )
    return ""
