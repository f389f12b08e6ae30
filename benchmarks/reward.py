"""Comparisons per second of the reward model on rankings of K, on the peer's inputs.

python benchmarks/reward.py --model FOLDER --prompts 8 --k 6
"""

from __future__ import annotations

import random

import synthetic


def main() -> None:
    parser = synthetic.arguments(__doc__ or "")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--k", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8, help="ranked prompts per step")
    parser.add_argument("--micro", type=int, default=2, help="of them in memory at once")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lora", action="store_true")
    options = parser.parse_args()
    work = synthetic.Workplace(options.model)
    rng = random.Random(options.seed)
    rows = []
    for _ in range(options.prompts):
        prompt = synthetic.random_ids(rng, work.vocabulary, 16, 64)
        answers = [synthetic.random_ids(rng, work.vocabulary, 16, 96) for _ in range(options.k)]
        rows.append({
            "prompt": synthetic.asking(prompt),
            "completions": [synthetic.words(ids) for ids in answers],
            "ranks": list(range(options.k)), "finish_reasons": ["length"] * options.k,
        })  # fmt: skip

    from accelerate import Accelerator

    from rlhf.learning.algorithms.reward import RewardLearner

    work.fit(options.threads)
    folder = work.run_folder({
        "kind": "reward", "seed": options.seed, "models": {"policy": "policy"},
        "tune": {"mode": "lora", "rank": 16, "alpha": 32} if options.lora else {"mode": "full"},
        "data": {"train": work.rows("rankings", rows)},
        "train": {"epochs": options.epochs, "batch_size": options.batch, "learning_rate": 1e-6,
                  "micro_batch_size": options.micro, "holdout": 0.0},
    })  # fmt: skip
    learner = RewardLearner(folder, Accelerator(cpu=True))
    steps = learner.epochs.steps_per_epoch

    def epoch(number: int) -> None:
        for step in range(number * steps, (number + 1) * steps):
            learner.update(step)

    best, kept = synthetic.best_seconds(epoch, options.epochs)
    comparisons = options.prompts * options.k * (options.k - 1) // 2
    synthetic.report(
        options, comparisons_per_s=comparisons / best, seconds_per_epoch=kept,
        comparisons=comparisons, steps_per_epoch=steps,
        tokens=sum(len(row.ids) for element in learner.elements for row in element.rows),
    )  # fmt: skip


if __name__ == "__main__":
    main()
