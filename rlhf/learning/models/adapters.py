"""Which weights learn: all, some layers, a head, or an adapter that comes and goes exactly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf.learning.contract.hyperparameters import Tune

from .networks import output_head


def choose_weights(model: PreTrainedModel, tune: Tune) -> Any:
    """Freeze what `tune` does not name. Returns peft's wrapper when there is an adapter."""
    if tune.mode == "full":
        return None
    model.requires_grad_(False)
    scalar = getattr(model, "score", None)
    if scalar is not None:
        scalar.requires_grad_(True)
    layers = blocks(model)
    first = len(layers) - tune.layers if tune.layers else 0
    if tune.mode == "last_layers":
        for block in list(layers)[max(first, 0) :]:
            block.requires_grad_(True)
        for module in after_the_blocks(model):
            module.requires_grad_(True)
    elif tune.mode == "head" and scalar is None:
        _untie_head(model)
        output_head(model).requires_grad_(True)
    elif tune.is_adapter:
        config = _adapter_config(model, tune)
        wrapper = get_peft_model(model, config)
        # peft makes a set of them, and a set is written down in another order by every process.
        config.target_modules = sorted(config.target_modules or ())
        if scalar is not None:
            scalar.requires_grad_(True)
        return wrapper
    return None


def _adapter_config(model: PreTrainedModel, tune: Tune) -> LoraConfig:
    layers = list(blocks(model))
    first = len(layers) - tune.layers if tune.layers else 0
    chosen = {id(module) for block in layers[max(first, 0) :] for module in block.modules()}
    unfit = _unfit_for_adapters(model)
    linear = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and id(module) in chosen
        and id(module) not in unfit
    }
    return LoraConfig(
        r=tune.rank,
        lora_alpha=tune.alpha,
        lora_dropout=0.0,
        target_modules=list(linear),
        # GPT-2's layers hold their weights the other way round.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in linear.values()),
    )


def _unfit_for_adapters(model: PreTrainedModel) -> set[int]:
    """Layers that peft would take for others: in a mixture of experts those of the feed-forward
    parts, for it reads their names as the experts'. And what Mamba's kernels read by themselves."""
    layers = list(blocks(model))
    mixtures = {
        name
        for block in layers
        for name, part in block.named_children()
        if any(hasattr(each, "experts") for each in part.modules())
    }
    parts = [getattr(block, name) for block in layers for name in mixtures if hasattr(block, name)]
    found = {id(each) for part in parts for each in part.modules()}
    mixers = [each for each in model.modules() if hasattr(each, "A_log")]
    return found | {id(each.out_proj) for each in mixers if hasattr(each, "in_proj")}


def add_adapter(wrapper: Any, tune: Tune, name: str) -> None:
    """A second adapter beside the policy's own, in the same layers; both learn."""
    config = _adapter_config(wrapper.get_base_model(), tune)
    own = wrapper.peft_config["default"].target_modules
    config.target_modules = own
    wrapper.add_adapter(name, config)
    wrapper.set_adapter("default")
    for weight_name, weight in wrapper.named_parameters():
        if "lora_" in weight_name:
            weight.requires_grad_(True)


def blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The layers of a transformer, from the bottom; of one that also sees, those of its text."""
    text = getattr(model.base_model, "language_model", model.base_model)
    lists = {
        name: module for name, module in text.named_modules() if isinstance(module, nn.ModuleList)
    }
    # The experts of a layer are a list too, and may be more than there are layers.
    outer = [
        module
        for name, module in lists.items()
        if not any(name.startswith(f"{other}.") for other in lists)
    ]
    return max(outer, key=len)


@torch.no_grad()
def after_the_blocks(model: PreTrainedModel) -> list[nn.Module]:
    """What a hidden state passes after the last layer: the final norm, and a projection if there
    is one. Every family names them in its own way, so a short text is sent through."""
    found: list[nn.Module] = []
    last = blocks(model)[-1]
    inside = {id(module) for module in last.modules()}
    is_past = False

    def ended(module: nn.Module, *_: Any) -> None:
        nonlocal is_past
        if module is last:
            is_past = True
        elif is_past and id(module) not in inside and not any(module.children()):
            found.append(module)

    hooks = [module.register_forward_hook(ended) for module in model.base_model.modules()]
    try:
        model.base_model(input_ids=torch.arange(2, device=model.device)[None], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _untie_head(model: PreTrainedModel) -> None:
    head = output_head(model)
    if model.config.tie_word_embeddings:
        head.weight = nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False


@contextmanager
def adapter_named(model: nn.Module, name: str) -> Iterator[None]:
    """The network with another of its adapters."""
    layers = _adapted(model)
    for layer in layers:
        layer._active_adapter = [name]
    try:
        yield
    finally:
        for layer in layers:
            layer._active_adapter = ["default"]


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """The network as it was before training: the reference, for free."""
    layers = _adapted(model)
    # `enable_adapters` would also decide what learns, and forget the critic's adapter.
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Adapters folded into the weights for the length of a rollout.

    The folded weights are new tensors and the old ones come back untouched: adding and subtracting
    in place would let rounding creep in, and a resumed run would differ. A 4-bit weight cannot take
    an adapter in: it stays beside.
    """
    layers = _adapted(model)
    if any(not layer.get_base_layer().weight.is_floating_point() for layer in layers):
        yield
        return
    originals = [layer.get_base_layer().weight.data for layer in layers]
    with torch.no_grad():
        for layer, weight in zip(layers, originals, strict=True):
            layer.get_base_layer().weight.data = weight + layer.get_delta_weight("default")
    try:
        with adapter_off(model):
            yield
    finally:
        for layer, weight in zip(layers, originals, strict=True):
            layer.get_base_layer().weight.data = weight


def _adapted(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, LoraLayer)]
