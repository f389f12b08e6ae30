"""What guests say in the chat moves the policy: a round with it and one without, by a gold measure
on held-out prompts.

    python -m benchmarks.guests --model .data/models/base-tiny [--seeds 3]

Simulated labelers write demonstrations in words that chance has drawn, and rank a few answers; they
like four of the eight words (see benchmarks/experiments.py) and err in 27 % of their comparisons.
Guests with the same taste say what they would have liked to read, of which a share of the words is
not liked either, and choose between two drafts, erring as often. The round is SFT, then DPO; it is
trained without guests, with the answers they wanted, with their choices, and with both. A line of
JSON for each: the win rate against the round without guests, and its 95 % interval, in which
prompts count as wholes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.experiments import NOISE, WANTED_WORDS, WORDS, learn, noisy_ranks, taste, write

LABELERS, WANTED, DRAFTS, RANKED, HELD_OUT = 64, 64, 96, 24, 48  # prompts
LIKED = 0.8  # of the words that guests want
SAMPLES, LONGEST = 4, 40  # to each held-out prompt; tokens
Rows = list[dict[str, Any]]


def prompts(rng: random.Random, count: int) -> Rows:
    numbers = rng.sample(range(1000), count)
    return [
        {"id": str(n), "prompt": [{"role": "user", "content": f"Describe number {n}."}]}
        for n in numbers
    ]


def told(rng: random.Random, rows: Rows, liked: float) -> Rows:
    """A demonstration of each: six words, of which so large a share is liked."""
    drawn = [
        [rng.choice(WORDS[:4] if rng.random() < liked else WORDS[4:]) for _ in range(WANTED_WORDS)]
        for _ in rows
    ]
    return [
        {**row, "completion": [{"role": "assistant", "content": " ".join(words)}]}
        for row, words in zip(rows, drawn, strict=True)
    ]


class World:
    """The data of one repetition, and the trainings that it has been given to."""

    def __init__(self, options: argparse.Namespace, seed: int) -> None:
        self.options, self.seed, self.rng = options, seed, random.Random(seed)
        self.place = Path(tempfile.mkdtemp(prefix="guests-"))
        every = iter(prompts(self.rng, LABELERS + WANTED + DRAFTS + RANKED + HELD_OUT))

        def next_of(count: int) -> Rows:
            return [next(every) for _ in range(count)]

        self.demonstrations = told(self.rng, next_of(LABELERS), liked=0.5)
        self.wanted = told(self.rng, next_of(WANTED), liked=LIKED)
        drafted, ranked = next_of(DRAFTS), next_of(RANKED)
        self.held_out = next_of(HELD_OUT)
        self.live = self.sft("live", self.demonstrations)
        self.drafts = self.judged(self.live, drafted, k=2)
        self.rankings = self.judged(self.live, ranked, k=4)

    def run(self, name: str, kind: str, **config: Any) -> str:
        learn(self.place / name, kind, "tiny", seed=self.seed, **config)
        return str(self.place / name / "model")

    def file(self, name: str, rows: Rows) -> str:
        return write(self.place / f"{name}.jsonl", rows)

    def sft(self, name: str, rows: Rows) -> str:
        return self.run(
            f"sft-{name}", "sft", models={"policy": os.path.abspath(self.options.model)},
            data={"train": self.file(f"sft-{name}", rows)},
            train={"epochs": 8, "evaluate_every": 0, "sample_prompts": 0},
        )  # fmt: skip

    def dpo(self, name: str, start: str, rows: Rows) -> str:
        return self.run(
            f"dpo-{name}", "dpo", models={"policy": start},
            data={"train": self.file(f"dpo-{name}", rows)},
            train={"learning_rate": 2e-4, "evaluate_every": 0, "sample_prompts": 0},
        )  # fmt: skip

    def answers(self, policy: str, rows: Rows, k: int) -> dict[str, list[str]]:
        """Prompt → K completions."""
        folder = self.place / f"answers-{Path(policy).parent.name}-{len(rows)}-{k}"
        learn(
            folder, "sample", "tiny", seed=self.seed,
            data={"train": self.file(folder.name, rows)},
            models={"policies": {"one": {"path": policy}}},
            train={"k": k, "max_new_tokens": LONGEST},
        )  # fmt: skip
        said = defaultdict(list)
        for line in (folder / "completions.jsonl").read_text().splitlines():
            row = json.loads(line)
            said[row["id"]].append(row["text"])
        return dict(said)

    def judged(self, policy: str, rows: Rows, k: int) -> Rows:
        """Rankings of K answers, by somebody of that taste who errs."""
        said = self.answers(policy, rows, k)
        return [
            {
                **row,
                "completions": said[row["id"]],
                "ranks": noisy_ranks([taste(t) for t in said[row["id"]]], NOISE, self.rng),
                "labeler": "simulated",
            }
            for row in rows
        ]

    def round(self, name: str, demonstrations: Rows, rankings: Rows) -> dict[str, list[float]]:
        """Prompt → gold scores of the answers of the policy that this round ends with."""
        start = self.live
        if len(demonstrations) > len(self.demonstrations):
            start = self.sft(name, demonstrations)
        policy = self.dpo(name, start, rankings)
        said = self.answers(policy, self.held_out, SAMPLES)
        return {prompt: [taste(text) for text in texts] for prompt, texts in said.items()}


def wins(mine: list[float], theirs: list[float]) -> float:
    """The share of the pairs of answers that are won; a tie is half of one."""
    pairs = [(a > b) + (a == b) / 2 for a in mine for b in theirs]
    return statistics.fmean(pairs)


def mean(scores: list[float]) -> float:
    return round(statistics.fmean(scores), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="a Hugging Face model folder")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions")
    options = parser.parse_args()
    from rlhf.learning.contract.figures import clustered_mean

    rates: dict[str, list[tuple[str, float]]] = defaultdict(list)
    gold: dict[str, list[float]] = defaultdict(list)
    for seed in range(options.seeds):
        world = World(options, seed)
        both = [*world.demonstrations, *world.wanted], [*world.rankings, *world.drafts]
        without = world.round("without", world.demonstrations, world.rankings)
        rounds = {
            "without guests": without,
            "wanted answers": world.round("wanted", both[0], world.rankings),
            "drafts": world.round("drafts", world.demonstrations, both[1]),
            "both": world.round("both", *both),
        }
        for name, scores in rounds.items():
            gold[name] += [score for each in scores.values() for score in each]
            rates[name] += [(f"{seed}/{p}", wins(scores[p], without[p])) for p in without]
    del rates["without guests"]  # one half, against itself
    print(json.dumps({"round": "without guests", "gold": mean(gold["without guests"])}))
    for name, found in rates.items():
        of_prompt, values = zip(*found, strict=True)
        rate = clustered_mean(values, [1.0] * len(values), of_prompt)
        print(json.dumps({
            "round": name, "seeds": options.seeds, "prompts": len(values),
            "gold": mean(gold[name]),
            "win_rate": round(rate.value, 3),
            "interval": [round(end, 3) for end in (rate.low, rate.high) if end is not None],
        }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
