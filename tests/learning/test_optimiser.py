"""What Adam gets to see: held groups, skipped steps, launchers' wishes."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import distributed

from rlhf.learning.__main__ import _learner
from rlhf.learning.contract.hyperparameters import Optimisation
from rlhf.learning.ppo import minibatch
from rlhf.learning.run import checkpoint
from rlhf.learning.run.optimiser import Optimiser
from rlhf.learning.run.run_folder import DONE, PAUSED, RunFolder
from tests.learning.conftest import learn, read_rows


@pytest.fixture
def make_learner(make_run, data_dir):
    def make(kind="ppo", name="run", **more):
        folder = RunFolder(make_run(kind, name, **more), data_dir)
        return _learner(kind)(folder, Accelerator(cpu=True))

    return make


@pytest.mark.parametrize("critic", ["reward", "adapter", "shared"])
def test_a_policy_that_waits_for_its_critic_begins_with_a_fresh_adam(critic, make_learner):
    """Zero gradients would let Adam's second moment fade, and the value's would be its momentum."""
    tune = {"mode": "lora" if critic == "adapter" else "full"}
    learner = make_learner(tune=tune, train={"critic": critic, "critic_warmup": 1})
    optimiser = learner.optimiser
    numbers = learner.update(0)
    policy, critics = [], []
    for name in optimiser.names:
        is_critics = not name.startswith("policy.") or ".critic." in name
        (critics if is_critics else policy).append(optimiser.weights[name])
    assert policy and critics
    assert not any(weight in optimiser.adam.state for weight in policy)
    assert all(weight in optimiser.adam.state for weight in critics)
    assert numbers["policy/entropy"] > 0 and numbers["lr"] == 0
    learner.optimiser.set_rate(1, learner.total_steps)
    assert "lr" not in learner.update(1)
    assert all(float(optimiser.adam.state[weight]["step"]) > 0 for weight in policy)


def test_the_rate_that_is_logged_is_the_policys(make_run, data_dir):
    train = {"critic": "adapter", "critic_learning_rate": 0.5, "warmup": 0.0, "updates": 1}
    folder = make_run("ppo", tune={"mode": "lora"}, train={**train, "schedule": "constant"})
    assert learn(folder, data_dir) == DONE
    assert next(r for r in read_rows(folder / "metrics.jsonl") if r["split"] == "train")[
        "lr"
    ] == pytest.approx(1e-3)


@pytest.mark.parametrize(("kind", "epsilon"), [("ppo", 1e-5), ("sft", 1e-8), ("reward", 1e-8)])
def test_adam_divides_as_its_paper_says_but_for_ppo(kind, epsilon, make_learner):
    groups = make_learner(kind).optimiser.adam.param_groups
    assert {group["eps"] for group in groups} == {epsilon}


def test_what_a_launcher_calls_accumulation_changes_no_gradient(make_learner, monkeypatch):
    norm = make_learner("sft").update(0)["gradient/norm"]
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert make_learner("sft", "asked").update(0)["gradient/norm"] == norm


def test_several_processes_leave_the_network_its_precision():
    """It answers and judges outside of learning: there it computes as one process would."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        accelerator = Accelerator(cpu=True)
        several = SimpleNamespace(
            num_processes=2, device=torch.device("cpu"), distributed_type="MULTI_CPU",
            mixed_precision="bf16", prepare=accelerator.prepare,
        )  # fmt: skip
        network = torch.nn.Linear(64, 2)
        optimiser = Optimiser(several, network, [("", 1e-3)], Optimisation())
        assert optimiser.module is not network
        assert "forward" not in vars(network), "somebody changed the network itself"
    finally:
        distributed.destroy_process_group()


def test_one_loss_that_is_no_number_skips_its_step_alone(make_run, data_dir, monkeypatch):
    real, calls = minibatch.policy_loss, []

    def broken(*arguments):
        surrogate, ratio_N, clipped_N = real(*arguments)
        calls.append(1)
        return surrogate * (math.nan if len(calls) == 2 else 1.0), ratio_N, clipped_N

    monkeypatch.setattr(minibatch, "policy_loss", broken)
    folder = make_run("ppo", train={"minibatches": 1, "ppo_epochs": 1})
    assert learn(folder, data_dir) == DONE
    rows = [row for row in read_rows(folder / "metrics.jsonl") if row["split"] == "train"]
    assert len(rows) == 6 and rows[-1]["steps/skipped"] == 1
    assert "policy/loss" not in rows[1] and "val/loss" in rows[1]
    assert all(math.isfinite(value) for row in rows for value in row.values()
               if isinstance(value, float))  # fmt: skip


def test_what_is_no_number_any_more_leaves_no_checkpoint(make_run, data_dir, monkeypatch):
    from rlhf.learning.models.scoring import RewardModel

    real, calls = RewardModel.score, []

    def broken(*arguments, **more):
        calls.append(1)
        return real(*arguments, **more) * (math.nan if len(calls) == 4 else 1.0)

    monkeypatch.setattr(RewardModel, "score", broken)
    train = {"evaluate_every": 0, "sample_prompts": 0, "minibatches": 1, "ppo_epochs": 1}
    folder = make_run("ppo", train=train)
    assert learn(folder, data_dir) == PAUSED
    assert read_rows(folder / "metrics.jsonl")[-1]["step"] == 4
    assert checkpoint.latest_good(folder / "checkpoints")[0].step == 2


@pytest.mark.parametrize("critic", ["reward", "adapter", "shared"])
def test_a_loud_critic_takes_nothing_from_the_policys_step(critic, make_learner):
    """Networks that share no weights are clipped apart; what is shared, is clipped as one."""
    tune = {"mode": "lora" if critic == "adapter" else "full"}
    norms, moved = [], []
    for loudness in (1.0, 1000.0):
        train = {"critic": critic, "max_grad_norm": 1e-6, "value_weight": loudness}
        train |= {"ppo_epochs": 1, "minibatches": 1}
        learner = make_learner("ppo", f"{loudness}", tune=tune, train=train)
        numbers = learner.update(0)
        norms.append([numbers.get(f"gradient/{name}") for name in ("norm", "critic_norm")])
        moved.append([
            learner.optimiser.adam.state[weight]["exp_avg"].norm()
            for weight in learner.optimiser.clipped[0]
            if weight in learner.optimiser.adam.state
        ])  # fmt: skip
    (norm, critic_norm), (loud, loud_critic) = norms
    if critic == "shared":
        assert critic_norm is None and loud > 10 * norm
        assert not torch.allclose(torch.stack(moved[0]), torch.stack(moved[1]), rtol=1e-2)
    else:
        assert loud == norm and loud_critic == pytest.approx(1000 * critic_norm, rel=1e-4)
        assert torch.equal(torch.stack(moved[0]), torch.stack(moved[1]))


def test_the_policys_gradients_are_gone_before_the_critics_come(make_learner, monkeypatch):
    learner, seen = make_learner(), []
    policy, others = learner.optimiser.clipped

    def look(*_):
        seen.append([any(w.grad is not None for w in part) for part in (policy, others)])

    monkeypatch.setattr(learner.optimiser.adam, "step", look)
    learner.update(0)
    assert seen == [[True, False], [False, True]] * (len(seen) // 2) and seen


def test_gradients_that_are_not_finite_are_skipped_and_then_pause(make_run, data_dir):
    folder = make_run("ppo", train={"learning_rate": 1e30, "max_skipped": 2, "ppo_epochs": 4,
                                    "target_kl": 0.0, "minibatches": 1})  # fmt: skip
    assert learn(folder, data_dir) == 4
    assert "2 steps in a row had gradients" in (folder / "outcome.json").read_text()


@pytest.mark.parametrize("network", [0, 1], ids=["policy", "critic"])
@pytest.mark.parametrize(
    ("steps", "bad", "code", "skipped"),
    [(1, {1}, 0, 1), (2, {1}, 0, 1), (1, {0, 1, 3, 4}, 0, 4), (1, {1, 2, 3}, 4, 2)],
)
def test_steps_that_are_not_finite_pause_only_in_a_row(
    steps, bad, code, skipped, network, make_run, data_dir, monkeypatch
):
    """With one step an update, a row of bad ones spans updates."""
    clip, calls = torch.nn.utils.clip_grad_norm_, itertools.count()

    def broken(weights, *arguments):
        if next(calls) in {2 * step + network for step in bad}:
            weights[0].grad.fill_(math.inf)
        return clip(weights, *arguments)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", broken)
    folder = make_run("ppo", train={"max_skipped": 3, "ppo_epochs": 1, "minibatches": steps})
    assert learn(folder, data_dir) == code
    rows = [row for row in read_rows(folder / "metrics.jsonl") if row["split"] == "train"]
    assert rows[-1]["steps/skipped"] == skipped
    assert all(math.isfinite(row.get("gradient/norm", 0.0)) for row in rows)
