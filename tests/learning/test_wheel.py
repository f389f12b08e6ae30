"""SFT, rankings, reward model, PPO, RLOO, GRPO, RAFT: what people like there is more of, on prompts
never trained on."""

import itertools
import random

from rlhf.learning.contract.figures import clustered_mean, correct
from tests.learning.conftest import FRUIT, asking, learn, read_rows, write_rows

# Each beside what both are told.
PRACTICE = {
    "ppo": {"critic_learning_rate": 3e-3, "kl_control": "fixed"},
    "rloo": {"k": 4},
    "grpo": {"k": 4},
    "raft": {"k": 4},
}


def test_a_noisy_labelers_taste_comes_through_the_whole_wheel(make_run, data_dir, tmp_path):
    """Rankings by a labeler who likes few words, and errs in 27 % of the comparisons."""
    rng = random.Random(0)
    prompts = [{"id": f"w{i}", "prompt": asking(f"{fruit} {i}")}
               for i, fruit in enumerate(FRUIT * 8)]  # fmt: skip
    write_rows(tmp_path / "train.jsonl", prompts[:48])
    write_rows(tmp_path / "test.jsonl", prompts[48:])

    def answers(name, models, file, k):
        folder = make_run("sample", name, models={"policies": models}, data={"train": file},
                          train={"k": k, "max_new_tokens": 24, "batch_size": 128})  # fmt: skip
        assert learn(folder, data_dir) == 0
        return read_rows(folder / "completions.jsonl")

    def words(row):
        return len(row["text"].split()) if row["finish_reason"] == "stop" else 1000

    sft = make_run("sft", "sft", train={"epochs": 30, "evaluate_every": 0, "checkpoint_every": 500})
    assert learn(sft, data_dir) == 0
    begun = str(sft / "model")
    drawn = answers("drawn", {"plain": {"path": begun}}, str(tmp_path / "train.jsonl"), 4)
    rankings = []
    for prompt in prompts[:48]:
        rows = [row for row in drawn if row["id"] == prompt["id"]]
        wins = [0] * len(rows)
        for i, j in itertools.combinations(range(len(rows)), 2):
            wins[i if (words(rows[i]) < words(rows[j])) != (rng.random() < 0.27) else j] += 1
        rankings.append({
            **prompt, "completions": [row["text"] for row in rows],
            "ranks": [-each for each in wins],
            "finish_reasons": [row["finish_reason"] for row in rows]})  # fmt: skip
    write_rows(tmp_path / "rankings.jsonl", rankings)
    reward = make_run("reward", "reward", models={"policy": begun},
                      data={"train": str(tmp_path / "rankings.jsonl")},
                      train={"epochs": 3, "batch_size": 8, "learning_rate": 3e-3})  # fmt: skip
    assert learn(reward, data_dir) == 0
    policies = {"sft": {"path": begun}}
    for kind, more in PRACTICE.items():
        run = make_run(
            kind, kind, models={"policy": begun, "reward": str(reward / "model")},
            data={"train": str(tmp_path / "train.jsonl"), "test": str(tmp_path / "test.jsonl")},
            train={"updates": 12, "batch_size": 64, "micro_batch_size": 64, "max_new_tokens": 24,
                   "learning_rate": 3e-3, "evaluate_every": 12, "sample_every": 12,
                   "schedule": "constant", **more})  # fmt: skip
        assert learn(run, data_dir) == 0
        policies[kind] = {"path": str(run / "model")}
    rows = answers("judged", policies, str(tmp_path / "test.jsonl"), 4)
    said = {name: [row for row in rows if row["policy"] == name] for name in policies}
    for kind in PRACTICE:
        wins, clusters = [], []
        for before, after in zip(said["sft"], said[kind], strict=True):
            wins.append(correct(words(before) - words(after)))
            clusters.append(before["id"])
        rate = clustered_mean(wins, [1.0] * len(wins), clusters)
        assert rate.low and rate.low > 0.5, (kind, rate)
