"""Folders → models: plain Hugging Face ones, read whole or not at all.

A reward model's folder also says what its scores mean (`calibration.json`).
"""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from rlhf.learning.contract.hyperparameters import ConfigError, Tune

from .attention import attend_short_rows
from .networks import PolicyNetwork, ScoreNetwork, output_head, silence
from .probing import check_causal, reads_packed
from .render import Renderer
from .weights import is_wrapped, read_config, read_weights, stored_precision, weight_names

CALIBRATION, CALIBRATION_VERSION = "calibration.json", 2
CRITIC_SOURCE = "PPO"  # in the calibration of a critic
UNLIMITED = 1 << 20  # tokens


@dataclass(frozen=True)
class Calibration:
    """Raw scores -> scores that average 0 on demonstrations (InstructGPT 3.5): raw + bias.

    `std` is the spread on samples of the policy that is going to be trained.
    """

    mean: float = 0.0
    std: float = 1.0
    bias: float = 0.0
    source: str = ""  # whose answers average 0


def check_folder(folder: Path) -> None:
    """A plain Hugging Face model folder, or a ConfigError that names what is missing."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a model folder: no such directory")
    if (folder / "adapter_config.json").is_file():
        raise ConfigError(f"{folder} is an adapter and no whole model: merge it into its base")
    missing = [
        name for name in ("config.json", "tokenizer_config.json") if not (folder / name).is_file()
    ]
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        missing.append("tokenizer.json")
    if missing:
        raise ConfigError(f"{folder} is not a model folder: it has no {', '.join(missing)}")


def renderer(folder: Path, day: str = "", *, chats: bool = True) -> Renderer:
    """Opens the tokenizer of a model folder.

    `day`: what a chat template that reads the clock is told, YYYY-MM-DD; "" is today. Raises
    ConfigError where it ends no text, is to hold a chat and has no template or one that cannot be
    learnt, or has tokens that the model knows no embedding for."""
    check_folder(folder)
    config = read_config(folder).get_text_config()
    made = Renderer(folder, _context(config), day)
    tokenizer = made.tokenizer
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"{folder}: the tokenizer has no end token (eos_token)")
    if chats and not tokenizer.chat_template:
        raise ConfigError(
            f"{folder}: the tokenizer has no chat template; add one (chat_template.jinja, that of"
            " the model's instruct version for instance). Pre-training alone needs none"
        )
    if made.pad >= config.vocab_size:
        # Batches are padded by hand and masked, so any token does; nobody else could pad with it.
        made.pad = made.eos
        tokenizer.pad_token = tokenizer.eos_token
    outside = [
        token
        for token, number in tokenizer.get_vocab().items()
        if number >= config.vocab_size and _is_written(tokenizer, token)
    ]
    if outside:
        named = ", ".join(sorted(outside)[:6])
        raise ConfigError(
            f"{folder}: the tokenizer has {len(outside)} tokens beyond the model's"
            f" {config.vocab_size} embeddings ({named}): resize them (resize_token_embeddings)"
        )
    if chats:
        made.check()
    return made


def _context(config: PreTrainedConfig) -> int:
    """The longest row a model reads, in tokens; where nothing but the cost limits it, UNLIMITED."""
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
    return next((int(size) for name in names if (size := getattr(config, name, None))), UNLIMITED)


def _is_written(tokenizer: PreTrainedTokenizerBase, token: str) -> bool:
    """Not so: a special token that neither begins nor ends a text, nor is in the chat template."""
    specials = {each.content for each in tokenizer.added_tokens_decoder.values() if each.special}
    used = token in (tokenizer.eos_token, tokenizer.bos_token)
    return used or token not in specials or token in str(tokenizer.chat_template or "")


def textless(rendering: Renderer, vocabulary: int) -> list[int]:
    """Ids of a vocabulary that no token of the tokenizer has: nobody could read them."""
    return sorted(set(range(vocabulary)) - set(rendering.tokenizer.get_vocab().values()))


def stop_ids(lm: PreTrainedModel, rendering: Renderer) -> list[int]:
    """Every id that ends an answer: the chat template's end of turn, the tokenizer's end and those
    of generation_config.json."""
    configured = getattr(lm.generation_config, "eos_token_id", None)
    more = [configured] if isinstance(configured, int) else list(configured or [])
    return sorted({*rendering.ends, *more})


def load_policy(
    folder: Path, device: torch.device | str = "cpu", tune: Tune | None = None
) -> PolicyNetwork:
    """Loads a model folder as a policy in fp32 (in four bits with qlora), dropout off.

    Raises ConfigError where the folder is none, its weights do not fit, or the model is of a sort
    that is not supported."""
    check_folder(folder)
    check_adaptable(folder, tune)
    quantized = in_four_bits(tune, device)
    lm = _language_model(folder, **quantized)
    check_causal(lm, folder)
    _make_ready(lm, renderer(folder, chats=False))
    packed = reads_packed(lm)
    if not quantized:
        nn.Module.to(lm, device)
    return PolicyNetwork(lm, stored_precision(folder), packed)


def read_policy(folder: Path, rendering: Renderer) -> PreTrainedModel:
    """Reads a policy that only has to speak: `load_policy` also finds out how it can be trained,
    which takes longer than the reading. Raises ConfigError as that does."""
    lm = _language_model(folder)
    _make_ready(lm, rendering)
    return lm


def _language_model(folder: Path, **quantized: Any) -> PreTrainedModel:
    if is_score(folder):
        raise ConfigError(f"{folder} is a reward model (or a critic), and a policy is needed here")
    read_config(folder)
    lm, _ = read_weights(AutoModelForCausalLM, folder, **quantized)
    return lm


def _make_ready(lm: PreTrainedModel, rendering: Renderer) -> None:
    prepare(lm)
    silence(lm, textless(rendering, output_head(lm).out_features))


def prepare(model: PreTrainedModel) -> None:
    """Dropout off, attention that suits short rows, and nothing that learns but the text part."""
    without_dropout(model)
    attend_short_rows(model)
    language = getattr(model.base_model, "language_model", None)
    if language is not None:
        model.base_model.requires_grad_(False)
        language.requires_grad_(True)


def check_adaptable(folder: Path, tune: Tune | None) -> None:
    """Raises ConfigError where an adapter would be published on a base that others misread."""
    if tune and tune.is_adapter and any(map(is_wrapped, weight_names(folder))):
        raise ConfigError(
            f"{folder}: its weights are named as torch.compile or DistributedDataParallel wrap"
            " them, and an adapter on it would be of use to nobody else: choose Tune.mode full, or"
            " save the model again without the wrapper"
        )


def is_score(folder: Path) -> bool:
    """Is it a reward model, and no policy?"""
    if (folder / CALIBRATION).is_file():
        return True
    named = json.loads((folder / "config.json").read_text()).get("architectures") or []
    return any(name.endswith("ForSequenceClassification") for name in named)


def load_score(
    folder: Path,
    device: torch.device | str = "cpu",
    heads: int = 0,
    tune: Tune | None = None,
) -> ScoreNetwork:
    """A reward model, or a policy whose LM head gives way to fresh scalar heads.

    A fresh head is N(0, 0.1/sqrt(d+1)): with the 1/sqrt(d+1) of arXiv 2009.01325, appendix B, a
    small run spends its steps on unlearning what chance said of the first answers
    (docs/experiments.md). `heads` 0: as many as the folder has, or one.
    """
    check_folder(folder)
    config = read_config(folder)
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ConfigError(
            f"{folder}: transformers has no {config.model_type} with a scalar head, so it cannot"
            " become a reward model or critic that others could load; choose a base of another"
            " family for it, or DPO, KTO or RLOO"
        )
    there, has_head = config.num_labels, is_score(folder)
    if heads and has_head and there != heads:
        raise ConfigError(f"{folder} has {there} heads, and Reward.heads is {heads}")
    check_adaptable(folder, tune)
    quantized = in_four_bits(tune, device)
    model, is_new = read_weights(
        AutoModelForSequenceClassification,
        folder,
        makes_head=not has_head,
        num_labels=there if has_head else heads or 1,
        **quantized,
    )
    prepare(model)
    model.score.requires_grad_(True)
    if is_new:
        head = ScoreNetwork(model).head
        # A tenth of the papers' spread: they learn from tens of thousands of rankings. With a
        # hundred, a random head's margins are most of what there is to unlearn; a head of zeros
        # would teach the trunk nothing until it has moved.
        nn.init.normal_(head.weight, std=0.1 / math.sqrt(head.in_features + 1))
    network = ScoreNetwork(model, stored_precision(folder))
    if quantized:
        network.bias.data = network.bias.data.to(device)
        return network
    return network.to(device)


def read_calibration(folder: Path) -> Calibration:
    """Reads what a reward model's scores mean; raises ConfigError where the folder does not say."""
    path = folder / CALIBRATION
    if not path.is_file():
        raise ConfigError(f"{folder} is not a reward model: it has no {CALIBRATION}")
    raw = json.loads(path.read_text())
    if raw.get("version", 1) > CALIBRATION_VERSION:
        raise ConfigError(f"{path}: version {raw['version']} is of a newer release than this one")
    return Calibration(raw["mean"], raw["std"], raw["bias"], raw.get("source", ""))


def in_four_bits(tune: Tune | None, device: torch.device | str) -> dict[str, Any]:
    """What QLoRA (arXiv 2305.14314) adds to `from_pretrained`: NF4, quantised twice."""
    if tune is None or tune.mode != "qlora":
        return {}
    has_library = importlib.util.find_spec("bitsandbytes") is not None
    if torch.device(device).type != "cuda" or not has_library:
        raise ConfigError(
            "Tune.mode qlora needs a CUDA GPU and the package bitsandbytes (pip install"
            " bitsandbytes); without them choose lora"
        )
    quantization = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": quantization, "device_map": {"": device}}


def without_dropout(model: nn.Module) -> None:
    """PPO compares probabilities of the same network at two times; dropout would blur them."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for name in ("attention_dropout", "hidden_dropout", "embd_pdrop", "attn_pdrop", "resid_pdrop"):
        if hasattr(model.config, name):
            setattr(model.config, name, 0.0)
    for module in model.modules():
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0  # type: ignore[assignment]
    model.eval()
