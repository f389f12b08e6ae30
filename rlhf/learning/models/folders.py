"""Models as folders: a plain Hugging Face one comes in, and one that any server can load goes out.

A reward model's folder also says what its scores mean (`calibration.json`).
"""

from __future__ import annotations

import copy
import importlib.util
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from rlhf.learning.contract.hyperparameters import ConfigError, Tune
from rlhf.learning.contract.manifest import write_manifest

from .attention import attend_short_rows
from .networks import TEXTLESS, PolicyNetwork, ScoreNetwork, output_head, silence
from .plain import Reading
from .probing import check_causal, reads_packed
from .reload import ROUNDING, SAME, Probe, check_reading, check_same, reading, rounded
from .render import Renderer
from .tensors import telling_of_a_full_disk, write_tensors
from .weights import is_wrapped, read_config, read_weights, stored_precision, weight_names

CALIBRATION, CALIBRATION_VERSION = "calibration.json", 2
POLICY, SCORE = "the policy", "the reward model or critic"  # in what NotAsTrained says
CRITIC_SOURCE = "PPO"  # in the calibration of a critic
UNLIMITED = 1 << 20  # tokens
PAD = "<|pad|>"  # of a reward model whose tokenizer has no token to spare


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
    if is_score(folder):
        raise ConfigError(f"{folder} is a reward model (or a critic), and a policy is needed here")
    read_config(folder)
    check_adaptable(folder, tune)
    quantized = in_four_bits(tune, device)
    lm, _ = read_weights(AutoModelForCausalLM, folder, **quantized)
    check_causal(lm, folder)
    prepare(lm)
    silence(lm, textless(renderer(folder, chats=False), output_head(lm).out_features))
    packed = reads_packed(lm)
    if not quantized:
        nn.Module.to(lm, device)
    return PolicyNetwork(lm, stored_precision(folder), packed)


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

    An adapter ends in the network itself, unless that `learns_on`. Raises NotAsTrained where plain
    classes would not give the network's own numbers."""
    lm, adapter = network.lm, folder / "adapter"
    stops = stop_ids(lm, rendering)
    probe = Probe(rendering, stops, output_head(lm).out_features)
    trained = probe.of_policy(network)
    if wrapper is not None:
        save_adapter(wrapper, adapter)
        check_adapter(wrapper, adapter, reading(folder, probe, lm), trained)
        quiet = getattr(lm, TEXTLESS, None)
        lm = whole(wrapper, adapter, AutoModelForCausalLM, apart=learns_on)
        silence(lm, [] if quiet is None else quiet.tolist())
    lm.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        eos_token_id=stops,
        pad_token_id=rendering.pad,
        suppress_tokens=textless(rendering, output_head(lm).out_features) or None,
    )
    with rounded(lm, network.stored):
        said = probe.of_policy(PolicyNetwork(lm))
        check_merge(POLICY, wrapper, network.stored, trained, said)
        _publish(lm, network.stored, rendering.tokenizer, folder, card)
    check_reading(POLICY, reading(folder, probe, lm), said)


@telling_of_a_full_disk()
def publish_score(
    network: ScoreNetwork,
    wrapper: Any,
    rendering: Renderer,
    folder: Path,
    card: str,
    calibration: dict[str, Any],
) -> None:
    """Writes a reward model or critic as a plain folder: merged weights, tokenizer, calibration.

    Its padding is a token that ends no answer: transformers reads the score at the last token that
    is no padding. Raises NotAsTrained as `publish_policy` does."""
    model, adapter = network.model, folder / "adapter"
    ends = sorted(rendering.ends)
    heads, vocabulary = network.head.out_features, model.config.get_text_config().vocab_size
    probe = Probe(rendering, ends, vocabulary)
    trained = probe.of_score(network)
    tokenizer = with_padding(rendering, ends, vocabulary)
    probe.pad = tokenizer.pad_token_id
    if wrapper is not None:
        head = network.head.state_dict()
        save_adapter(wrapper, adapter, head)
        if probe.pad < vocabulary:
            check_adapter(wrapper, adapter, reading(folder, probe, model, heads), trained)
        model = whole(wrapper, adapter, AutoModelForSequenceClassification)
        model.score.load_state_dict(head)  # type: ignore[union-attr]
    if probe.pad >= vocabulary:
        model.resize_token_embeddings(probe.pad + 1, mean_resizing=False)
    model.config.get_text_config().pad_token_id = model.config.pad_token_id = probe.pad
    (folder / CALIBRATION).write_text(
        json.dumps({"version": CALIBRATION_VERSION, **calibration}, indent=1)
    )
    with rounded(model, network.stored):
        said = probe.of_score(ScoreNetwork(model).to(model.device))
        check_merge(SCORE, wrapper, network.stored, trained, said)
        _publish(model, network.stored, tokenizer, folder, card)
    check_reading(SCORE, reading(folder, probe, model, heads), said)


def with_padding(
    rendering: Renderer, ends: Sequence[int], vocabulary: int
) -> PreTrainedTokenizerBase:
    """A copy of the tokenizer whose padding token can end no answer: its own, else a special token
    that the chat template does not write, else a new one."""
    tokenizer = copy.deepcopy(rendering.tokenizer)
    own, used = tokenizer.pad_token_id, {*ends, tokenizer.eos_token_id}
    if own is not None and own not in used:
        return tokenizer
    template = str(tokenizer.chat_template or "")
    unwritten = [
        token
        for number, token in sorted(tokenizer.added_tokens_decoder.items())
        if token.special
        and number not in used
        and number < vocabulary
        and token.content not in template
    ]
    # Padding first, then what nobody has a use for; a text begins with bos and none ends with it.
    by_name = sorted(unwritten, key=lambda token: "pad" not in token.content.lower())
    if by_name:
        tokenizer.pad_token = by_name[0].content
    else:
        tokenizer.add_special_tokens({"pad_token": PAD})
    return tokenizer


def save_adapter(wrapper: Any, folder: Path, head: dict[str, Tensor] | None = None) -> None:
    """Writes peft's folder; with the scalar `head`, which learns beside the adapter."""
    wrapper.save_pretrained(folder, selected_adapters=["default"])
    if head is None:
        return
    path, place = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    scores = {f"base_model.model.score.{name}": weight for name, weight in head.items()}
    write_tensors(path, {**load_file(path), **scores})
    said = json.loads(place.read_text())
    said |= {"modules_to_save": ["score"], "task_type": "SEQ_CLS"}
    place.write_text(json.dumps(said, indent=2, sort_keys=True))


def check_adapter(wrapper: Any, adapter: Path, told: Reading, trained: Sequence[Tensor]) -> None:
    """Raises NotAsTrained where the adapter on its base, read by peft, gives other numbers. A base
    in four bits is another network than the one in its folder: nothing can be asked of that."""
    base = wrapper.get_base_model()
    if getattr(base, "quantization_method", None) is not None:
        return
    where = Path(base.config._name_or_path)
    check_reading("the adapter", replace(told, folder=where, adapter=adapter), trained)


def check_merge(
    name: str,
    wrapper: Any,
    stored: torch.dtype,
    trained: Sequence[Tensor],
    said: Sequence[Tensor],
) -> None:
    """Raises NotAsTrained where merging an adapter or rounding to `stored` changed too much."""
    base = wrapper.get_base_model() if wrapper is not None else None
    if getattr(base, "quantization_method", None) is None:
        check_same(name, trained, said, SAME if stored == torch.float32 else ROUNDING)


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


def _publish(
    model: PreTrainedModel,
    stored: torch.dtype,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    card: str,
) -> None:
    if stored == torch.float32:
        model.save_pretrained(folder)
    else:
        model.save_pretrained(folder, state_dict=_in_precision(model, stored))
        path = folder / "config.json"
        said = _with_precision(json.loads(path.read_text()), str(stored).removeprefix("torch."))
        path.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")
    write_manifest(folder)


def _in_precision(model: PreTrainedModel, stored: torch.dtype) -> dict[str, Tensor]:
    """The weights in another precision; those that are one tensor stay one."""
    made: dict[int, Tensor] = {}
    return {
        name: made.setdefault(
            weight.data_ptr(), weight.to(stored) if weight.is_floating_point() else weight
        )
        for name, weight in model.state_dict().items()
    }


def _with_precision(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A config.json that states the precision, in its parts too."""
    parts = {
        key: _with_precision(value, name)
        for key, value in config.items()
        if isinstance(value, dict) and "dtype" in value
    }
    return {**config, **parts, "dtype": name}
