"""The figures of docs/experiments.md, each from simulated labelers whose gold measure is known.

    python benchmarks/experiments.py EXPERIMENT --model .data/models/base-tiny

rankings, pairs: the reward model. beta, critics: the policy; methods.py compares algorithms.
labelers: completions of the GPT-3 models in --data, ranked by simulated labelers. arithmetic: sums,
where a check knows the right answer and nobody ranks.

Simulated labelers are no people: one prefers the better of two completions by the gold measure, and
errs in a share of the comparisons. A ranking is the order of the comparisons won.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
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
    from rlhf.learning.contract.config import recipe
    from rlhf.learning.run.run_folder import RunFolder

    folder.mkdir(parents=True)
    settings = recipe(kind, size)
    if "min_length" in settings["train"]:  # its labelers may like the shortest answer best
        settings["train"] |= {"min_length": 0.0, "min_distinct": 0.0}
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
    return learnt(options, rows, described(random.Random(f"test {seed}"), 64, 4, 0.0), seed)


def learnt(
    options: argparse.Namespace, rows: list[dict[str, Any]], test: list[dict[str, Any]], seed: int
) -> dict[str, Any]:
    """Held-out accuracy, against the gold measure, of a reward model that learnt from `rows`."""
    place = Path(tempfile.mkdtemp(prefix="experiment-"))
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


WANTED_WORDS, LONGEST = 6, 40  # words the labeler would like to read; tokens


def taste(text: str) -> float:
    """The gold score of a description: its good words among the first six, less one for every word
    too many or too few. From descriptions of six words nobody can learn the latter."""
    words = text.split()
    good = sum(word in WORDS[:4] for word in words[:WANTED_WORDS])
    return float(good - abs(len(words) - WANTED_WORDS))


class World:
    """A supervised policy that describes in random words, noisy rankings of its descriptions, and
    the reward model that learnt from them."""

    def __init__(self, options: argparse.Namespace, seed: int) -> None:
        self.place, self.seed, self.size = Path(tempfile.mkdtemp()), seed, options.size
        rng = random.Random(seed)
        asked = [
            {"id": str(n), "prompt": [{"role": "user", "content": f"Describe number {n}."}]}
            for n in rng.sample(range(1000), 192)
        ]
        told = [
            {**row, "completion": [{"role": "assistant", "content": " ".join(
                rng.choice(WORDS) for _ in range(WANTED_WORDS))}]}
            for row in asked
        ]  # fmt: skip
        self.prompts = write(self.place / "prompts.jsonl", asked[:128])
        self.test = write(self.place / "test.jsonl", asked[128:])
        base = os.path.abspath(options.model)
        demonstrations = write(self.place / "demonstrations.jsonl", told)
        self.run("sft", "sft", models={"policy": base}, data={"train": demonstrations},
                 train={"epochs": 8})  # fmt: skip
        self.sft = str(self.place / "sft/model")
        rows = []
        for row in asked[:128]:
            texts = [each["text"] for each in self.answers("sft", self.sft, 4, self.prompts)
                     if each["id"] == row["id"]]  # fmt: skip
            ranks = noisy_ranks([taste(text) for text in texts], options.noise, rng)
            rows.append({**row, "completions": texts, "ranks": ranks, "labeler": "simulated"})
        self.rankings = write(self.place / "rankings.jsonl", rows)
        self.run("reward", "reward", models={"policy": self.sft}, data={"train": self.rankings},
                 train={"learning_rate": 1e-3, "epochs": 2})  # fmt: skip
        self.reward = str(self.place / "reward/model")

    def run(self, name: str, kind: str, **config: Any) -> list[dict[str, Any]]:
        return learn(self.place / name, kind, self.size, seed=self.seed, **config)

    def answers(self, name: str, policy: str, k: int, prompts: str) -> list[dict[str, Any]]:
        """K completions of every prompt, with the reward model's scores once there is one."""
        folder = self.place / f"answers-{name}-{k}"
        if not folder.exists():
            reward = {"reward": self.reward} if hasattr(self, "reward") else {}
            learn(folder, "sample", self.size, seed=self.seed, data={"train": prompts},
                  models={"policies": {name: {"path": policy}}, **reward},
                  train={"k": k, "max_new_tokens": LONGEST})  # fmt: skip
        lines = (folder / "completions.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def ppo(self, name: str, **train: Any) -> list[dict[str, Any]]:
        """Rows of {step, sqrt_kl, score, gold}: means over the held-out prompts."""
        metrics = self.run(
            name, "ppo", models={"policy": self.sft, "reward": self.reward},
            data={"train": self.prompts, "test": self.test},
            train={"updates": 24, "max_new_tokens": LONGEST, "sample_every": 4,
                   "sample_prompts": 64, **train},
        )  # fmt: skip
        seconds = sum(row["seconds/update"] for row in metrics if row["split"] == "train")
        samples = [json.loads(line) for line in
                   (self.place / name / "samples.jsonl").read_text().splitlines()]  # fmt: skip
        rows = []
        for step, group in itertools.groupby(samples, lambda row: row["step"]):
            shown = list(group)
            kl, score, gold = (
                statistics.fmean(each)
                for each in zip(
                    *((s["kl"], s["score"], taste(s["text"])) for s in shown), strict=True
                )
            )
            rows.append({
                "step": step, "sqrt_kl": round(max(kl, 0) ** 0.5, 2), "score": round(score, 2),
                "gold": round(gold, 2), "seconds": round(seconds, 1),
            })  # fmt: skip
        return rows


def beta(options: argparse.Namespace) -> None:
    """Gold score against the root of the KL for three prices of KL."""
    for seed in range(options.seeds):
        world = World(options, seed)
        for price in (0.0, 0.05, 0.3):
            for row in world.ppo(f"kl-{price}", kl_coef=price):
                row.pop("seconds")
                print(json.dumps({"experiment": "beta", "seed": seed, "beta": price, **row}))


def critics(options: argparse.Namespace) -> None:
    """PPO whose values come from a network of their own, or from a head on the policy."""
    for seed in range(options.seeds):
        world = World(options, seed)
        for critic in ("reward", "shared"):
            for row in world.ppo(f"critic-{critic}", critic=critic):
                print(json.dumps({"experiment": "critics", "seed": seed, "critic": critic, **row}))


GENERATIONS = (  # the weakest first: the simulated labelers' gold order of the Self-Instruct data
    *("davinci", "davinci-t0-ft", "davinci-self-instruct"),
    *("text-davinci-001", "text-davinci-002", "text-davinci-003"),
)


def labelers(options: argparse.Namespace) -> None:
    """Accuracy of a reward model that noisy labelers taught on real completions in --data.

    Lines of {prompt, completions: [{model, content}, …]}; three quarters teach, the rest test.
    """
    rng = random.Random(0)
    rows = [json.loads(line) for line in Path(options.data).read_text().splitlines()]
    rng.shuffle(rows)
    noisy, gold = [], []
    for number, row in enumerate(rows):
        order = [GENERATIONS.index(each["model"]) for each in row["completions"]]
        shared = {
            "id": str(number), "prompt": row["prompt"], "labeler": "simulated",
            "completions": [each["content"] for each in row["completions"]],
        }  # fmt: skip
        gold.append({**shared, "ranks": [len(order) - each for each in order]})
        noisy.append({**shared, "ranks": noisy_ranks(order, options.noise, rng)})
    cut = round(0.75 * len(rows))
    print(json.dumps({"experiment": "labelers", **learnt(options, noisy[:cut], gold[cut:], 0)}))


NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hanna", "Ida", "Jon", "Kim", "Lou")
THINGS = ("apples", "books", "cups", "dogs", "eggs", "figs", "games", "hats", "keys", "lamps")
SAID = ('{"answer": %d}', "There are %d.")
BOTH = "json:1, number:1"
LARGEST = 5  # of the two numbers


def sums(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Different word problems; another name, thing or number makes another prompt."""
    everything = list(itertools.product(NAMES, THINGS, range(1, LARGEST + 1)))
    asked = [(*each, more) for each in everything for more in range(1, LARGEST + 1)]
    return [
        {"id": f"{name}-{thing}-{a}-{b}", "reference": str(a + b), "prompt": [{"role": "user",
         "content": f"{name} has {a} {thing} and gets {b} more. How many {thing} are there?"}]}
        for name, thing, a, b in rng.sample(asked, count)
    ]  # fmt: skip


def arithmetic(options: argparse.Namespace) -> None:
    """GRPO on sums, to be answered by the right number as JSON, where half of the demonstrations
    speak in words and a share is wrong: how many answers to held-out prompts pass both checks."""
    from feedback_site.answer_checks.written import read_checks
    from rlhf.learning.contract.figures import clustered_mean

    checks = [each.check for each in read_checks(BOTH)]
    for seed in range(options.seeds):
        place, rng = Path(tempfile.mkdtemp()), random.Random(seed)
        rows = sums(rng, 1152)
        told = [
            {**row, "completion": [{"role": "assistant", "content": rng.choice(SAID) % number}]}
            for row in rows[:512]
            for number in [int(row["reference"]) + rng.choice((-2, -1, 1, 2))
                           * (rng.random() < options.wrong)]
        ]  # fmt: skip
        files = {
            name: write(place / f"{name}.jsonl", part)
            for name, part in (("told", told), ("train", rows[:1024]), ("test", rows[1024:]))
        }
        learn(place / "sft", "sft", options.size, seed=seed,
              models={"policy": os.path.abspath(options.model)}, data={"train": files["told"]},
              train={"epochs": 16, "learning_rate": 2e-3, "evaluate_every": 0})  # fmt: skip
        begun = str(place / "sft/model")
        learn(place / "grpo", "grpo", options.size, seed=seed, models={"policy": begun},
              data={"train": files["train"]},
              train={"checks": BOTH, "updates": 40, "batch_size": 64, "k": 8,
                     "micro_batch_size": 64, "max_new_tokens": 16, "learning_rate": 5e-4,
                     "kl_coef": 0.01, "evaluate_every": 0, "sample_prompts": 0,
                     "checkpoint_every": 40})  # fmt: skip
        policies = {"sft": {"path": begun}, "grpo": {"path": str(place / "grpo/model")}}
        learn(place / "answers", "sample", options.size, seed=seed, data={"train": files["test"]},
              models={"policies": policies}, train={"k": 4, "max_new_tokens": 16})  # fmt: skip
        right = {row["id"]: row["reference"] for row in rows}
        passed: dict[str, list[float]] = {name: [] for name in policies}
        of_prompt: dict[str, list[str]] = {name: [] for name in policies}
        lines = (place / "answers/completions.jsonl").read_text().splitlines()
        for row in sorted(map(json.loads, lines), key=lambda row: row["id"]):
            answer = row["text"], right[row["id"]]
            passed[row["policy"]].append(float(all(each.score(*answer) == 1 for each in checks)))
            of_prompt[row["policy"]].append(row["id"])
        found = {"experiment": "arithmetic", "seed": seed, "prompts": len(rows) - 1024}
        for name, values in passed.items():
            found |= rounded(clustered_mean(values, [1.0] * len(values), of_prompt[name]), name)
        # Of the same prompts: half of one more than the difference lies between 0 and 1.
        gains = [(1 + g - s) / 2 for g, s in zip(passed["grpo"], passed["sft"], strict=True)]
        gained = clustered_mean(gains, [1.0] * len(gains), of_prompt["sft"])
        print(json.dumps({**found, **rounded(gained, "gain", 2, -1)}), flush=True)


def rounded(estimate: Any, name: str, scale: float = 1, shift: float = 0) -> dict[str, Any]:
    return {name: [round(scale * value + shift, 3) for value in
                   (estimate.value, estimate.low, estimate.high)]}  # fmt: skip


def main() -> None:
    experiments = {
        each.__name__: each for each in (rankings, pairs, beta, critics, labelers, arithmetic)
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("experiment", choices=experiments)
    parser.add_argument("--model", required=True, help="a Hugging Face model folder")
    parser.add_argument("--data", help="labelers: a file of completions of the six GPT-3 models")
    parser.add_argument("--size", default="tiny", choices=("tiny", "small", "large"))
    parser.add_argument("--noise", type=float, default=NOISE, help="share of comparisons that err")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rate", type=float, help="learning rate; the recipe's if not said")
    parser.add_argument("--wrong", type=float, default=0.1, help="share of wrong demonstrations")
    parser.add_argument("--seeds", type=int, default=2, help="repetitions of tiny experiments")
    options = parser.parse_args()
    experiments[options.experiment](options)


if __name__ == "__main__":
    main()
