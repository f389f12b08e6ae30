"""What a micro-batch of two episodes is charged, counted by hand."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch

from rlhf.learning.contract.kinds.ppo import PPO
from rlhf.learning.ppo.minibatch import policy_part, value_part
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


@pytest.mark.parametrize("warming", [False, True])
def test_the_policy_is_charged_by_advantage_and_weight_unless_the_critic_warms_up(warming, rollout):
    logprobs_N = torch.zeros(3, requires_grad=True)  # as they were: every ratio is 1
    sums = defaultdict(float)
    loss = policy_part(
        rollout, [0, 1], TOKENS, PPO(), warming, sums, logprobs_N, torch.tensor([1.0, 2.0, 3.0])
    )
    loss.backward()
    share = 0.0 if warming else 1 / TOKENS
    torch.testing.assert_close(logprobs_N.grad, -share * torch.tensor([1.0, 1.0, 3.0]))
    assert loss.item() == pytest.approx(-5.0 * share)
    assert sums["loss"] == pytest.approx(-5.0 * share)
    assert sums["policy/loss"] == pytest.approx(-5.0 / TOKENS)  # said in either case
    assert sums["policy/entropy"] == pytest.approx(6.0 / TOKENS)
    assert (sums["ratio/max"], sums["ratio/deviation"], sums["policy/approx_kl"]) == (1, 0, 0)


def test_the_figures_of_the_ratio_are_of_the_tokens_that_moved(rollout):
    moved_N, sums = torch.tensor([0.5, 0.0, -0.1]), defaultdict(float)
    policy_part(rollout, [0, 1], TOKENS, PPO(clip_range=0.2), False, sums, moved_N, torch.zeros(3))
    off_N = moved_N.exp() - 1
    assert sums["ratio/max"] == pytest.approx(float(off_N.max()) + 1)
    assert sums["ratio/deviation"] == pytest.approx(float(off_N.max()))
    assert sums["ratio/off"] == pytest.approx(float(off_N.abs().sum()) / TOKENS)
    assert sums["policy/approx_kl"] == pytest.approx(float((off_N - moved_N).sum()) / TOKENS)
    assert sums["policy/clipfrac"] == pytest.approx(1 / TOKENS)


def test_values_are_charged_by_their_weight(rollout):
    values_N, sums = torch.tensor([0.0, 0.1, 0.5], requires_grad=True), defaultdict(float)
    settings = PPO(value_weight=0.1, value_clip=0.2)
    loss = value_part(rollout, [0, 1], TOKENS, settings, sums, values_N)
    error = 0.5 * (1.0 + 0.9**2 + 0.8**2)  # the last is clipped from 0.5 to 0.2
    assert loss.item() == pytest.approx(0.1 * error / TOKENS)
    assert sums["loss"] == pytest.approx(0.1 * error / TOKENS)
    assert sums["val/loss"] == pytest.approx(error / TOKENS)
    assert sums["val/clipfrac"] == pytest.approx(1 / TOKENS)
