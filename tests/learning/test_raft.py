"""RAFT: by hand, beside SFT's loss, and what one update does to a toy policy."""

import copy
import math

import pytest
import torch
from accelerate import Accelerator

from rlhf.learning.contract.kinds.raft import RAFT
from rlhf.learning.ppo.raft import RAFTLearner, best_answer_loss, best_of, kept
from rlhf.learning.ppo.rollout import Rollout
from rlhf.learning.run.run_folder import RunFolder
from tests.learning.test_rloo import move

ONE_STEP = {"rollout_epochs": 1, "minibatches": 1, "max_grad_norm": 0.0, "k": 4}


@pytest.fixture
def make_learner(make_run, data_dir):
    def make(name="run", **more):
        folder = RunFolder(make_run("raft", name, **more), data_dir)
        return RAFTLearner(folder, Accelerator(cpu=True))

    return make


# By hand.


@pytest.mark.parametrize(
    ("rewards", "kept"),
    [
        ([1.0, 3.0], [0, 1]),
        ([-1.0, -3.0, -2.0], [1, 0, 0]),
        ([2.0, 5.0, 5.0], [0, 1, 0]),
        ([0.5, 0.5, 0.5], [0, 0, 0]),
    ],
)
def test_of_the_answers_to_a_prompt_the_best_is_kept(rewards, kept):
    other_prompt = [100.0 * (i + 1) for i in range(len(rewards))]
    kept_KP = best_of(torch.tensor([rewards, other_prompt]).T)
    assert kept_KP[:, 0].tolist() == kept
    assert kept_KP[:, 1].tolist() == [0] * (len(rewards) - 1) + [1]


@pytest.fixture
def rollout():
    """Three answers, of two tokens, of one and of two; the second is thrown away."""
    mask_BT = torch.tensor([[True, True], [True, False], [True, True]])
    logprobs_BT = torch.tensor([[-1.0, -2.0], [-9.0, 0.0], [-0.5, -0.5]])
    zeros_BT = torch.zeros(3, 2)
    return Rollout(
        [], [], [], mask_BT, logprobs_BT, zeros_BT, torch.zeros(3), zeros_BT, torch.ones(3, 2),
        advantages_BT=torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]),
    )  # fmt: skip


def test_the_loss_is_sfts_on_what_is_kept(rollout):
    rows = kept(rollout, [0, 1, 2])
    assert rows == [0, 2]
    logprobs_N = torch.tensor([-1.0, -1.9, -0.5, -0.4], requires_grad=True)
    entropy_N = torch.tensor([1.0, 2.0, 3.0, 4.0])
    loss, stats = best_answer_loss(rollout, rows, logprobs_N, entropy_N, 8.0)
    loss.backward()
    assert loss.item() == stats["loss"] == stats["policy/loss"] == pytest.approx(3.8 / 8)
    assert logprobs_N.grad.tolist() == [-1 / 8] * 4
    assert stats["policy/entropy"] == pytest.approx(10 / 8)
    off = 1.1051709 - 1  # e^0.1 - 1, of two tokens
    assert stats["ratio/off"] == pytest.approx(2 * off / 8, abs=1e-6)
    assert stats["ratio/deviation"] == pytest.approx(off, abs=1e-6)
    assert stats["ratio/max"] == pytest.approx(1 + off, abs=1e-6)
    assert stats["policy/approx_kl"] == pytest.approx(2 * (off - 0.1) / 8, abs=1e-6)


def test_figures_stop_growing_at_a_log_ratio_of_20(rollout):
    zeros_N = torch.zeros(4)
    _, far = best_answer_loss(rollout, [0, 2], torch.tensor([29.0, -2, -0.5, -0.5]), zeros_N, 8.0)
    assert far["ratio/deviation"] == pytest.approx(math.expm1(20))
    assert far["ratio/max"] == pytest.approx(math.exp(20))
    _, gone = best_answer_loss(rollout, [0, 2], torch.tensor([-31.0, -2, -0.5, -0.5]), zeros_N, 8.0)
    assert gone["policy/approx_kl"] == pytest.approx((math.expm1(-20) + 20) / 8)


# One update of the learner.


@pytest.mark.parametrize("micro_batch_size", [8, 1])
def test_an_update_is_what_a_few_lines_on_the_bare_model_compute(make_learner, micro_batch_size):
    learner = make_learner(train={**ONE_STEP, "kl_coef": 3.0, "micro_batch_size": micro_batch_size})
    twin = copy.deepcopy(learner.policy.lm)
    for one in (learner.policy.lm, twin):  # away from the reference
        move(one, 0.04)
    seen, explore = [], learner.sampler.rollout
    learner.sampler.rollout = lambda *asked: seen.append(explore(*asked)) or seen[-1]
    numbers = learner.update(0)
    [rollout] = seen

    def logprobs(lm, episode):
        logits = lm(torch.tensor([episode.ids])).logits[0, len(episode.prompt) - 1 : -1]
        answer = torch.tensor(episode.completion)
        return logits.log_softmax(-1)[range(len(answer)), answer]

    reference = learner.sampler.reference.network.lm
    best = {}
    for prompt, score, episode in zip(
        rollout.prompts, rollout.scores_B.tolist(), rollout.episodes, strict=True
    ):
        kl = (logprobs(twin, episode) - logprobs(reference, episode)).sum().item()
        best[prompt.id] = max(best.get(prompt.id, (-1e9, None)), (score - 3.0 * kl, episode),
                              key=lambda pair: pair[0])  # fmt: skip
    assert len(best) == 2
    learnt = torch.cat([logprobs(twin, episode) for _, episode in best.values()])
    loss = -learnt.mean()
    loss.backward()
    norm = torch.stack([w.grad.norm() for w in twin.parameters() if w.grad is not None]).norm()
    assert numbers["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert numbers["gradient/norm"] == pytest.approx(norm.item(), rel=1e-4)
    assert numbers["objective/flat_prompts"] == 0


def test_prompts_whose_answers_are_all_worth_the_same_teach_nothing(make_learner):
    learner = make_learner(train={**ONE_STEP, "normalise_score": False, "kl_coef": 0.0})
    learner.sampler.reward.scorer.score = lambda prompts, texts, *_: torch.full((len(texts),), 0.5)
    learner.sampler.settings = RAFT(missing_eos="none", max_new_tokens=6)
    before = [each.clone() for each in learner.policy.lm.parameters()]
    numbers = learner.update(0)
    assert (numbers["objective/flat_prompts"], numbers["gradient/norm"]) == (1.0, 0.0)
    for one, other in zip(before, learner.policy.lm.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
