"""What one PPO update does to a toy policy."""

import json

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.models import scoring
from rlhf.learning.models.networks import collate
from rlhf.learning.ppo.advantages import estimate_advantages, whiten
from rlhf.learning.ppo.figures import distinct
from rlhf.learning.ppo.learner import PPOLearner
from rlhf.learning.run import checkpoint
from rlhf.learning.run.run_folder import RunFolder
from tests.learning.conftest import learn, read_rows


@pytest.fixture
def make_learner(make_run, data_dir):
    def make(name="run", **more):
        return PPOLearner(RunFolder(make_run("ppo", name, **more), data_dir), Accelerator(cpu=True))

    return make


@pytest.mark.parametrize("critic", ["reward", "policy", "shared"])
@pytest.mark.parametrize("mode", ["full", "lora", "last_layers"])
def test_the_first_ratio_is_one_and_the_first_kl_is_zero(mode, critic, make_learner):
    learner = make_learner(tune={"mode": mode, "layers": 1}, train={"critic": critic})
    numbers = learner.update(0)
    assert numbers["policy/first_ratio_deviation"] < 1e-4
    assert numbers["objective/kl"] == pytest.approx(0, abs=1e-4)
    assert numbers["objective/kl_k3"] == pytest.approx(0, abs=1e-4)
    second = learner.update(1)
    assert second["objective/kl_k3"] > 0
    assert second["policy/first_ratio_deviation"] < 1e-4


@pytest.fixture
def mixed_precision(monkeypatch):
    monkeypatch.setattr(AcceleratorState, "_shared_state", {})  # one of its own, for this test
    Accelerator(cpu=True, mixed_precision="bf16")


@pytest.mark.parametrize(
    ("changed", "rings"),
    [
        (lambda logprobs: logprobs.bfloat16().float(), False),  # rounding, and nothing else
        (lambda logprobs: logprobs * 0.9, True),  # as with another temperature
    ],
)
def test_in_mixed_precision_rounding_rings_no_alarm_and_a_mistake_does(
    changed, rings, mixed_precision, make_learner, monkeypatch
):
    learner = make_learner()
    explore = learner.sampler.rollout

    def explore_and_change(*asked):
        rollout = explore(*asked)
        rollout.logprobs_BT = changed(rollout.logprobs_BT)
        return rollout

    monkeypatch.setattr(learner.sampler, "rollout", explore_and_change)
    numbers = learner.update(0)
    assert ("alarm/first_ratio" in numbers) == rings
    assert numbers["policy/first_ratio_deviation"] > 2e-3  # of a single token, in either case
    assert 0 < numbers["policy/first_ratio_mean"] < numbers["policy/first_ratio_deviation"]


@pytest.mark.parametrize("critic", ["reward", "shared"])
def test_in_mixed_precision_old_and_new_are_computed_alike(critic, make_learner, mixed_precision):
    train = {"critic": critic, "ppo_epochs": 1, "minibatches": 1, "value_clip": 1e-6}
    learner = make_learner(train=train)
    assert learner.accelerator.mixed_precision == "bf16"
    if critic == "shared":
        torch.nn.init.normal_(learner.model.value_head.weight)
    numbers = learner.update(0)
    assert numbers["policy/first_ratio_deviation"] < 1e-6
    assert numbers["objective/kl_k3"] == 0
    assert numbers["val/clipfrac"] == 0
    assert numbers["engine/mismatch_max"] > 1e-6  # sampled in full precision, and weighed for that


def test_a_value_head_on_the_policy_is_listened_to_while_sampling(make_learner):
    learner = make_learner(train={"critic": "shared"})
    torch.nn.init.normal_(learner.model.value_head.weight)
    rollout = learner.sampler.rollout(learner.prompts[:3], [0, 1, 2])
    heard = rollout.values_BT.clone()
    rollout.values_BT = torch.zeros(0)
    learner.sampler.estimate_values(rollout, learner.model.values)
    assert heard[rollout.mask_BT].abs().min() > 0
    torch.testing.assert_close(
        heard[rollout.mask_BT], rollout.values_BT[rollout.mask_BT], atol=1e-4, rtol=1e-4
    )


def test_a_critic_with_an_adapter_of_its_own_leaves_the_policy_alone(make_learner):
    learner = make_learner(
        tune={"mode": "lora", "rank": 4},
        train={"critic": "adapter", "critic_warmup": 1, "learning_rate": 1e-2},
    )
    before = {n: learner.optimiser.weights[n].clone() for n in learner.optimiser.names}
    numbers = learner.update(0)
    assert numbers["policy/first_ratio_deviation"] < 1e-4
    moved = {n for n in before if not torch.equal(before[n], learner.optimiser.weights[n])}
    assert moved and all(".critic." in name or "value_head" in name for name in moved)
    assert learner.model.critic_weights().keys() >= moved
    assert learner.sampler.rollout(learner.prompts, range(8)).kl_k3_B.abs().max() < 1e-6
    learner.optimiser.set_rate(1, learner.total_steps)
    learner.update(1)
    assert learner.sampler.rollout(learner.prompts, range(8)).kl_k3_B.max() > 1e-4
    weights = learner.optimiser.weights
    critics = {n for n in before if ".critic." in n and not torch.equal(before[n], weights[n])}
    assert critics == {n for n in before if ".critic." in n}  # rollouts left all of it learning


@pytest.mark.parametrize("minibatches", [1, 2, 4])
def test_each_minibatch_is_an_optimizer_step(minibatches, make_learner):
    learner = make_learner(train={"minibatches": minibatches, "ppo_epochs": 1})
    before = learner.optimiser.weights[learner.optimiser.names[0]].clone()
    numbers = learner.update(0)
    assert learner.optimiser.steps == numbers["policy/optimizer_steps"] == minibatches
    assert not torch.equal(before, learner.optimiser.weights[learner.optimiser.names[0]])


@pytest.mark.parametrize("ptx_weight", [0.0, 0.5])
def test_micro_batches_add_up_to_their_minibatch(ptx_weight, make_learner):
    data, norms, anchors = {"demonstrations": "demonstrations.jsonl"}, [], []
    for name, size in (("one", 8), ("other", 3)):
        train = {"micro_batch_size": size, "minibatches": 1, "ppo_epochs": 1, "max_grad_norm": 0.0}
        train |= {"ptx_weight": ptx_weight, "ptx_batch_size": 5}
        numbers = make_learner(name, data=data, train=train).update(0)
        norms.append(numbers["gradient/norm"])
        anchors.append(numbers.get("ptx/loss", 0.0))
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert anchors[0] == pytest.approx(anchors[1], rel=1e-4)
    assert (anchors[0] > 0) == (ptx_weight > 0)


@pytest.mark.parametrize("critic", ["reward", "adapter"])
def test_policy_and_critic_learn_the_same_one_after_the_other(critic, make_learner, monkeypatch):
    tune = {"mode": "lora" if critic == "adapter" else "full"}
    ends = []
    for apart in (True, False):
        train = {"critic": critic, "ptx_weight": 0.5, "micro_batch_size": 2}
        data = {"demonstrations": "demonstrations.jsonl"}
        learner = make_learner(str(apart), tune=tune, data=data, train=train)
        assert learner.learns_apart
        if not apart:
            monkeypatch.setattr(PPOLearner, "learns_apart", False)
        numbers = learner.update(0)
        ends.append((numbers, [weight.clone() for weight in learner.optimiser.weights.values()]))
    (numbers, weights), (expected, others) = ends
    for name in numbers.keys() - {n for n in numbers if n.startswith(("seconds/", "speed/"))}:
        assert numbers[name] == pytest.approx(expected[name], rel=1e-5, abs=1e-7), name
    for one, other in zip(weights, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_critics_that_cannot_learn_apart_learn_with_the_policy(make_learner):
    assert not make_learner(train={"critic": "shared"}).learns_apart


def test_the_reference_stays_what_the_policy_was(make_learner):
    learner = make_learner(train={"learning_rate": 1e-2})
    reference = learner.sampler.reference.network.state_dict()
    before = {name: weight.clone() for name, weight in reference.items()}
    learner.update(0)
    assert all(torch.equal(before[name], weight) for name, weight in reference.items())


def test_an_adapter_in_training_is_measured_against_the_policy_without_it(make_learner, policy):
    learner = make_learner(tune={"mode": "lora", "rank": 4}, train={"learning_rate": 1e-2})
    learner.update(0)
    rollout = learner.sampler.rollout(learner.prompts, range(8))
    assert rollout.kl_k3_B.mean() > 1e-3
    expected_N = policy(collate(rollout.episodes, 0))[0].detach()
    ref_N = rollout.flat(rollout.ref_logprobs_BT, range(8))
    torch.testing.assert_close(ref_N, expected_N, atol=1e-5, rtol=0)


@pytest.mark.parametrize("critic", ["reward", "shared"])
def test_during_warm_up_only_the_critic_learns(critic, make_learner):
    learner = make_learner(
        data={"demonstrations": "demonstrations.jsonl"},
        train={"critic": critic, "critic_warmup": 1, "ptx_weight": 0.5, "weight_decay": 0.1},
    )
    before = {n: learner.optimiser.weights[n].clone() for n in learner.optimiser.names}

    def moved():
        weights = learner.optimiser.weights
        return {name for name in before if not torch.equal(before[name], weights[name])}

    learner.optimiser.set_rate(0, learner.total_steps)
    learner.update(0)
    assert moved() and not any(name.startswith("policy.") for name in moved())
    learner.optimiser.set_rate(1, learner.total_steps)
    learner.update(1)
    assert any(name.startswith("policy.") for name in moved())


def test_epochs_end_early_when_the_policy_has_moved_enough(make_learner):
    train = {"learning_rate": 0.05, "target_kl": 1e-6, "ppo_epochs": 4, "minibatches": 1}
    assert make_learner(train=train).update(0)["policy/optimizer_steps"] == 2


def test_an_unfinished_answer_pays(make_learner):
    learner = make_learner(train={"missing_eos": "replace", "missing_eos_penalty": 7.0})
    rollout = learner.sampler.rollout(learner.prompts, range(8))
    assert not rollout.finished_B.all()
    assert (rollout.scores_B[~rollout.finished_B] == -7.0).all()


def test_whitened_advantages_have_mean_zero_and_spread_one_over_valid_tokens(make_learner):
    learner = make_learner()
    rollout = learner.sampler.rollout(learner.prompts, range(8))
    learner.sampler.estimate_values(rollout, learner.model.values)
    estimate_advantages(rollout, 0.1, learner.settings)
    whiten(learner, rollout)
    valid = rollout.advantages_BT[rollout.mask_BT]
    assert valid.mean().item() == pytest.approx(0, abs=1e-5)
    assert valid.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert (rollout.advantages_BT[~rollout.mask_BT] == 0).all()


def test_the_sft_anchor_joins_every_step(make_learner):
    learner = make_learner(
        data={"demonstrations": "demonstrations.jsonl"}, train={"ptx_weight": 0.5}
    )
    assert learner.update(0)["ptx/loss"] > 0


def test_a_simulated_taste_for_one_token_is_learnt(make_run, data_dir, monkeypatch):
    """A labeler who likes the letter e gets more of it on the prompts, in seconds."""
    from rlhf.learning.models.scoring import RewardModel

    def likes_e(self, prompts, texts, finished, normalise=False):
        return torch.tensor([text.count("e") / max(len(text), 1) * 10 for text in texts])

    monkeypatch.setattr(RewardModel, "score", likes_e)
    train = {
        "updates": 15, "batch_size": 64, "micro_batch_size": 64, "max_new_tokens": 12,
        "kl_coef": 0.01, "missing_eos": "none", "critic": "shared", "critic_learning_rate": 1e-2,
        "ppo_epochs": 4, "minibatches": 1, "learning_rate": 1e-2,
        "target_kl": 0.0, "evaluate_every": 15,
        "schedule": "constant", "sample_every": 15, "checkpoint_every": 15,
    }  # fmt: skip
    folder = make_run("ppo", train=train)
    assert learn(folder, data_dir) == 0
    rows = read_rows(folder / "metrics.jsonl")
    before, after = (row["objective/scores"] for row in rows if row["split"] == "test")
    assert after > 1.5 * before, (before, after)


def batch_of(learner):
    return collate(learner.sampler.rollout(learner.prompts, range(8)).episodes, 0)


@pytest.mark.parametrize("critic", ["reward", "shared", "adapter"])
def test_the_next_ppo_goes_on_with_the_critic_of_the_last(critic, make_run, make_learner, data_dir):
    more = {
        "tune": {"mode": "lora", "rank": 4},
        "train": {
            "critic": critic,
            "save_critic": True,
            "updates": 2,
            "critic_learning_rate": 1e-2,
        },
    }
    folder = make_run("ppo", "first", **more)
    assert learn(folder, data_dir) == 0
    first = make_learner("same", **more)
    first.optimiser.restore(checkpoint.latest_good(folder / "checkpoints")[0].tensors)
    models = {"policy": str(folder / "model"), "critic": str(folder / "model/critic")}
    if critic == "adapter":
        models["policy"] = "base"  # an adapter is worth something on its own weights only
    second = make_learner("second", models=models, **more)
    batch = batch_of(first)
    with torch.no_grad():
        expected, found = first.model.values(batch), second.model.values(batch)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    assert expected.abs().max() > 1e-3
    with pytest.raises(ConfigError, match="no critic of this kind|not a model folder"):
        make_learner(
            "wrong", **{**more, "models": {"critic": "base" if critic != "reward" else "x"}}
        )


def test_a_critic_is_kept_on_request_only(make_run, data_dir):
    folder = make_run("ppo", train={"updates": 1})
    assert learn(folder, data_dir) == 0 and not (folder / "model/critic").exists()


def count_e(prompts, texts):
    assert prompts[0][0]["role"] == "user"
    return [text.count("e") for text in texts]


def test_a_function_may_score_if_the_command_line_says_so(make_run, data_dir):
    models = {"policy": "base", "reward": "", "reward_function": "tests.learning.test_ppo:count_e"}
    folder = make_run("ppo", models=models, train={"critic": "shared"})
    with pytest.raises(ConfigError, match="--allow-code"):
        PPOLearner(RunFolder(folder, data_dir), Accelerator(cpu=True))
    learner = PPOLearner(RunFolder(folder, data_dir, allows_code=True), Accelerator(cpu=True))
    rollout = learner.sampler.rollout(learner.prompts, range(8))
    expected = torch.tensor([float(text.count("e")) for text in rollout.texts])
    unfinished = (~rollout.finished_B).float()
    torch.testing.assert_close(rollout.scores_B, expected - unfinished)
    with pytest.raises(ConfigError, match="no_such"):
        scoring.RewardFunction("tests.learning.test_ppo:no_such")


def test_an_answer_that_is_cut_pays_by_subtraction_too(make_learner):
    plain = make_learner("plain", train={"missing_eos": "none"})
    paying = make_learner("paying", train={"missing_eos": "subtract", "missing_eos_penalty": 2.0})
    one, other = (each.sampler.rollout(each.prompts, range(8)) for each in (plain, paying))
    assert not one.finished_B.all()
    torch.testing.assert_close(one.scores_B - 2.0 * ~one.finished_B, other.scores_B)


def test_beta_moves_with_the_kl_and_survives_a_restart(make_learner):
    learner = make_learner(train={"kl_horizon": 80})
    learner.update(0)
    assert learner.kl_coef == pytest.approx(0.02 * (1 - 0.2 * 8 / 80))
    other = make_learner("other", train={"kl_horizon": 80})
    other.restore(learner.state())
    assert other.kl_coef == learner.kl_coef and other.monitor.first == learner.monitor.first


def test_every_figure_of_a_rollout_is_logged(make_run, data_dir):
    folder = make_run("ppo", models={"held_out_reward": "reward"})
    assert learn(folder, data_dir) == 0
    known = json.loads((folder / "provenance.json").read_text())["models_sha256"]
    assert known.keys() == {"policy", "reward", "held_out_reward"}
    rows = read_rows(folder / "metrics.jsonl")
    train = next(row for row in rows if row["split"] == "train")
    names = """
        objective/kl objective/kl_k3 objective/sqrt_kl objective/kl_coef objective/scores
        objective/scores_std objective/scores_q05 objective/scores_q50 objective/scores_q95
        objective/rlhf_reward objective/advantage_mean objective/advantage_std policy/entropy
        policy/approx_kl policy/clipfrac policy/ratio_max policy/first_ratio_deviation policy/loss
        val/loss val/clipfrac val/explained_variance response/length response/length_p95
        response/eos_rate response/distinct_1 response/distinct_2 response/duplicates
        response/identical response/score_length_correlation seconds/rollout seconds/judge
        seconds/learn seconds/update speed/episodes_per_s speed/tokens_per_s lr gradient/norm
        gradient/critic_norm
        steps/skipped memory/peak_rss_mb
    """
    assert set(names.split()) <= train.keys(), set(names.split()) - train.keys()
    test = next(row for row in rows if row["split"] == "test")
    # Scored by the same model, but calibrated and without the penalty of an unfinished answer.
    assert test["objective/held_out_scores"] >= test["objective/scores"]


def test_distinct_counts_different_n_grams():
    assert distinct([[1, 2, 1], [1]], 1) == 2 / 4
    assert distinct([[1, 2, 1], [1, 2]], 2) == 2 / 3
    assert distinct([[1]], 2) == 0


def test_a_checkpoint_with_earlier_names_goes_on(make_learner):
    learner = make_learner()
    state = learner.state()
    learner.restore({"beta": 0.5, "watch": {**state["monitor"], "negative_kl": 3}})
    assert learner.kl_coef == 0.5 and learner.monitor.negative_kl == 3
