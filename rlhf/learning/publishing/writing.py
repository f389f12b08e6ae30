"""Models → folders that anybody reads by plain classes: each is read back before it counts."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rlhf.learning.contract.manifest import write_manifest
from rlhf.learning.models.folders import (
    CALIBRATION,
    CALIBRATION_VERSION,
    stop_ids,
    textless,
    without_dropout,
)
from rlhf.learning.models.networks import (
    TEXTLESS,
    PolicyNetwork,
    ScoreNetwork,
    output_head,
    silence,
)
from rlhf.learning.models.render import Renderer
from rlhf.learning.models.tensors import telling_of_a_full_disk, write_tensors

from .plain import Reading
from .reload import ROUNDING, SAME, Probe, check_reading, check_same, reading, rounded

POLICY, SCORE = "the policy", "the reward model or critic"  # in what NotAsTrained says
PAD = "<|pad|>"  # of a reward model whose tokenizer has no token to spare


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
