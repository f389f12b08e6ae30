"""Composed rewards: parts, weights and limits by hand, in a run, and what a run learns of them."""

import json
from collections.abc import Sequence

import pytest
import torch
from accelerate import Accelerator

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.kinds.grpo import GRPO
from rlhf.learning.contract.reading import read_prompts
from rlhf.learning.contract.records import DataError, Prompt
from rlhf.learning.models.rewards import ComposedReward
from rlhf.learning.models.scoring import RewardModel
from rlhf.learning.ppo.grpo import GRPOLearner
from rlhf.learning.run.run_folder import RunFolder
from tests.learning.conftest import FRUIT, learn, make_base, read_rows, write_rows

QUESTION = Prompt("q", ({"role": "user", "content": "6 x 7?"},), "42")
OPEN = Prompt("o", ({"role": "user", "content": "Say something."},))


class Opinion(RewardModel):
    """Two heads that say what a test tells them."""

    heads = 2

    def __init__(self, scores: Sequence[float], disagreement: Sequence[float]) -> None:
        self.said = torch.tensor(scores), torch.tensor(disagreement)

    def opinions(self, *_):
        return self.said


def total(reward: ComposedReward, prompts: list[Prompt], texts: list[str]) -> list[float]:
    parts = reward.parts(prompts, texts, [True] * len(texts))
    return reward.total(parts).tolist()


# By hand.


def test_the_score_is_the_weighted_sum_of_the_parts():
    settings = GRPO(checks="number:2, length(1-2):0.5", reward_weight=0.1)
    reward = ComposedReward(Opinion([3.0, -1.0], [0.0, 0.0]), settings)
    assert reward.names == ["model", "number", "length"]
    asked = [QUESTION, QUESTION], ["It is 42", "41"]
    parts = {name: each.tolist() for name, each in reward.parts(*asked, [True, True]).items()}
    assert parts == {"model": [3.0, -1.0], "number": [1.0, 0.0], "length": [0.0, 1.0]}
    assert total(reward, *asked) == pytest.approx([0.3 + 2.0, -0.1 + 0.5])


def test_the_reward_model_is_clipped_after_its_heads_disagreed():
    settings = GRPO(reward_uncertainty=0.5, reward_clip=2.0)
    reward = ComposedReward(Opinion([3.0, 1.0, -5.0], [1.0, 2.0, 0.0]), settings)
    assert total(reward, [OPEN] * 3, ["a"] * 3) == [2.0, 0.0, -2.0]


def test_checks_alone_are_a_reward():
    reward = ComposedReward(None, GRPO(checks="contains(fig), contains(plum):-2"))
    assert reward.names == ["contains", "contains_2"]
    assert total(reward, [OPEN] * 3, ["a fig", "fig, plum", ""]) == [1.0, -1.0, 0.0]


def test_a_prompt_without_a_reference_passes_no_check_that_needs_one():
    for check in ("number", "exact", "contains", "choice(A|B)"):
        reward = ComposedReward(None, GRPO(checks=check))
        assert total(reward, [OPEN, OPEN], ["", "A 42"]) == [0.0, 0.0], check


def test_disagreement_needs_somebody_to_disagree(data_dir):
    alone = RewardModel(data_dir / "reward")
    for scorer in (None, alone):
        with pytest.raises(ConfigError, match="no reward model with several heads"):
            ComposedReward(scorer, GRPO(checks="json", reward_uncertainty=0.1))


def test_a_reference_is_read_with_its_prompt(tmp_path):
    row = {"prompt": [{"role": "user", "content": "6 x 7?"}]}
    write_rows(tmp_path / "a", [{**row, "reference": "42"}, row, {**row, "reference": None}])
    prompts = read_prompts(tmp_path / "a")
    assert [each.reference for each in prompts] == ["42", "", ""]
    assert len({each.key for each in prompts}) == 1  # what is asked is the same
    write_rows(tmp_path / "b", [{**row, "reference": 42}])
    with pytest.raises(DataError, match="b, line 1: reference must be a text"):
        read_prompts(tmp_path / "b")


# In a run.


@pytest.mark.parametrize("kind", ["ppo", "rloo", "grpo", "raft"])
def test_a_run_on_a_reward_model_and_checks_logs_every_part(make_run, data_dir, kind):
    folder = make_run(kind, train={"updates": 2, "checks": "length(1-3):0.5", "reward_clip": 0.5})
    assert learn(folder, data_dir) == 0
    rows = read_rows(folder / "metrics.jsonl")
    for split in ("train", "test"):
        said = [row for row in rows if row.get("split") == split and "reward/model" in row]
        assert said, split
        assert all(0 <= row["reward/length"] <= 1 for row in said)
        assert all(abs(row["reward/model"]) <= 0.5 for row in said)


@pytest.mark.parametrize("kind", ["ppo", "rloo", "grpo", "raft"])
def test_a_run_needs_no_reward_model_where_there_are_checks(make_run, data_dir, kind):
    settings = {"updates": 2, "checks": "length(1-3)"}
    if kind == "ppo":
        settings["critic"] = "policy"
    folder = make_run(kind, models={"policy": "base", "reward": ""}, train=settings)
    assert learn(folder, data_dir) == 0
    rows = read_rows(folder / "metrics.jsonl")
    assert any("reward/length" in row for row in rows)
    assert not any("reward/model" in row for row in rows)


def test_a_run_whose_prompts_have_no_references_says_so(make_run, data_dir):
    folder = make_run("grpo", train={"checks": "number"})
    with pytest.raises(DataError, match="the check number compares with reference answers"):
        GRPOLearner(RunFolder(folder, data_dir), Accelerator(cpu=True))


# What is learnt.

ASKING = (
    "Say something about the {}.",
    "What is a {}?",
    "Describe a {}.",
    "Tell me of the {}.",
    "How is a {}?",
    "Is the {} sweet?",
    "I like a {}.",
    "Once more: {}.",
)


def test_grpo_learns_what_a_check_verifies_on_prompts_it_never_saw(tmp_path):
    """A format: one demonstration in four opens with the answer."""
    rows = [
        {"id": f"{fruit} {i}", "prompt": [{"role": "user", "content": asking.format(fruit)}],}
        for i, asking in enumerate(ASKING) for fruit in FRUIT
    ]  # fmt: skip
    held_out, learnt = rows[::5], [row for i, row in enumerate(rows) if i % 5]
    shown = [
        {**row, "completion": [{"role": "assistant", "content": said}]}
        for row in learnt
        for said in ("Yes, it is sweet", "It is sweet", "So sweet and round", "The fruit is sweet")
    ]
    for name, each in (("test", held_out * 4), ("train", learnt), ("demonstrations", shown)):
        write_rows(tmp_path / f"{name}.jsonl", each)
    make_base(tmp_path / "base", tmp_path / "demonstrations.jsonl")

    def run(kind, **config):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "config.json").write_text(
            json.dumps({"kind": kind, "seed": 1, **config})
        )
        assert learn(tmp_path / kind, tmp_path) == 0
        return read_rows(tmp_path / kind / "metrics.jsonl")

    common = {"schedule": "constant", "max_new_tokens": 8, "checkpoint_every": 999}
    run(
        "sft", models={"policy": "base"}, data={"train": "demonstrations.jsonl"},
        train={**common, "epochs": 6, "learning_rate": 3e-3, "evaluate_every": 0},
    )  # fmt: skip
    metrics = run(
        "grpo", models={"policy": "sft/model"},
        data={"train": "train.jsonl", "test": "test.jsonl"},
        train={**common, "checks": "regex(^Yes\\b)", "updates": 30, "evaluate_prompts": 52, "k": 8,
               "batch_size": 64, "micro_batch_size": 64, "learning_rate": 1e-3, "kl_coef": 0.01,
               "evaluate_every": 30, "warmup": 0.0, "target_kl": 0.0},
    )  # fmt: skip
    first, last = [row["reward/regex"] for row in metrics if row["split"] == "test"]
    assert last >= first + 0.2
