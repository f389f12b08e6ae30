"""The figures of docs/experiments.md, each from simulated labelers whose gold measure is known.

    python benchmarks/experiments.py labelers --model FOLDER --data completions.jsonl

Simulated labelers are no people: one prefers the better of two completions by the gold measure, and
errs in a share of the comparisons. A ranking is the order of the comparisons won.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
NOISE = 0.27
GENERATIONS = (  # the weakest first: the simulated labeler's gold order of the Self-Instruct data
    *("davinci", "davinci-t0-ft", "davinci-self-instruct"),
    *("text-davinci-001", "text-davinci-002", "text-davinci-003"),
)


def noisy_ranks(gold: Sequence[float], noise: float, rng: random.Random) -> list[int]:
    """Ranks (1 = best) by comparisons won; each comparison errs with probability `noise`."""
    wins = [0] * len(gold)
    for i, j in itertools.combinations(range(len(gold)), 2):
        if gold[i] != gold[j]:
            wins[i if (gold[i] > gold[j]) != (rng.random() < noise) else j] += 1
    return [1 + sum(other > mine for other in wins) for mine in wins]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def learn(folder: Path, kind: str, size: str, **config: Any) -> list[dict[str, Any]]:
    """One run of the product's trainer in `folder`; the rows of its metrics."""
    from rlhf.learning.config import recipe

    folder.mkdir(parents=True)
    settings = recipe(kind, size)
    for part in ("train", "tune"):
        settings[part] |= config.pop(part, {})
    (folder / "config.json").write_text(json.dumps({"kind": kind, **settings, **config}))
    command = [sys.executable, "-m", "rlhf.learning", str(folder), "--data-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def labelers(options: argparse.Namespace) -> None:
    """Held-out pairwise accuracy of a reward model taught by noisy simulated labelers."""
    rng = random.Random(options.seed)
    rows = [json.loads(line) for line in options.data.read_text().splitlines()]
    rng.shuffle(rows)
    place = Path(tempfile.mkdtemp(prefix="experiment-"))
    noisy, gold = [], []
    for number, row in enumerate(rows):
        order = [GENERATIONS.index(each["model"]) for each in row["completions"]]
        shared = {
            "id": str(number), "prompt": row["prompt"],
            "completions": [each["content"] for each in row["completions"]],
        }  # fmt: skip
        gold.append({**shared, "ranks": [-each for each in order], "labeler": "gold"})
        ranks = noisy_ranks(order, options.noise, rng)
        noisy.append({**shared, "ranks": ranks, "labeler": "simulated"})
    cut = round(0.75 * len(rows))
    metrics = learn(
        place / "run", "reward", "small", seed=options.seed,
        models={"policy": os.path.abspath(options.model)},
        data={
            "train": write(place / "train.jsonl", noisy[:cut]),
            "test": write(place / "test.jsonl", gold[cut:]),
            "held_out_labelers": write(place / "noisy.jsonl", noisy[cut:]),
        },
        train={"epochs": options.epochs, "learning_rate": options.rate},
    )  # fmt: skip
    final = next(row for row in metrics if row["split"] == "final")
    seen = [row for row in metrics if row["split"] == "labelers"]
    names = ("accuracy", "accuracy_low", "accuracy_high", "longer_wins")
    print(json.dumps({
        "experiment": "labelers", "prompts": len(rows), "trained_on": cut, "noise": options.noise,
        "epochs": options.epochs, "learning_rate": options.rate, "seed": options.seed,
        "gold": {name: round(final[f"reward/{name}"], 4) for name in names},
        "noisy": {name: round(seen[-1][f"reward/{name}"], 4) for name in names} if seen else None,
    }))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("experiment", choices=["labelers"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--noise", type=float, default=NOISE)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    labelers(options)


if __name__ == "__main__":
    main()
