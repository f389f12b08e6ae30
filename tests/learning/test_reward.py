"""What a reward model says beside its accuracy: where it stands, and how sure it is."""

import json
import shutil

import pytest
import torch
from accelerate import Accelerator

from rlhf.learning.algorithms.reward import RewardLearner, draws
from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.records import Prompt
from rlhf.learning.models import folders, networks
from rlhf.learning.models.scoring import RewardModel
from rlhf.learning.run.run_folder import FAILED, RunFolder
from tests.learning.conftest import asking, learn, read_rows


def scores_of(folder, *texts, normalise=False):
    prompts = [Prompt("p", tuple(asking("fig")))] * len(texts)
    return RewardModel(folder / "model").opinions(prompts, texts, [True] * len(texts), normalise)


def test_demonstrations_score_zero_on_average_and_samples_give_the_unit(make_run, data_dir):
    folder = make_run("reward", train={"calibration_samples": 6, "calibration_tokens": 5})
    assert learn(folder, data_dir) == 0
    calibration = json.loads((folder / "model/calibration.json").read_text())
    assert calibration["version"] == folders.CALIBRATION_VERSION
    assert calibration["demonstrations"]["count"] == 8 and calibration["samples"]["count"] <= 6
    assert calibration["std"] == calibration["samples"]["std"]

    rows = read_rows(data_dir / "demonstrations.jsonl")
    model = RewardModel(folder / "model")
    prompts = [Prompt("p", tuple(row["prompt"])) for row in rows]
    texts = [row["completion"][0]["content"] for row in rows]
    scores = model.score(prompts, texts, [True] * 8)
    assert scores.mean().item() == pytest.approx(0, abs=1e-5)
    unit = model.score(prompts, texts, [True] * 8, normalise=True)
    torch.testing.assert_close(unit, scores / calibration["std"])


def test_heads_see_the_rankings_in_their_own_measure_and_may_disagree(make_run, data_dir):
    folder = make_run("reward", train={"heads": 4})
    assert learn(folder, data_dir) == 0
    score, disagreement = scores_of(folder, "sweet", "no no no")
    assert (disagreement > 0).all()
    raw = folders.load_score(folder / "model")
    assert raw.head.out_features == 4
    rows = make_run("sample", "sample", models={"reward": str(folder / "model"),
                                                "policies": {"a": {"path": "base"}}})  # fmt: skip
    assert learn(rows, data_dir) == 0
    drawn = read_rows(rows / "completions.jsonl")
    assert all(row["disagreement"] > 0 and isinstance(row["score"], float) for row in drawn)


def test_an_answer_that_needs_more_room_than_there_is_is_cut_and_not_finished(data_dir):
    model, prompt = RewardModel(data_dir / "reward"), Prompt("p", tuple(asking("fig")))
    text, read = "no " * 40, len(model.render.messages(prompt.messages))
    assert model.encode(prompt, text, True).completion[-1] == model.render.eos
    model.render.context = read + 4
    row = model.encode(prompt, text, True)
    assert (len(row.ids), row.finished) == (read + 4, False)
    assert model.render.eos not in row.completion
    assert model.score([prompt], [text], [True]).isfinite().all()


def test_a_prompt_that_the_reward_model_cannot_read_is_named_before_anything_starts(
    make_run, data_dir, tmp_path
):
    shutil.copytree(data_dir / "reward", tmp_path / "short")
    config = json.loads((tmp_path / "short/config.json").read_text())
    (tmp_path / "short/config.json").write_text(
        json.dumps({**config, "max_position_embeddings": 8})
    )
    folder = make_run("ppo", models={"reward": str(tmp_path / "short"), "critic": "reward"})
    assert learn(folder, data_dir) == FAILED
    said = json.loads((folder / "outcome.json").read_text())["error"]
    assert said.startswith("DataError: reward model short: prompt d0 has")
    assert not (folder / "metrics.jsonl").exists()


def test_one_head_has_nobody_to_disagree_with(make_run, data_dir):
    folder = make_run("reward")
    assert learn(folder, data_dir) == 0
    assert scores_of(folder, "sweet")[1].item() == 0


def test_a_critic_made_of_several_heads_is_their_mean(data_dir):
    torch.manual_seed(0)
    network = folders.load_score(data_dir / "base", heads=3)
    batch = networks.collate([networks.Encoded([5, 6], [7, 8], True)], 0)
    torch.testing.assert_close(network.values(batch), network.everywhere(batch).mean(-1))
    assert network(batch).shape == (1, 3)
    torch.testing.assert_close(network(batch)[0], network.everywhere(batch)[0, 3])


def test_the_bootstrap_is_poisson_and_always_the_same():
    drawn = [draws(1, head, str(key)) for head in range(4) for key in range(1000)]
    assert drawn == [draws(1, head, str(key)) for head in range(4) for key in range(1000)]
    shares = [drawn.count(n) / len(drawn) for n in range(4)]
    assert shares == pytest.approx([0.368, 0.368, 0.184, 0.061], abs=0.03)


def test_a_reward_model_goes_on_with_as_many_heads_as_it_has(make_run, data_dir):
    start = {"policy": "reward"}
    learner = RewardLearner(RunFolder(make_run("reward", models=start), data_dir), Accelerator())
    assert learner._samples() == []  # it cannot speak
    with pytest.raises(ConfigError, match=r"has 1 heads, and Reward.heads is 2"):
        RewardLearner(
            RunFolder(make_run("reward", "two", models=start, train={"heads": 2}), data_dir),
            Accelerator(),
        )


def test_a_calibration_of_a_newer_release_is_refused(tmp_path):
    (tmp_path / "calibration.json").write_text('{"version": 99}')
    with pytest.raises(ConfigError, match="newer release"):
        folders.read_calibration(tmp_path)


def test_votes_by_agreement_change_what_is_learnt_and_half_ties_are_learnt(make_run, data_dir):
    for name, train in (("ties", {"ties": "half"}), ("weights", {"reliability": "agreement"})):
        assert learn(make_run("reward", name, train=train), data_dir) == 0
