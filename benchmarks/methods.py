"""Every algorithm from the same labels: what people would say of it, as far from the start.

    python benchmarks/methods.py --model .data/models/base-tiny --seeds 3 [--jobs 3]

The world and its simulated labelers are those of experiments.py. A policy's win rate is against the
supervised policy that all begin with, by the gold measure, on prompts that no algorithm saw. *Equal
KL*: as far from that policy as the best of 16 samples is: of an algorithm that samples the look
whose KL is nearest, of DPO and KTO the learning rate. *Equal answers*: the algorithms that sample
have all drawn as many. Prints a line of JSON for each of them, then a table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from experiments import LONGEST, NOISE, World, taste, write

SAMPLING = ("ppo", "rloo", "grpo", "raft")
OFFLINE = ("dpo", "kto")
RATES = (2e-4, 1e-3)  # the recipe's first
EACH = 2  # answers to each held-out prompt
RIVALS = 16  # answers of the supervised policy that each of them meets
LOOK_EVERY = 2  # updates

Answer = dict[str, Any]  # {step, prompt, text, kl}


def farthest(n: int) -> float:
    """KL of the best of n samples from the policy, in nats; at most (Beirami et al. 2024)."""
    return math.log(n) - (n - 1) / n


FAR = farthest(16)


class Methods(World):
    """One supervised policy and its labels, which every algorithm gets."""

    def __init__(self, options: argparse.Namespace, seed: int) -> None:
        super().__init__(options, seed)
        self.updates, self.episodes = options.updates, options.episodes
        asked = [json.loads(line) for line in Path(self.test).read_text().splitlines()]
        self.looks = write(
            self.place / "looks.jsonl",
            [{**row, "id": f"{row['id']} {n}"} for row in asked for n in range(EACH)],
        )
        ranked = [json.loads(line) for line in Path(self.rankings).read_text().splitlines()]
        self.thumbs = write(self.place / "thumbs.jsonl", [
            {"id": f"{row['id']} {n}", "prompt": row["prompt"], "completion": text,
             "label": 2 * rank <= len(row["ranks"])}
            for row in ranked
            for n, (text, rank) in enumerate(zip(row["completions"], row["ranks"], strict=True))
        ])  # fmt: skip
        self.rivals: dict[str, list[float]] = defaultdict(list)
        for row in self.answers("rival", self.sft, RIVALS, self.test):
            self.rivals[row["id"]].append(taste(row["text"]))

    def learnt(self, kind: str, rate: float) -> list[Answer]:
        """What a policy says that learnt from the labels alone."""
        name, train = f"{kind}-{rate:g}", self.rankings if kind == "dpo" else self.thumbs
        self.run(name, kind, models={"policy": self.sft}, data={"train": train},
                 train={"learning_rate": rate, "sample_prompts": 0})  # fmt: skip
        return self.heard(name, str(self.place / name / "model"))

    def heard(self, name: str, policy: str) -> list[Answer]:
        """What a policy says to the held-out prompts, and its KL: an update of nothing tells."""
        models = {"policy": policy, "reference": self.sft}
        nothing = {"updates": 1, "learning_rate": 0.0, "batch_size": 4, "minibatches": 1, "k": 4}
        return self.rolled_out(f"look-{name}", "rloo", models, **nothing)

    def rolled_out(self, name: str, kind: str, models: Any = None, **train: Any) -> list[Answer]:
        """What a policy says now and then, while it learns from the reward model."""
        self.run(
            name, kind, models={"policy": self.sft, "reward": self.reward, **(models or {})},
            data={"train": self.prompts, "test": self.looks},
            train={"max_new_tokens": LONGEST, "evaluate_every": LOOK_EVERY, "evaluate_prompts": 1,
                   "sample_every": LOOK_EVERY, "sample_prompts": 1 << 20, **train},
        )  # fmt: skip
        lines = (self.place / name / "samples.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        if not train.get("learning_rate", 1.0):
            rows = [row for row in rows if row["step"] == 0]
        return [{**row, "prompt": row["prompt_id"].split()[0]} for row in rows]

    def best_of(self, n: int) -> list[Answer]:
        """What the reward model likes best of n samples, as often as there are looks."""
        rows = self.answers("sft", self.sft, EACH * n, self.test)
        rows.sort(key=lambda row: row["id"])
        return [
            {**max(rows[i : i + n], key=lambda row: row["score"]), "prompt": rows[i]["id"],
             "kl": farthest(n)}
            for i in range(0, len(rows), n)
        ]  # fmt: skip

    def wins(self, answers: list[Answer]) -> list[float]:
        """Of each answer the share of the supervised policy's answers that it beats."""
        return [
            statistics.fmean(
                0.5 if mine == other else float(mine > other)
                for mine in [taste(row["text"])]
                for other in self.rivals[row["prompt"]]
            )
            for row in answers
        ]


def tried(world: Methods) -> list[tuple[str, str, str, list[Answer]]]:
    """(algorithm, budget, setting, answers) of everything that is compared."""
    found = [
        ("supervised policy", "none", "", world.heard("sft", world.sft)),
        ("best of 4", "as it comes", "", world.best_of(4)),
        ("best of 16", "equal KL", "", world.best_of(16)),
    ]
    for kind in OFFLINE:
        said = {rate: world.learnt(kind, rate) for rate in RATES}
        nearest = min(RATES, key=lambda rate: abs(mean_kl(said[rate]) - FAR))
        found.append((kind, "as it comes", f"rate {RATES[0]:g}", said[RATES[0]]))
        found.append((kind, "equal KL", f"rate {nearest:g}", said[nearest]))
    for kind in SAMPLING:
        rows = world.rolled_out(kind, kind, updates=world.updates, batch_size=world.episodes)
        looks = {step: list(group) for step, group in itertools.groupby(rows, step_of)}
        begun, last = min(looks), max(looks)
        nearest = min(looks.keys() - {begun}, key=lambda step: abs(mean_kl(looks[step]) - FAR))
        for budget, step in (("equal answers", last), ("equal KL", nearest)):
            found.append((kind, budget, f"{step * world.episodes} answers", looks[step]))
    return found


def step_of(row: Answer) -> int:
    return int(row["step"])


def mean_kl(answers: list[Answer]) -> float:
    return statistics.fmean(row["kl"] for row in answers)


def compared(options: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Figures of everything that is compared in the world of this seed."""
    world, rows = Methods(options, seed), []
    for method, budget, setting, answers in tried(world):
        row = {
            "seed": seed, "method": method, "budget": budget, "setting": setting,
            "kl": round(mean_kl(answers), 2),
            "gold": round(statistics.fmean(taste(each["text"]) for each in answers), 2),
            "words": round(statistics.fmean(len(each["text"].split()) for each in answers), 1),
        }  # fmt: skip
        wins = world.wins(answers)
        print(json.dumps({**row, "wins": round(statistics.fmean(wins), 3)}), flush=True)
        rows.append({**row, "wins": wins, "prompts": [each["prompt"] for each in answers]})
    return rows


def table(rows: list[dict[str, Any]]) -> None:
    """A line for every algorithm and budget; intervals count the prompts of every seed."""
    from rlhf.learning.contract.figures import clustered_mean

    def of(row: dict[str, Any]) -> tuple[str, str]:
        return row["budget"], row["method"]

    print("| budget | algorithm | settings | KL, nats | gold score, by seed | gold win rate |")
    print("|---|---|---|---|---|---|")
    for (budget, method), group in itertools.groupby(sorted(rows, key=of), of):
        runs = list(group)
        wins = [win for run in runs for win in run["wins"]]
        names = [f"{run['seed']} {prompt}" for run in runs for prompt in run["prompts"]]
        rate = clustered_mean(wins, [1.0] * len(wins), names)
        low, high = (f"{100 * (each or 0):.0f}" for each in (rate.low, rate.high))
        settings = ", ".join(dict.fromkeys(run["setting"] for run in runs))
        scores = " · ".join(f"{run['gold']:.2f}" for run in runs)
        far = " · ".join(f"{run['kl']:.1f}" for run in runs)
        print(f"| {budget} | {method} | {settings} | {far} | {scores} |"
              f" {100 * rate.value:.0f} % ({low} to {high}) |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="a Hugging Face model folder")
    parser.add_argument("--size", default="tiny", choices=("tiny", "small", "large"))
    parser.add_argument("--noise", type=float, default=NOISE, help="share of comparisons that err")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--episodes", type=int, default=64, help="answers to an update")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at once")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        found = pool.map(partial(compared, options), range(options.seeds))
        table([row for rows in found for row in rows])


if __name__ == "__main__":
    main()
