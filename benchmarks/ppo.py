"""Episodes per second of PPO, rollout and learning, on the inputs of the peer's benchmark.

    python benchmarks/ppo.py --model FOLDER --episodes 48 --prompt-len 32 --response-len 48 \
        --batch 16 --epochs 1 --critic separate|shared [--lora] [--stop eos --prompts chat]

`--critic separate` holds four networks apart: policy, reference, reward model and critic.
"""

from __future__ import annotations

import random
from pathlib import Path

import synthetic


def main() -> None:
    parser = synthetic.arguments(__doc__ or "")
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--prompt-len", type=int, default=32)
    parser.add_argument("--jitter", type=int, default=8)
    parser.add_argument("--response-len", type=int, default=48)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--micro", type=int, default=4, help="episodes in memory at once")
    parser.add_argument("--minibatches", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--critic", choices=["separate", "shared"], default="separate")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--stop", choices=["none", "eos"], default="none")
    parser.add_argument("--prompts", choices=["random", "chat"], default="random")
    options = parser.parse_args()
    work = synthetic.Workplace(options.model, stops=options.stop == "eos", scorer=True)
    if options.prompts == "chat":
        longest = options.prompt_len + options.jitter
        prompts = synthetic.chat_ids(Path(options.model), options.episodes, longest)
    else:
        rng, reach = (
            random.Random(options.seed),
            (
                options.prompt_len - options.jitter,
                options.prompt_len + options.jitter,
            ),
        )
        prompts = [
            synthetic.random_ids(rng, work.vocabulary, *reach) for _ in range(options.episodes)
        ]

    from accelerate import Accelerator

    from rlhf.learning.models.networks import silence
    from rlhf.learning.ppo.learner import PPOLearner

    work.fit(options.threads)
    updates = options.episodes // options.batch
    folder = work.run_folder({
        "kind": "ppo", "seed": options.seed,
        "models": {"policy": "policy", "reward": "reward"},
        "tune": {"mode": "lora", "rank": 16, "alpha": 32} if options.lora else {"mode": "full"},
        "data": {"train": work.rows("prompts", [{"prompt": synthetic.asking(ids)}
                                                for ids in prompts])},
        "train": {
            "updates": updates, "batch_size": options.batch,
            "micro_batch_size": options.micro,
            "minibatches": options.minibatches, "ppo_epochs": options.epochs,
            "max_new_tokens": options.response_len, "learning_rate": 1e-6,
            "critic": "shared" if options.critic == "shared" else "reward", "target_kl": 0.0,
            "missing_eos": "subtract" if options.stop == "eos" else "none", "sample_prompts": 0,
        },
    })  # fmt: skip
    learner = PPOLearner(folder, Accelerator(cpu=True))
    if options.stop != "eos":
        silence(learner.policy.lm, [synthetic.EOS])  # all answers are of one length
    numbers = []
    best, kept = synthetic.best_seconds(lambda step: numbers.append(learner.update(step)), updates)
    synthetic.report(
        options,
        episodes_per_s=options.batch / best,
        seconds_per_update=kept,
        rollout_seconds=[round(each["seconds/rollout"], 3) for each in numbers[1:]],
        response_length=numbers[-1]["response/length"],
        first_ratio_deviation=max(each["policy/first_ratio_deviation"] for each in numbers),
    )


if __name__ == "__main__":
    main()
