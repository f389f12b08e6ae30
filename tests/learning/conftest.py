"""A toy model of 60,000 weights and rows about fruit: enough for everything, in seconds."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch

from rlhf.learning.__main__ import run
from rlhf.learning.models import base, folders, networks
from rlhf.learning.publishing import writing
from rlhf.learning.run.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
FRUIT = ("apple", "pear", "plum", "fig", "grape", "lemon", "melon", "cherry")


def asking(fruit: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Say something about the {fruit}."}]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)  # so small a model gains nothing from a second one


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a base model, a reward model, and rows for every kind."""
    place = tmp_path_factory.mktemp("data")
    demonstrations = [
        {
            "id": f"d{i}",
            "prompt": asking(fruit),
            "completion": [
                {"role": "assistant", "content": f"The {fruit} is sweet" + " and round" * (i % 3)}
            ],
        }
        for i, fruit in enumerate(FRUIT)
    ]
    write_rows(place / "demonstrations.jsonl", demonstrations)
    write_rows(
        place / "prompts.jsonl", [{k: d[k] for k in ("id", "prompt")} for d in demonstrations]
    )
    write_rows(
        place / "rankings.jsonl",
        [
            {
                "id": f"r{i}",
                "prompt": asking(fruit),
                "completions": ["sweet", f"the {fruit} is sweet", "no " * (i + 3)],
                "ranks": [1, 2, 2 + i % 2],
            }
            for i, fruit in enumerate(FRUIT)
        ],
    )
    write_rows(
        place / "thumbs.jsonl",
        [{**row, "label": i % 3 > 0} for i, row in enumerate(demonstrations)],
    )
    write_rows(
        place / "documents.jsonl",
        [
            {"text": f"The {fruit} is a fruit. " * (1 + 5 * (i % 3))}
            for i, fruit in enumerate(FRUIT)
        ],
    )
    make_base(place / "base", place / "demonstrations.jsonl")
    torch.manual_seed(1)
    scorer = folders.load_score(place / "base")
    torch.nn.init.normal_(scorer.head.weight, std=0.2)  # one that has learnt something
    (place / "reward").mkdir()
    writing.publish_score(
        scorer,
        None,
        folders.renderer(place / "base"),
        place / "reward",
        "",
        {"mean": 0.0, "std": 1.0, "bias": 0.0},
    )
    return place


def make_base(out: Path, corpus: Path) -> None:
    """A base model that is smaller than the tiny one, and has learnt less."""
    original = base.PRETRAIN_STEPS, base.LlamaConfig
    base.PRETRAIN_STEPS = 5
    base.LlamaConfig = lambda **settings: original[1](
        **{**settings, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    )
    try:
        base.prepare("tiny", out, corpus)
    finally:
        base.PRETRAIN_STEPS, base.LlamaConfig = original


ON_GROUPS = {
    "models": {"policy": "base", "reward": "reward"},
    "data": {"train": "prompts.jsonl", "test": "prompts.jsonl"},
    "train": {
        "updates": 6,
        "batch_size": 8,
        "k": 2,
        "max_new_tokens": 6,
        "learning_rate": 1e-3,
        "rollout_epochs": 2,
        "minibatches": 2,
        "sample_every": 2,
    },
}
SETTINGS: dict[str, dict[str, Any]] = {
    "sft": {
        "models": {"policy": "base"},
        "data": {"train": "demonstrations.jsonl", "test": "demonstrations.jsonl"},
        "train": {"epochs": 2, "batch_size": 3, "learning_rate": 1e-3, "max_new_tokens": 6},
    },
    "reward": {
        "models": {"policy": "base"},
        "data": {"train": "rankings.jsonl", "calibration": "demonstrations.jsonl"},
        "train": {"epochs": 2, "batch_size": 3, "learning_rate": 1e-3, "holdout": 0.3},
    },
    "ppo": {
        "models": {"policy": "base", "reward": "reward"},
        "data": {"train": "prompts.jsonl", "test": "prompts.jsonl"},
        "train": {
            "updates": 6,
            "batch_size": 8,
            "max_new_tokens": 6,
            "learning_rate": 1e-3,
            "kl_control": "adaptive",
            "ppo_epochs": 2,
            "minibatches": 2,
            "sample_every": 2,
        },
    },
    **dict.fromkeys(["rloo", "grpo", "raft"], ON_GROUPS),
    "pretrain": {
        "models": {"policy": "base"},
        "data": {"train": "documents.jsonl", "test": "documents.jsonl"},
        "train": {"epochs": 2, "batch_size": 3, "learning_rate": 1e-3, "row_tokens": 64},
    },
    "dpo": {
        "models": {"policy": "base"},
        "data": {"train": "rankings.jsonl"},
        "train": {
            "epochs": 2,
            "batch_size": 3,
            "learning_rate": 1e-3,
            "holdout": 0.3,
            "max_new_tokens": 6,
        },
    },
    "kto": {
        "models": {"policy": "base"},
        "data": {"train": "thumbs.jsonl", "test": "thumbs.jsonl"},
        "train": {"epochs": 2, "batch_size": 3, "learning_rate": 1e-3, "max_new_tokens": 6},
    },
    "sample": {
        "models": {"policies": {"plain": {"path": "base"}}},
        "data": {"train": "prompts.jsonl"},
        "train": {"k": 2, "max_new_tokens": 6},
    },
}

Make = Callable[..., Path]


def new_run(place: Path, kind: str, **more: Any) -> Path:
    """A run folder in `place`, with the config of its kind and what changes in that."""
    folder = place / "t1"
    folder.mkdir(parents=True)
    config: dict[str, Any] = {"kind": kind, "seed": 3, **SETTINGS[kind]}
    frequent = {"checkpoint_every": 2, "evaluate_every": 2} if kind != "sample" else {}
    config["train"] = {**frequent, **config["train"]}
    for key, value in more.items():
        merges = isinstance(value, dict) and isinstance(config.get(key), dict)
        config[key] = {**config[key], **value} if merges else value
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def make_run(data_dir: Path, tmp_path: Path) -> Make:
    """make_run("ppo", train={"kl_coef": 0.1}) -> a run folder with its config."""
    return lambda kind, name="run", **more: new_run(tmp_path / name, kind, **more)


def learn(
    folder: Path,
    data_dir: Path,
    *,
    stop: Callable[[], bool] = lambda: False,
    resume: Path | None = None,
) -> int:
    """What `python -m rlhf.learning` does, in this process."""
    return run(RunFolder(folder, data_dir), stop, resume)  # type: ignore[arg-type]


def command(folder: Path, data_dir: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rlhf.learning", str(folder), "--data-dir", str(data_dir), *more],
        cwd=ROOT, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture
def policy(data_dir: Path) -> networks.PolicyNetwork:
    return folders.load_policy(data_dir / "base")


@pytest.fixture
def scorer(data_dir: Path) -> networks.ScoreNetwork:
    return folders.load_score(data_dir / "reward")
