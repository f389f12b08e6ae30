"""Models as folders: a plain Hugging Face one comes in, and one that any server can load goes out.

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
from peft import PeftModel
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
)

from rlhf.learning.contract.hyperparameters import ConfigError, Tune
from rlhf.learning.contract.manifest import write_manifest

from .attention import attend_short_rows
from .networks import PolicyNetwork, ScoreNetwork, output_head
from .render import Renderer
from .tensors import telling_of_a_full_disk

CALIBRATION, CALIBRATION_VERSION = "calibration.json", 2


@dataclass(frozen=True)
class Calibration:
    """Raw scores -> scores that average 0 on demonstrations (InstructGPT 3.5): raw + bias.

    `std` is the spread on samples of the policy that is going to be trained.
    """

    mean: float = 0.0
    std: float = 1.0
    bias: float = 0.0


def check_folder(folder: Path) -> None:
    """A plain Hugging Face model folder, or a ConfigError that names what is missing."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a model folder: no such directory")
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


def renderer(folder: Path, day: str = "") -> Renderer:
    """Opens the tokenizer of a model folder; raises ConfigError where it cannot hold a chat.

    `day`: what a chat template that reads the clock is told, YYYY-MM-DD; "" is today."""
    check_folder(folder)
    context = AutoConfig.from_pretrained(folder, trust_remote_code=False).max_position_embeddings
    made = Renderer(folder, int(context), day)
    made.check()
    return made


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

    Raises ConfigError where the folder is none, or the model is of a sort that is not supported."""
    check_folder(folder)
    quantized = in_four_bits(tune, device)
    lm = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False, local_files_only=True, **quantized
    )
    without_dropout(lm)
    attend_short_rows(lm)
    with torch.no_grad():
        probe = torch.arange(4, device=lm.device)[None]
        logits = output_head(lm)(lm.base_model(probe).last_hidden_state)
        if not torch.allclose(logits, lm(probe).logits, atol=1e-4):
            raise ConfigError(
                f"{folder}: {type(lm).__name__} changes its logits after the LM head;"
                " such models are not supported"
            )
    if not quantized:
        nn.Module.to(lm, device)
    return PolicyNetwork(lm)


def is_score(folder: Path) -> bool:
    """Is it a reward model, and no policy?"""
    return (folder / CALIBRATION).is_file()


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
    there = AutoConfig.from_pretrained(folder, trust_remote_code=False).num_labels
    if heads and is_score(folder) and there != heads:
        raise ConfigError(f"{folder} has {there} heads, and Reward.heads is {heads}")
    quantized = in_four_bits(tune, device)
    model, report = AutoModelForSequenceClassification.from_pretrained(
        folder,
        **quantized,
        num_labels=there if is_score(folder) else heads or 1,
        dtype=torch.float32,
        trust_remote_code=False,
        local_files_only=True,
        output_loading_info=True,
    )
    without_dropout(model)
    attend_short_rows(model)
    if report["missing_keys"]:
        nn.init.normal_(model.score.weight, std=0.1 / math.sqrt(model.config.hidden_size + 1))
    network = ScoreNetwork(model)
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
    return Calibration(raw["mean"], raw["std"], raw["bias"])


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
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0  # type: ignore[assignment]
    model.eval()


@telling_of_a_full_disk()
def publish_policy(
    network: PolicyNetwork,
    wrapper: Any,
    rendering: Renderer,
    folder: Path,
    card: str,
    *,
    learns_on: bool = False,
) -> None:
    """A plain folder any server can load: merged weights, tokenizer, stop ids, sampling on.

    An adapter ends in the network itself, unless that `learns_on`."""
    lm = network.lm
    if wrapper is not None:
        wrapper.save_pretrained(folder / "adapter", selected_adapters=["default"])
        lm = whole(wrapper, folder / "adapter", AutoModelForCausalLM, apart=learns_on)
    stops = stop_ids(lm, rendering)
    lm.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        eos_token_id=stops,
        pad_token_id=rendering.pad,
    )
    _publish(lm, rendering, folder, card)


@telling_of_a_full_disk()
def publish_score(
    network: ScoreNetwork,
    wrapper: Any,
    rendering: Renderer,
    folder: Path,
    card: str,
    calibration: dict[str, Any],
) -> None:
    """Writes a reward model or critic as a plain folder: merged weights, tokenizer, calibration."""
    model = network.model
    if wrapper is not None:
        head = network.head.state_dict()
        wrapper.save_pretrained(folder / "adapter", selected_adapters=["default"])
        model = whole(wrapper, folder / "adapter", AutoModelForSequenceClassification)
        model.score.load_state_dict(head)  # type: ignore[union-attr]
    model.config.pad_token_id = rendering.pad
    (folder / CALIBRATION).write_text(
        json.dumps({"version": CALIBRATION_VERSION, **calibration}, indent=1)
    )
    _publish(model, rendering, folder, card)


def whole(wrapper: Any, adapter: Path, auto: Any, *, apart: bool = False) -> PreTrainedModel:
    """The model with its adapter merged in. One in four bits is read again in full first, and so
    is one that has to stay `apart` from its adapter."""
    base = wrapper.get_base_model()
    if not apart and getattr(base, "quantization_method", None) is None:
        merged_model: PreTrainedModel = wrapper.merge_and_unload(adapter_names=["default"])
        return merged_model
    labels = {"num_labels": base.config.num_labels} if hasattr(base, "score") else {}
    with torch.random.fork_rng(devices=[]):  # an adapter is drawn before it is read
        full = auto.from_pretrained(
            base.config._name_or_path, dtype=torch.float32, local_files_only=True, **labels
        )
        without_dropout(full)
        full_model: PreTrainedModel = PeftModel.from_pretrained(full, adapter).merge_and_unload()
    return full_model


def _publish(model: PreTrainedModel, rendering: Renderer, folder: Path, card: str) -> None:
    model.save_pretrained(folder)
    rendering.tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")
    write_manifest(folder)
