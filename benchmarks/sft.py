"""Tokens per second of supervised fine-tuning, prompt and completion counted, on the peer's inputs.

python benchmarks/sft.py --model FOLDER
"""

from __future__ import annotations

import random

import synthetic


def main() -> None:
    parser = synthetic.arguments(__doc__ or "")
    parser.add_argument("--n", type=int, default=32, help="demonstrations")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--micro", type=int, default=4, help="rows in memory at once")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lora", action="store_true")
    options = parser.parse_args()
    work = synthetic.Workplace(options.model)
    rng = random.Random(options.seed)
    rows, tokens = [], 0
    for _ in range(options.n):
        lengths = rng.randint(16, 64), rng.randint(16, 160)
        ids = [rng.randrange(4, min(work.vocabulary, 2000)) for _ in range(sum(lengths))]
        tokens += len(ids)
        answer = {"role": "assistant", "content": synthetic.words(ids[lengths[0] :])}
        rows.append({"prompt": synthetic.asking(ids[: lengths[0]]), "completion": [answer]})

    from accelerate import Accelerator

    from rlhf.learning.algorithms.sft import SFTLearner

    work.fit(options.threads)
    folder = work.run_folder({
        "kind": "sft", "seed": options.seed, "models": {"policy": "policy"},
        "tune": {"mode": "lora", "rank": 16, "alpha": 32} if options.lora else {"mode": "full"},
        "data": {"train": work.rows("demonstrations", rows)},
        "train": {"epochs": options.epochs, "batch_size": options.batch, "learning_rate": 1e-6,
                  "micro_batch_size": options.micro, "sample_prompts": 0},
    })  # fmt: skip
    learner = SFTLearner(folder, Accelerator(cpu=True))
    steps = learner.epochs.steps_per_epoch

    def epoch(number: int) -> None:
        for step in range(number * steps, (number + 1) * steps):
            learner.update(step)

    best, kept = synthetic.best_seconds(epoch, options.epochs)
    # Our rows also learn the end of the answer; that token is not counted.
    synthetic.report(
        options, tokens_per_s=tokens / best, seconds_per_epoch=kept, tokens=tokens,
        steps_per_epoch=steps,
    )  # fmt: skip


if __name__ == "__main__":
    main()
