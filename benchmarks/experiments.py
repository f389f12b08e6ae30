"""The figures of docs/experiments.md, each from simulated labelers whose gold measure is known.

    python benchmarks/experiments.py rankings --model .data/models/base-tiny
    python benchmarks/experiments.py pairs    --model .data/models/base-tiny

Simulated labelers are no people: one prefers the better of two completions by the gold measure, and
errs in a share of the comparisons. A ranking is the order of the comparisons won.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
NOISE = 0.27


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
    from rlhf.learning.__main__ import run
    from rlhf.learning.config import recipe
    from rlhf.learning.run_folder import RunFolder

    folder.mkdir(parents=True)
    settings = recipe(kind, size)
    for part in ("train", "tune"):
        settings[part] |= config.pop(part, {})
    (folder / "config.json").write_text(json.dumps({"kind": kind, **settings, **config}))
    if run(RunFolder(folder, folder), lambda: False, None) != 0:  # type: ignore[arg-type]
        raise SystemExit(f"{folder} failed; see its log.txt")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


WORDS = ("warm", "clear", "kind", "short", "dull", "rude", "vague", "wrong")  # the first four: good


def described(rng: random.Random, prompts: int, k: int, noise: float) -> list[dict[str, Any]]:
    """Rankings of K made-up answers: the labeler likes the good words in them."""
    rows = []
    for number in range(prompts):
        answers = [" ".join(rng.choice(WORDS) for _ in range(6)) for _ in range(k)]
        gold = [float(sum(WORDS.index(each) < 4 for each in one.split())) for one in answers]
        rows.append({
            "id": str(number), "labeler": "simulated", "completions": answers,
            "prompt": [{"role": "user", "content": f"Describe number {rng.randrange(10**6)}."}],
            "ranks": noisy_ranks(gold, noise, rng),
        })  # fmt: skip
    return rows


def taught(options: argparse.Namespace, rows: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Held-out accuracy, against the gold measure, of a reward model that learnt from `rows`."""
    place = Path(tempfile.mkdtemp(prefix="experiment-"))
    test = described(random.Random(f"test {seed}"), 64, 4, 0.0)
    rate = {"learning_rate": options.rate} if options.rate else {}
    metrics = learn(
        place / "run", "reward", options.size, seed=seed,
        models={"policy": os.path.abspath(options.model)},
        data={"train": write(place / "train.jsonl", rows),
              "test": write(place / "test.jsonl", test)},
        train={"epochs": options.epochs, "evaluate_every": 0, "calibration_samples": 0, **rate},
    )  # fmt: skip
    final = next(row for row in metrics if row["split"] == "final")
    return {"seed": seed, "rankings": len(rows), "k": len(rows[0]["completions"]), **{
        name: round(final[f"reward/{name}"], 3)
        for name in ("accuracy", "accuracy_low", "accuracy_high")
    }}  # fmt: skip


def rankings(options: argparse.Namespace) -> None:
    """Accuracy against the number of rankings of four answers."""
    for count in (16, 64, 256):
        for seed in range(options.seeds):
            rows = described(random.Random(seed), count, 4, options.noise)
            print(json.dumps({"experiment": "rankings", **taught(options, rows, seed)}), flush=True)


def pairs(options: argparse.Namespace) -> None:
    """As many comparisons: 32 rankings of six answers, or 480 pairs with prompts of their own."""
    for count, k in ((32, 6), (480, 2)):
        for seed in range(options.seeds):
            rows = described(random.Random(seed), count, k, options.noise)
            print(json.dumps({"experiment": "pairs", **taught(options, rows, seed)}), flush=True)


def main() -> None:
    experiments = {"rankings": rankings, "pairs": pairs}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("experiment", choices=experiments)
    parser.add_argument("--model", required=True, help="a Hugging Face model folder")
    parser.add_argument("--size", default="tiny", choices=("tiny", "small", "large"))
    parser.add_argument("--noise", type=float, default=NOISE, help="share of comparisons that err")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rate", type=float, help="learning rate; the recipe's if not said")
    parser.add_argument("--seeds", type=int, default=2, help="repetitions of tiny experiments")
    options = parser.parse_args()
    experiments[options.experiment](options)


if __name__ == "__main__":
    main()
