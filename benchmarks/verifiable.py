"""GRPO on a task that a program verifies: does the pass rate rise on prompts it never saw?

    python benchmarks/verifiable.py [--seeds 3]

The prompts ask for sums of two digits from 0 to 4, each in six wordings; 40 of the 150 are held
out. The product's tiny base first sees each of the others with a right answer and a wrong one
(SFT), and then learns by GRPO from the check `number` alone, without a reward model. No person and
no simulated labeler takes part.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))
WORDINGS = (
    "What is {a} plus {b}?", "Add {a} and {b}.", "{a} + {b} = ?", "How much are {a} and {b}?",
    "The sum of {a} and {b} is", "{a} and {b} make",
)  # fmt: skip
HELD_OUT = 40
SFT = {
    "epochs": 40, "batch_size": 25, "micro_batch_size": 25, "learning_rate": 3e-3,
    "schedule": "constant", "checkpoint_every": 1000, "evaluate_every": 0, "max_new_tokens": 8,
}  # fmt: skip
GRPO = {
    "checks": "number", "updates": 60, "batch_size": 128, "k": 8, "micro_batch_size": 128,
    "learning_rate": 5e-4, "kl_coef": 0.01, "target_kl": 0.0, "max_new_tokens": 8,
    "evaluate_every": 20, "evaluate_prompts": HELD_OUT, "checkpoint_every": 1000,
}  # fmt: skip


def write_data(place: Path, seed: int) -> None:
    """Writes prompts with references to learn from and to hold out, and demonstrations."""
    rng = random.Random(seed)
    tasks = [(a, b, wording) for a in range(5) for b in range(5) for wording in WORDINGS]
    rng.shuffle(tasks)
    rows = [
        {
            "id": str(number),
            "prompt": [{"role": "user", "content": wording.format(a=a, b=b)}],
            "reference": str(a + b),
        }
        for number, (a, b, wording) in enumerate(tasks)
    ]
    demonstrations = [
        {**row, "completion": f"The answer is {said}"}
        for row in rows[HELD_OUT:]
        for right in (int(row["reference"]),)
        for said in (right, (right + rng.randint(1, 8)) % 9)
    ]
    files = {
        "test": rows[:HELD_OUT], "train": rows[HELD_OUT:], "demonstrations": demonstrations
    }  # fmt: skip
    for name, content in files.items():
        lines = "".join(json.dumps(row) + "\n" for row in content)
        (place / f"{name}.jsonl").write_text(lines)


def pass_rates(place: Path, seed: int) -> dict[int, float]:
    """Returns the held-out pass rate by update."""
    from experiments import learn

    from rlhf.learning.models.base import prepare

    write_data(place, seed)
    prepare("tiny", place / "base", place / "demonstrations.jsonl")
    learn(
        place / "sft", "sft", "tiny", seed=seed, train=SFT,
        models={"policy": str(place / "base")},
        data={"train": str(place / "demonstrations.jsonl")},
    )  # fmt: skip
    metrics: list[dict[str, Any]] = learn(
        place / "grpo", "grpo", "tiny", seed=seed, train=GRPO,
        models={"policy": str(place / "sft/model")},
        data={name: str(place / f"{name}.jsonl") for name in ("train", "test")},
    )  # fmt: skip
    return {row["step"]: row["reward/number"] for row in metrics if row["split"] == "test"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    for seed in range(1, parser.parse_args().seeds + 1):
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as place:
            rates = pass_rates(Path(place), seed)
        said = ", ".join(f"{rate:.0%} at update {step}" for step, rate in rates.items())
        print(f"seed {seed}: {said} ({time.perf_counter() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
