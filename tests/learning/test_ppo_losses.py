"""What a micro-batch of two episodes is charged, counted by hand."""

from __future__ import annotations

import math

import pytest
import torch

from rlhf.learning.contract.kinds.ppo import PPO
from rlhf.learning.ppo.minibatch import (
    EXTREMES,
    SUMMED,
    VALUE_SUMS,
    Step,
    add_up,
    clipped_policy_loss,
    clipped_value_loss,
    step_figures,
)
from rlhf.learning.ppo.rollout import Rollout

TOKENS = 4.0  # of the mini-batch; three of them are here


@pytest.fixture
def rollout():
    mask_BT = torch.tensor([[True, True], [True, False]])
    zeros_BT, ones_BT = torch.zeros(2, 2), torch.ones(2, 2)
    return Rollout(
        [], [], [], mask_BT, zeros_BT, zeros_BT, torch.zeros(2), zeros_BT,
        torch.tensor([[1.0, 0.5], [1.0, 9.0]]), zeros_BT,
        advantages_BT=torch.tensor([[1.0, 2.0], [3.0, 9.0]]), returns_BT=ones_BT,
    )  # fmt: skip


def test_the_policy_is_charged_by_advantage_and_weight(rollout):
    logprobs_N = torch.zeros(3, requires_grad=True)  # as they were: every ratio is 1
    entropy_N = torch.tensor([1.0, 2.0, 3.0])
    loss, stats = clipped_policy_loss(rollout, [0, 1], logprobs_N, entropy_N, TOKENS, 0.2)
    loss.backward()
    torch.testing.assert_close(logprobs_N.grad, -torch.tensor([1.0, 1.0, 3.0]) / TOKENS)
    assert loss.item() == pytest.approx(-5.0 / TOKENS)
    assert stats["loss"] == stats["policy/loss"] == pytest.approx(-5.0 / TOKENS)
    assert stats["policy/entropy"] == pytest.approx(6.0 / TOKENS)
    assert (stats["ratio/max"], stats["ratio/deviation"], stats["policy/approx_kl"]) == (1, 0, 0)


def test_the_figures_of_the_ratio_are_of_the_tokens_that_moved(rollout):
    moved_N = torch.tensor([0.5, 0.0, -0.1])
    _, stats = clipped_policy_loss(rollout, [0, 1], moved_N, torch.zeros(3), TOKENS, 0.2)
    off_N = moved_N.exp() - 1
    assert stats["ratio/max"] == pytest.approx(float(off_N.max()) + 1)
    assert stats["ratio/deviation"] == pytest.approx(float(off_N.max()))
    assert stats["ratio/off"] == pytest.approx(float(off_N.abs().sum()) / TOKENS)
    assert stats["policy/approx_kl"] == pytest.approx(float((off_N - moved_N).sum()) / TOKENS)
    assert stats["policy/clipfrac"] == pytest.approx(1 / TOKENS)


def test_values_are_charged_by_their_weight(rollout):
    values_N = torch.tensor([0.0, 0.1, 0.5], requires_grad=True)
    settings = PPO(value_weight=0.1, value_clip=0.2)
    loss, stats = clipped_value_loss(rollout, [0, 1], values_N, TOKENS, settings)
    error = 0.5 * (1.0 + 0.9**2 + 0.8**2)  # the last is clipped from 0.5 to 0.2
    assert loss.item() == stats["loss"] == pytest.approx(0.1 * error / TOKENS)
    assert stats["val/loss"] == pytest.approx(error / TOKENS)
    assert stats["val/clipfrac"] == pytest.approx(1 / TOKENS)


def test_a_mini_batch_is_the_sum_of_its_parts_and_the_extremes_of_its_ratios():
    parts = [{"loss": 1.0, "ratio/max": 1.5}, {"loss": 2.0, "val/loss": 0.5, "ratio/max": 1.2}]
    total = add_up(parts, [*VALUE_SUMS, "ptx/loss"])
    assert (total["loss"], total["val/loss"], total["ratio/max"]) == (3.0, 0.5, 1.5)
    assert total["ptx/loss"] == total["policy/loss"] == 0.0
    assert set(add_up([])) == {*SUMMED, *EXTREMES}  # of a process without an episode


def test_a_skipped_step_leaves_the_means_alone_and_is_counted():
    steps = [
        Step([1.0, 2.0], {"loss": 1.0, "ratio/max": 9.0}),
        Step([math.nan, 4.0], {"loss": math.nan}),
    ]
    assert step_figures(steps) == {
        "loss": 1.0, "gradient/norm": 1.0, "gradient/critic_norm": 3.0, "policy/optimizer_steps": 2
    }  # fmt: skip
