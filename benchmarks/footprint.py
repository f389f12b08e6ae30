"""Memory of a training on GPUs, in GB a GPU, counted on tensors without data.

    python benchmarks/footprint.py [--gpus 8] [--memory 80] [--rows 1] [--tokens 2048] [--answers 8]

The network is built as it learns (all weights, or an adapter of rank 16), but fake: every size is
PyTorch's own, none is estimated. Kept for the backward is what autograd keeps of one micro-batch in
bf16, casts of the weights included; the head over the vocabulary is computed in pieces and not
counted. Adam has two moments, and all that learns is in fp32.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rlhf.learning.contract.hyperparameters import Tune  # noqa: E402
from rlhf.learning.models.adapters import choose_weights  # noqa: E402

GB, FLOAT = 1e9, 4
MOMENTS = 2
LLAMA_7B = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 4096,
}  # fmt: skip


class Footprint:
    """One network that learns by `tune`, and what it takes, in bytes."""

    def __init__(self, tune: Tune, shape: dict[str, int]) -> None:
        self.mode = FakeTensorMode()
        with torch.device("meta"):
            self.model = LlamaForCausalLM(LlamaConfig(**shape))
            choose_weights(self.model, tune)
        with self.mode:  # tensors of the meta device know no autocast; fake ones do
            for module in self.model.modules():
                for name, weight in module.named_parameters(recurse=False):
                    fake = torch.empty(weight.shape, dtype=weight.dtype)
                    setattr(module, name, nn.Parameter(fake, weight.requires_grad))
                for name, constant in module.named_buffers(recurse=False):
                    setattr(module, name, torch.empty(constant.shape, dtype=constant.dtype))

    @property
    def weights(self) -> int:
        return sum(each.nbytes for each in self.model.parameters())

    @property
    def learns(self) -> int:
        return sum(each.nbytes for each in self.model.parameters() if each.requires_grad)

    def kept(self, rows: int, tokens: int) -> int:
        """What autograd keeps of a forward of so many rows."""
        own = {each.untyped_storage()._cdata for each in self.model.parameters()}
        seen: dict[int, Tensor] = {}

        def pack(tensor: Tensor) -> Tensor:
            key = tensor.untyped_storage()._cdata
            if key not in own:
                seen[key] = tensor  # kept, so that its number is not given twice
            return tensor

        with (
            self.mode,
            torch.autocast("cpu", torch.bfloat16),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        ):
            hidden = self.model.model(torch.zeros(rows, tokens, dtype=torch.long))[0]
            hidden.float().sum()
        return sum(each.untyped_storage().nbytes() for each in seen.values())

    def cache(self, answers: int, tokens: int) -> int:
        """Keys and values of so many answers while they are sampled, in fp32."""
        with self.mode, torch.no_grad():
            ids = torch.zeros(1, 8, dtype=torch.long)
            layers = self.model.model(ids, use_cache=True).past_key_values.layers
            a_token = sum(each.keys.nbytes + each.values.nbytes for each in layers) // 8
        return answers * tokens * a_token


def plans(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Plan → {moment: GB on each GPU}.

    answering: the whole weights, and keys and values; judging: a frozen network in their place;
    learning: of shards no whole weights, and what autograd keeps of a micro-batch. A gradient has
    the size of what learns, and without shards several processes keep it twice."""
    whole, adapter = (Footprint(Tune(mode=mode), LLAMA_7B) for mode in ("full", "lora"))
    weights, cache = whole.weights, whole.cache(options.answers, options.tokens)
    kept, kept_lora = (each.kept(options.rows, options.tokens) for each in (whole, adapter))
    copied = whole.learns * (MOMENTS + 2)
    shard = whole.learns * (MOMENTS + 2) / options.gpus
    added = adapter.learns * (MOMENTS + 2)
    found = {
        "SFT, reward: full, every GPU for itself": {"learning": weights + copied + kept},
        "SFT, reward: full, sharded": {"learning": shard + kept},
        "PPO: full, sharded, critic of its own": {
            "answering": 2 * (weights + shard) + cache,
            "judging": 2 * (weights + shard) + weights,
            "learning": 2 * shard + kept,
        },
        "GRPO, or PPO with a shared critic: full, sharded": {
            "answering": weights + shard + cache,
            "judging": weights + shard + weights,
            "learning": shard + kept,
        },
        "SFT, reward, DPO: LoRA": {"learning": weights + added + kept_lora},
        "GRPO, or PPO with a shared critic: LoRA": {
            "answering": weights + added + cache,
            "judging": weights + added + weights,
            "learning": weights + added + kept_lora,
        },
    }
    return {
        plan: {moment: size / GB for moment, size in moments.items()}
        for plan, moments in found.items()
    }


def table(options: argparse.Namespace) -> str:
    heads = ("plan", "answering", "judging", "learning", f"{options.memory:g} GB are enough")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for plan, moments in plans(options).items():
        cells = [f"{moments[name]:.1f}" if name in moments else "" for name in heads[1:4]]
        fits = "yes" if max(moments.values()) < options.memory else "no"
        lines.append(f"| {' | '.join([plan, *cells, fits])} |")
    return "\n".join(lines) + "\n"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--memory", type=float, default=80, help="GB of a GPU")
    parser.add_argument("--rows", type=int, default=1, help="of a micro-batch")
    parser.add_argument("--tokens", type=int, default=2048, help="of prompt and answer")
    parser.add_argument("--answers", type=int, default=8, help="sampled at once on each GPU")
    return parser


if __name__ == "__main__":
    print(table(arguments().parse_args()))
