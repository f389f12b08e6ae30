"""Tokens per second of TRL's trainers on the rows and the model of `benchmarks/gpu.py`."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch


def tokens_per_s(kind: str, world: Path, size: Any, device: str) -> float | str:
    """The median over all steps but the first; prompt and answer counted, a pair twice.

    TRL learns from pairs, so a step sees as many answers as ours, in pairs. Its GRPO is scored by a
    function, which costs nothing, where ours asks a reward model."""
    if importlib.util.find_spec("trl") is None:
        return "not installed"
    logging.disable(logging.WARNING)  # what TRL says of each row
    import trl
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )

    taken: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if device == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - self.started)

    trainer, more, rows, answers = {
        "sft": (trl.SFTTrainer, {}, "demonstrations", size.batch),
        "reward": (trl.RewardTrainer, {}, "rankings", size.batch),
        "dpo": (trl.DPOTrainer, {}, "rankings", size.batch),
        "grpo": (trl.GRPOTrainer, {"num_generations": 4, "max_completion_length": size.answer},
                 "prompts", size.batch),
    }[kind]  # fmt: skip
    at_once = min(16, answers if kind in ("sft", "grpo") else answers // 2)
    config = getattr(trl, trainer.__name__.replace("Trainer", "Config"))(
        output_dir=tempfile.mkdtemp(prefix="trl-"), bf16=device == "cuda", use_cpu=device == "cpu",
        per_device_train_batch_size=at_once, max_steps=size.steps, learning_rate=1e-5,
        gradient_accumulation_steps=(answers if kind in ("sft", "grpo") else answers // 2)
        // at_once, gradient_checkpointing=False, report_to=[], save_strategy="no",
        logging_strategy="no", **more,
    )  # fmt: skip
    auto: Any = AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
    labels = {"num_labels": 1} if kind == "reward" else {}
    learner = trainer(
        model=auto.from_pretrained(world / "policy", dtype=torch.float32, **labels),
        args=config,
        train_dataset=dataset(world / f"{rows}.jsonl", kind, size.batch * size.steps),
        processing_class=AutoTokenizer.from_pretrained(world / "policy"),
        callbacks=[Clock()],
        **({"reward_funcs": lengths} if kind == "grpo" else {}),
    )
    with contextlib.redirect_stdout(sys.stderr):
        learner.train()
    tokens = answers * (size.prompt + size.answer)
    return round(tokens / statistics.median(taken[1:] or taken), 1)


def lengths(completions: list[Any], **_: Any) -> list[float]:
    return [float(len(str(each)) % 7) for each in completions]


def dataset(path: Path, kind: str, count: int) -> Any:
    """TRL's rows, in conversations: as many answers as ours learn from."""
    from datasets import Dataset

    rows: list[dict[str, Any]] = []
    for row in map(json.loads, path.read_text().splitlines()):
        if kind in ("reward", "dpo"):
            pairs = zip(row["completions"][::2], row["completions"][1::2], strict=True)
            rows += [
                {"prompt": row["prompt"], "chosen": spoken(better), "rejected": spoken(worse)}
                for better, worse in pairs
            ]
        else:
            rows.append({name: row[name] for name in ("prompt", "completion") if name in row})
    return Dataset.from_list(rows[:count])


def spoken(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
