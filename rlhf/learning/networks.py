"""Loading, adapting and publishing networks.

Everything that is trained is run on right-padded rows `ids_BL` with an explicit `mask_BL` (True =
a real token) and a `keep_BL` (True = a token of the completion); padding is never recognised by its
id, so pad == eos is safe. A causal network never looks to the right, so these rows need no
attention mask, and nobody reads what it says of padding. B rows, L tokens of the longest row,
N kept tokens in row-major order, H hidden units, V vocabulary.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
)

from .config import ConfigError, Tune
from .losses import token_logprobs
from .manifest import write_manifest
from .render import Encoded, Renderer

CALIBRATION, CALIBRATION_VERSION = "calibration.json", 2


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
        if lm.config._attn_implementation != "eager":
            return seen_BLL[:, None]
        # Eager attention adds its mask.
        return torch.where(seen_BLL, 0.0, torch.finfo(lm.dtype).min)[:, None]


def positions(mask_BL: Tensor) -> Tensor:
    """Place of every real token in its own row, whatever the padding."""
    return (mask_BL.long().cumsum(-1) - 1).clamp(min=0)


def collate(rows: Sequence[Encoded], pad: int, device: torch.device | str = "cpu") -> Batch:
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


class PolicyNetwork(nn.Module):
    """A causal language model that says how likely given completions were."""

    def __init__(self, lm: PreTrainedModel) -> None:
        super().__init__()
        self.lm = lm

    def hidden(self, batch: Batch) -> Tensor:
        """The final hidden state `hidden_BLH`, before the LM head."""
        out = self.lm.base_model(
            input_ids=batch.ids_BL,
            attention_mask=batch.attention(self.lm),
            position_ids=batch.positions_BL,
            use_cache=False,
        )
        hidden_BLH: Tensor = out.last_hidden_state
        return hidden_BLH

    def forward(
        self, batch: Batch, temperature: float = 1.0, entropy: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(logprobs_N, entropy_N, hidden_NH) of the kept tokens; entropy 0 where not asked for.

        The hidden state that predicts token i stands at i - 1; the LM head runs on those alone.
        """
        before_BL = batch.keep_BL.roll(-1, dims=1)
        hidden_NH = self.hidden(batch)[before_BL]
        logprobs_N, entropy_N = token_logprobs(
            hidden_NH, output_head(self.lm), batch.ids_BL[batch.keep_BL], temperature, entropy
        )
        return logprobs_N, entropy_N, hidden_NH


class Likelihood(nn.Module):
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
    """A language model's trunk with one scalar head or several: the reward model, the critic."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.bias = nn.Parameter(torch.zeros(()), requires_grad=False)

    @property
    def head(self) -> nn.Linear:
        score = self.model.score
        assert isinstance(score, nn.Linear)
        return score

    def everywhere(self, batch: Batch) -> Tensor:
        """What each head E says at every position, values_BLE."""
        out = self.model.base_model(
            input_ids=batch.ids_BL,
            attention_mask=batch.attention(self.model),
            position_ids=batch.positions_BL,
            use_cache=False,
        )
        values_BLE: Tensor = self.head(out.last_hidden_state) + self.bias
        return values_BLE

    def values(self, batch: Batch) -> Tensor:
        """values_BL, one number at every position: the mean of the heads."""
        return self.everywhere(batch).mean(-1)

    def forward(self, batch: Batch) -> Tensor:
        """scores_BE of each head, read at the last real token of each row."""
        row_B = torch.arange(len(batch.mask_BL), device=batch.mask_BL.device)
        return self.everywhere(batch)[row_B, last_valid(batch.mask_BL)]


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


def renderer(folder: Path) -> Renderer:
    check_folder(folder)
    context = AutoConfig.from_pretrained(folder, trust_remote_code=False).max_position_embeddings
    made = Renderer(folder, int(context))
    if not made.tokenizer.chat_template or made.tokenizer.eos_token_id is None:
        raise ConfigError(f"{folder}: the tokenizer has no chat template or no end token")
    return made


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


def load_policy(
    folder: Path, device: torch.device | str = "cpu", tune: Tune | None = None
) -> PolicyNetwork:
    check_folder(folder)
    quantized = in_four_bits(tune, device)
    lm = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False, local_files_only=True, **quantized
    )
    without_dropout(lm)
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

    A fresh head is N(0, 1/sqrt(d+1)) (arXiv 2009.01325, appendix B). `heads` 0: as many as the
    folder has, or one.
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
    if report["missing_keys"]:
        nn.init.normal_(model.score.weight, std=1 / math.sqrt(model.config.hidden_size + 1))
    network = ScoreNetwork(model)
    if quantized:
        network.bias.data = network.bias.data.to(device)
        return network
    return network.to(device)


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


def read_calibration(folder: Path) -> Calibration:
    path = folder / CALIBRATION
    if not path.is_file():
        raise ConfigError(f"{folder} is not a reward model: it has no {CALIBRATION}")
    raw = json.loads(path.read_text())
    if raw.get("version", 1) > CALIBRATION_VERSION:
        raise ConfigError(f"{path}: version {raw['version']} is of a newer release than this one")
    return Calibration(raw["mean"], raw["std"], raw["bias"])


def choose_weights(model: PreTrainedModel, tune: Tune) -> Any:
    """Freeze what `tune` does not name. Returns peft's wrapper when there is an adapter."""
    if tune.mode == "full":
        return None
    model.requires_grad_(False)
    scalar = getattr(model, "score", None)
    if scalar is not None:
        scalar.requires_grad_(True)
    blocks = _blocks(model)
    first = len(blocks) - tune.layers if tune.layers else 0
    if tune.mode == "last_layers":
        for block in list(blocks)[max(first, 0) :]:
            block.requires_grad_(True)
        for name, module in model.base_model.named_children():
            if name in ("norm", "ln_f", "final_layernorm"):
                module.requires_grad_(True)
    elif tune.mode == "head" and scalar is None:
        _untie_head(model)
        output_head(model).requires_grad_(True)
    elif tune.is_adapter:
        wrapper = get_peft_model(model, _adapter_config(model, tune))
        if scalar is not None:
            scalar.requires_grad_(True)
        return wrapper
    return None


def _adapter_config(model: PreTrainedModel, tune: Tune) -> LoraConfig:
    blocks = list(_blocks(model))
    first = len(blocks) - tune.layers if tune.layers else 0
    chosen = {id(module) for block in blocks[max(first, 0) :] for module in block.modules()}
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and id(module) in chosen
    ]
    return LoraConfig(r=tune.rank, lora_alpha=tune.alpha, lora_dropout=0.0, target_modules=names)


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


def _blocks(model: PreTrainedModel) -> nn.ModuleList:
    lists = [module for module in model.base_model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len)


def _untie_head(model: PreTrainedModel) -> None:
    head = output_head(model)
    if model.config.tie_word_embeddings:
        head.weight = nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False


def output_head(lm: PreTrainedModel) -> nn.Linear:
    head = lm.get_output_embeddings()  # type: ignore[no-untyped-call]
    assert isinstance(head, nn.Linear)
    return head


def _adapted(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, LoraLayer)]


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """The network as it was before training: the reference, for free."""
    layers = _adapted(model)
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


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


def publish_policy(
    network: PolicyNetwork, wrapper: Any, rendering: Renderer, folder: Path, card: str
) -> None:
    """A plain folder any server can load: merged weights, tokenizer, stop ids, sampling on."""
    lm = network.lm
    if wrapper is not None:
        wrapper.save_pretrained(folder / "adapter", selected_adapters=["default"])
        lm = whole(wrapper, folder / "adapter", AutoModelForCausalLM)
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


def publish_score(
    network: ScoreNetwork,
    wrapper: Any,
    rendering: Renderer,
    folder: Path,
    card: str,
    calibration: dict[str, Any],
) -> None:
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


def whole(wrapper: Any, adapter: Path, auto: Any) -> PreTrainedModel:
    """The model with its adapter merged in; one in four bits is read again in full first."""
    base = wrapper.get_base_model()
    if getattr(base, "quantization_method", None) is None:
        merged_model: PreTrainedModel = wrapper.merge_and_unload(adapter_names=["default"])
        return merged_model
    labels = {"num_labels": base.config.num_labels} if hasattr(base, "score") else {}
    full = auto.from_pretrained(
        base.config._name_or_path, dtype=torch.float32, local_files_only=True, **labels
    )
    full_model: PreTrainedModel = PeftModel.from_pretrained(full, adapter).merge_and_unload()
    return full_model


def _publish(model: PreTrainedModel, rendering: Renderer, folder: Path, card: str) -> None:
    model.save_pretrained(folder)
    rendering.tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")
    write_manifest(folder)


def stop_ids(lm: PreTrainedModel, rendering: Renderer) -> list[int]:
    """Every id that ends an answer: the tokenizer's and those of generation_config.json."""
    configured = getattr(lm.generation_config, "eos_token_id", None) or []
    more = [configured] if isinstance(configured, int) else list(configured)
    return sorted({rendering.eos, *more})
