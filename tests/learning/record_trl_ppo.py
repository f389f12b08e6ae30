"""What TRL 1.12's PPOTrainer computes on one small rollout, written to trl_1_12_ppo.json.

TRL has no PPO since 1.13, so the recording is made in an environment of its own:

    python -m venv .venv-trl && .venv-trl/bin/pip install torch==2.13.0
    .venv-trl/bin/pip install trl==1.12.0 transformers==5.23.0 peft accelerate datasets
    .venv-trl/bin/python tests/learning/record_trl_ppo.py

Nothing of TRL is written down again here: the trainer runs as it is, and its own local variables
are read at each call of `accelerator.backward`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

FIXTURE = Path(__file__).with_name("trl_1_12_ppo.json")
PAD, EOS, VOCABULARY, TEMPERATURE = 0, 2, 24, 0.7
SEED = 5  # four of its six answers end before the last token, and none has a pad token inside
PROMPTS = [[5, 9], [7, 4, 11, 6], [8], [12, 5, 3], [10, 10, 4, 9], [6, 13, 7]]
SETTINGS: dict[str, Any] = {
    "response_length": 7,
    "temperature": TEMPERATURE,
    "kl_coef": 0.3,
    "cliprange": 0.2,
    "cliprange_value": 0.05,
    "vf_coef": 0.1,
    "gamma": 0.98,
    "lam": 0.9,
    "missing_eos_penalty": 0.5,
    "learning_rate": 0.02,
    "max_grad_norm": 0.01,
}
# Locals of `train`: of the rollout, and of every micro-batch.
ROLLOUT = (
    *("query_responses", "responses", "logprobs", "ref_logprobs", "values", "scores"),
    *("padding_mask", "padding_mask_p1", "kl", "rewards", "returns", "advantages"),
)
LOSS = (
    *("micro_batch_inds", "new_logprobs", "vpred", "logprobs_diff"),
    *("pg_loss", "vf_loss", "loss", "vf_clipfrac"),
)


def tiny_config(**more: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=8, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=32,
        pad_token_id=PAD, eos_token_id=EOS, bos_token_id=1, tie_word_embeddings=False, **more,
    )  # fmt: skip


def tiny_models() -> dict[str, Any]:
    """Policy, reference, reward model and critic, the weights of each a formula's."""
    one = tiny_config(num_labels=1)
    return {
        "policy": wavy(LlamaForCausalLM(tiny_config()), 0.0),
        "reference": wavy(LlamaForCausalLM(tiny_config()), 0.35),
        "reward": wavy(LlamaForSequenceClassification(one), 1.0),
        "critic": wavy(LlamaForSequenceClassification(one), 2.0),
    }


@torch.no_grad()
def wavy(model: nn.Module, phase: float) -> nn.Module:
    for place, (name, weight) in enumerate(sorted(model.named_parameters())):
        if "norm" not in name:
            wave = torch.arange(weight.numel(), dtype=torch.float64) * (1.7 + 0.1 * place)
            weight.copy_(0.6 * torch.sin(wave + place + phase).view_as(weight))
    return model.eval()


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, VOCABULARY)}
    plain = Tokenizer(models.WordLevel(words, unk_token="w3"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        padding_side="left",
    )  # fmt: skip


def train(
    seed: int, micro: int = 6, minibatches: int = 1, epochs: int = 2, batches: int = 1
) -> dict[str, Any]:
    """One update of TRL on the first of so many batches of prompts: its locals at every backward,
    and the gradient's norm at every step of Adam.
    """
    from datasets import Dataset
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    models = tiny_models()
    config = PPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, gradient_checkpointing=False,
        report_to=[], disable_tqdm=True, save_strategy="no", num_sample_generations=0, seed=seed,
        stop_token="eos", total_episodes=6, per_device_train_batch_size=micro,
        gradient_accumulation_steps=6 // micro, num_mini_batches=minibatches,
        num_ppo_epochs=epochs, lr_scheduler_type="constant", **SETTINGS,
    )  # fmt: skip
    rows = Dataset.from_dict({"input_ids": PROMPTS * batches})
    trainer = PPOTrainer(
        args=config, processing_class=tokenizer(), model=models["policy"],
        ref_model=models["reference"], reward_model=models["reward"],
        value_model=models["critic"], train_dataset=rows, eval_dataset=rows,
    )  # fmt: skip
    seen: dict[str, Any] = {"micro_batches": [], "gradient_norms": [], "logged": {}}
    backward, adam = trainer.accelerator.backward, trainer.optimizer.optimizer
    step, log = adam.step, trainer.log

    def watched_backward(loss: torch.Tensor, **more: Any) -> None:
        there = sys._getframe(1).f_locals
        seen.setdefault("rollout", {name: plain(there[name]) for name in ROLLOUT})
        seen["micro_batches"].append({name: plain(there[name]) for name in LOSS})
        backward(loss, **more)

    def watched_step(*arguments: Any, **more: Any) -> Any:
        gradients = [each.grad for each in trainer.model.parameters() if each.grad is not None]
        seen["gradient_norms"] += plain(torch.stack([each.norm() for each in gradients]).norm())
        return step(*arguments, **more)

    def watched_log(logs: dict[str, float], *arguments: Any, **more: Any) -> None:
        seen["logged"] |= {name: value for name, value in logs.items() if "/" in name}
        log(logs, *arguments, **more)

    trainer.accelerator.backward, trainer.log = watched_backward, watched_log
    adam.step = watched_step
    trainer.train()
    return seen


def plain(value: Any) -> Any:
    """A flat list; eight significant digits are float32's."""
    flat = torch.as_tensor(value).detach().flatten()
    if flat.is_floating_point():
        return [float(f"{each:.8g}") for each in flat.tolist()]
    return flat.int().tolist()


def score_when_pad_is_eos() -> dict[str, Any]:
    """`get_reward` on one finished answer, with a pad token of its own and with pad == EOS."""
    from trl.experimental.utils import get_reward

    row = torch.tensor([[8, 5, 11, 14, EOS]])
    critic = tiny_models()["reward"]
    scores = [get_reward(critic, row, pad, 2)[1] for pad in (PAD, EOS)]
    return {"row": plain(row), "own_pad": plain(scores[0]), "pad_is_eos": plain(scores[1])}


def main() -> None:
    found = train(SEED)
    halves = {
        name: train(SEED, micro=3, epochs=1, **more)
        for name, more in {
            "two_minibatches": {"minibatches": 2, "batches": 2},
            "two_micro_batches": {"batches": 2},
            "two_micro_batches_at_the_end_of_the_data": {},
        }.items()
    }
    for each in halves.values():
        each["padding_mask"] = each.pop("rollout")["padding_mask"]
        each["micro_batches"] = [
            {name: part[name] for name in ("micro_batch_inds", "pg_loss")}
            for part in each["micro_batches"]
        ]
    everything = {"seed": SEED, **found, **halves, "end_token": score_when_pad_is_eos()}
    FIXTURE.write_text(json.dumps(everything) + "\n")


if __name__ == "__main__":
    main()
