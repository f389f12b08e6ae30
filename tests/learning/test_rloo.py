"""RLOO: by hand, beside TRL's, and what one update does to a toy policy."""

import copy
import math

import pytest
import torch
from accelerate import Accelerator

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.kinds.rloo import RLOO
from rlhf.learning.models.networks import PolicyNetwork, collate
from rlhf.learning.models.render import Encoded
from rlhf.learning.ppo.rloo import RLOOLearner, answer_policy_loss, leave_one_out
from rlhf.learning.ppo.rollout import Rollout
from rlhf.learning.run.run_folder import RunFolder

ONE_STEP = {"rollout_epochs": 1, "minibatches": 1, "max_grad_norm": 0.0, "k": 4}


@pytest.fixture
def make_learner(make_run, data_dir):
    def make(name="run", **more):
        folder = RunFolder(make_run("rloo", name, **more), data_dir)
        return RLOOLearner(folder, Accelerator(cpu=True))

    return make


@torch.no_grad()
def move(model, by):
    for number, weight in enumerate(model.parameters()):
        weight.add_(by * torch.sin(torch.arange(weight.numel()) + number).view_as(weight))


# By hand.


@pytest.mark.parametrize(
    ("rewards", "advantages"),
    [
        ([1.0, 3.0], [-2.0, 2.0]),
        ([1.0, 2.0, 6.0], [-3.0, -1.5, 4.5]),
        ([0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_an_answer_is_measured_against_the_mean_of_the_others(rewards, advantages):
    other_prompt = [100.0 * (i + 1) for i in range(len(rewards))]
    rewards_KP = torch.tensor([rewards, other_prompt]).T
    torch.testing.assert_close(leave_one_out(rewards_KP)[:, 0], torch.tensor(advantages))


@pytest.fixture
def rollout():
    """Two answers, of two tokens and of one."""
    mask_BT = torch.tensor([[True, True], [True, False]])
    zeros_BT = torch.zeros(2, 2)
    return Rollout(
        [], [], [], mask_BT, zeros_BT, zeros_BT, torch.zeros(2), zeros_BT, torch.ones(2, 2),
        advantages_BT=torch.tensor([[2.0, 2.0], [-3.0, 0.0]]),
    )  # fmt: skip


def loss_of(rollout, moved, cap=2.0):
    """On two of four answers, three of their five tokens."""
    logprobs_N = torch.tensor(moved, requires_grad=True)
    entropy_N = torch.tensor([1.0, 2.0, 3.0])
    loss, stats = answer_policy_loss(rollout, [0, 1], logprobs_N, entropy_N, (4, 5.0), 0.2, cap)
    (gradient_N,) = torch.autograd.grad(loss, logprobs_N)
    return loss.item(), gradient_N.tolist(), stats


def test_fresh_answers_are_charged_by_their_advantage_on_every_token(rollout):
    loss, gradient, stats = loss_of(rollout, [0.0, 0.0, 0.0])
    assert loss == stats["loss"] == stats["policy/loss"] == pytest.approx(-(2.0 - 3.0) / 4)
    assert gradient == pytest.approx([-2 / 4, -2 / 4, 3 / 4])
    assert stats["policy/entropy"] == pytest.approx(6 / 5)
    assert (stats["policy/clipfrac"], stats["ratio/max"], stats["ratio/deviation"]) == (0, 1, 0)
    assert stats["policy/approx_kl"] == stats["ratio/off"] == 0


def test_ratios_are_of_whole_answers_and_clipped_where_they_would_go_on(rollout):
    loss, gradient, stats = loss_of(rollout, [0.3, -0.1, -0.1])  # the first: 0.2 in all
    clipped, inside = 2.0 * 1.2, -3.0 * math.exp(-0.1)
    assert loss == pytest.approx(-(clipped + inside) / 4)
    assert gradient == pytest.approx([0.0, 0.0, -inside / 4])
    assert stats["policy/clipfrac"] == pytest.approx(1 / 4)
    assert stats["ratio/max"] == pytest.approx(math.exp(0.2))
    off = [math.exp(each) - 1 for each in (0.3, -0.1, -0.1)]
    assert stats["ratio/deviation"] == pytest.approx(max(map(abs, off)))
    assert stats["ratio/off"] == pytest.approx(sum(map(abs, off)) / 5)
    kl = sum(each - log for each, log in zip(off, (0.3, -0.1, -0.1), strict=True))
    assert stats["policy/approx_kl"] == pytest.approx(kl / 5, abs=1e-6)


def test_figures_stop_growing_at_a_log_ratio_of_20(rollout):
    _, _, far = loss_of(rollout, [0.0, 0.0, 30.0])
    assert far["ratio/deviation"] == pytest.approx(math.expm1(20))
    _, _, gone = loss_of(rollout, [0.0, 0.0, -30.0])
    assert gone["policy/approx_kl"] == pytest.approx((math.expm1(-20) + 20) / 5)


def test_an_answer_that_an_engine_drew_otherwise_is_weighed_once_and_not_by_token(rollout):
    rollout.engine_logprobs_BT = torch.tensor([[-0.1, -0.2], [0.4, 9.0]])
    loss, _, _ = loss_of(rollout, [0.0, 0.0, 0.0])
    assert loss == pytest.approx(-(2.0 * math.exp(0.3) - 3.0 * math.exp(-0.4)) / 4)
    capped, _, _ = loss_of(rollout, [0.0, 0.0, 0.0], cap=1.1)
    assert capped == pytest.approx(-(2.0 * 1.1 - 3.0 * math.exp(-0.4)) / 4)


def test_an_update_is_reinforce_as_a_few_lines_on_the_bare_model_compute_it(make_learner):
    learner = make_learner(train={**ONE_STEP, "kl_coef": 0.3})
    twin = copy.deepcopy(learner.policy.lm)
    for one in (learner.policy.lm, twin):  # away from the reference
        move(one, 0.04)
    seen, explore = [], learner.sampler.rollout
    learner.sampler.rollout = lambda *asked: seen.append(explore(*asked)) or seen[-1]
    numbers = learner.update(0)

    def logprob(lm, episode):
        logits = lm(torch.tensor([episode.ids])).logits[0, len(episode.prompt) - 1 : -1]
        answer = torch.tensor(episode.completion)
        return logits.log_softmax(-1)[range(len(answer)), answer].sum()

    [rollout] = seen
    reference, prompts = learner.sampler.reference.network.lm, rollout.prompts
    rewards = [
        score - 0.3 * (logprob(twin, episode) - logprob(reference, episode)).item()
        for score, episode in zip(rollout.scores_B.tolist(), rollout.episodes, strict=True)
    ]
    terms, squares = [], 0.0
    for i, episode in enumerate(rollout.episodes):
        others = [rewards[j] for j in range(8) if j != i and prompts[j].id == prompts[i].id]
        assert len(others) == 3
        advantage = rewards[i] - sum(others) / 3
        squares += advantage**2 / 8
        terms.append(-advantage * logprob(twin, episode) / 8)
    sum(terms).backward()
    norm = torch.stack([w.grad.norm() for w in twin.parameters() if w.grad is not None]).norm()
    assert rollout.kl_B.abs().min() > 1e-3
    assert numbers["objective/rlhf_reward"] == pytest.approx(sum(rewards) / 8, abs=1e-4)
    assert numbers["objective/advantage_std"] == pytest.approx(math.sqrt(squares), rel=1e-4)
    assert numbers["gradient/norm"] == pytest.approx(norm.item(), rel=1e-4)


# Beside TRL.


@pytest.fixture
def frozen_batch(data_dir, tmp_path, monkeypatch):
    """(TRL's trainer, its inputs, the scores): four answers to each of two prompts, drawn and
    judged by it as it is."""
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    scores = []

    def score(completions, **_):
        scores.extend(3.0 * len(set(text)) / (1 + len(text)) for text in completions)
        return scores

    settings = trl.RLOOConfig(
        output_dir=str(tmp_path / "trl"), report_to="none", use_cpu=True, bf16=False, beta=0.3,
        gradient_checkpointing=False, per_device_train_batch_size=8, num_generations=4,
        max_completion_length=6, temperature=0.7, disable_tqdm=True, epsilon=0.2,
    )  # fmt: skip
    policy = AutoModelForCausalLM.from_pretrained(data_dir / "base")
    policy.generation_config.eos_token_id = list(range(1, 300, 9))  # some answers end early
    rows = [{"prompt": text} for text in ("What is a fig?", "What is a plum, and why?")]
    trainer = trl.RLOOTrainer(
        model=policy, reward_funcs=score, args=settings, train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(data_dir / "base", padding_side="left"),
    )  # fmt: skip
    move(policy, 0.01)
    return trainer, trainer._generate_and_score_completions([rows[0]] * 4 + [rows[1]] * 4), scores


def test_advantages_and_losses_agree_with_trl_before_and_after_a_step(frozen_batch):
    trainer, inputs, scores = frozen_batch
    episodes = [
        Encoded(prompt[seen == 1].tolist(), answer[kept == 1].tolist(), True)
        for prompt, seen, answer, kept in zip(
            *(inputs[f"prompt_{each}"] for each in ("ids", "mask")),
            *(inputs[f"completion_{each}"] for each in ("ids", "mask")),
            strict=True,
        )
    ]
    mask_BT = inputs["completion_mask"].bool()

    def logprobs(model):
        logprobs_N, entropy_N, _ = PolicyNetwork(model)(collate(episodes, 0), 0.7)
        return logprobs_N, entropy_N

    def per_token(model):
        values_BT = torch.zeros(mask_BT.shape)
        values_BT[mask_BT] = logprobs(model)[0].detach()
        return values_BT

    old_BT, ref_BT = per_token(trainer.model), per_token(trainer.ref_model)
    scores_B = torch.tensor(scores)
    ours = Rollout([], episodes, [], mask_BT, old_BT, ref_BT, scores_B, old_BT, mask_BT.float())
    assert ours.kl_B.abs().min() > 1e-3 and mask_BT.sum(1).unique().numel() > 1
    rewards_B = scores_B - 0.3 * ours.kl_B
    advantages_B = leave_one_out(rewards_B.view(2, 4).T).T.flatten()  # TRL: prompt by prompt
    torch.testing.assert_close(advantages_B, inputs["advantages"], atol=1e-5, rtol=1e-5)
    ours.advantages_BT = advantages_B[:, None] * mask_BT
    for clipped in (0.0, 0.01):
        move(trainer.model, clipped)
        theirs = trainer._compute_loss(trainer.model, inputs)
        loss, stats = answer_policy_loss(
            ours, range(8), *logprobs(trainer.model), (8, float(mask_BT.sum())), 0.2, 2.0
        )
        assert loss.item() == pytest.approx(theirs.item(), abs=1e-5)
        said = {name: values[-1] for name, values in trainer._metrics["eval"].items()}
        assert stats["policy/clipfrac"] == pytest.approx(said["clip_ratio/region_mean"], abs=1e-6)
        assert stats["policy/entropy"] == pytest.approx(said["entropy"], abs=1e-5)
        assert (stats["policy/clipfrac"] > 0) == (clipped > 0)
        gradients = [
            torch.autograd.grad(each, list(trainer.model.parameters())) for each in (loss, theirs)
        ]
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


# One update of the learner.


@pytest.mark.parametrize("mode", ["full", "lora", "last_layers"])
def test_the_first_ratio_is_one_and_there_is_no_critic(mode, make_learner):
    learner = make_learner(tune={"mode": mode, "layers": 1})
    numbers = learner.update(0)
    assert numbers["policy/first_ratio_deviation"] < 1e-4
    assert numbers["objective/kl"] == pytest.approx(0, abs=1e-4)
    assert not [name for name in numbers if name.startswith("val/") or "critic" in name]
    assert all(name.startswith("lm.") for name in learner.optimiser.names)
    second = learner.update(1)
    assert second["objective/kl_k3"] > 0
    assert second["policy/first_ratio_deviation"] < 1e-4


def test_every_prompt_of_a_batch_gets_k_answers_of_its_own(make_learner):
    learner = make_learner(train={"k": 4, "sample_every": 9})
    seen, explore = [], learner.sampler.rollout
    learner.sampler.rollout = lambda *asked: seen.append(explore(*asked)) or seen[-1]
    for step in range(3):
        learner.update(step)
    asked = [prompt.id for rollout in seen for prompt in rollout.prompts]
    assert sorted(asked.count(each) for each in set(asked)) == [4] * 6  # no prompt twice, of eight
    for prompt in range(2):
        assert len(set(seen[0].texts[prompt::2])) > 1


def test_micro_batches_add_up_to_their_minibatch(make_learner):
    norms = []
    for name, size in (("one", 8), ("other", 3)):
        numbers = make_learner(name, train={**ONE_STEP, "micro_batch_size": size}).update(0)
        norms.append(numbers["gradient/norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


@pytest.mark.parametrize(("minibatches", "epochs"), [(1, 1), (2, 1), (2, 3)])
def test_each_minibatch_of_each_pass_is_an_optimizer_step(minibatches, epochs, make_learner):
    train = {"minibatches": minibatches, "rollout_epochs": epochs, "target_kl": 0.0}
    numbers = make_learner(train=train).update(0)
    assert numbers["policy/optimizer_steps"] == minibatches * epochs


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"k": 3}, "RLOO.batch_size 8 is not a multiple of RLOO.k 3"),
        ({"k": 1}, "RLOO.k must be at least 2"),
        ({"rollout_epochs": 0}, "RLOO.rollout_epochs must be at least 1"),
        ({"minibatches": 3}, "RLOO.batch_size 8 is not a multiple of RLOO.minibatches 3"),
    ],
)
def test_a_batch_that_cannot_be_shared_out_is_named(train, message):
    with pytest.raises(ConfigError, match=message):
        RLOO(**{"batch_size": 8, **train}).validate()


def test_the_answers_to_a_prompt_stay_in_one_process(make_run, data_dir, monkeypatch):
    folder = RunFolder(make_run("rloo", train={"batch_size": 8, "k": 4}), data_dir)
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(Accelerator, "num_processes", 4)
    with pytest.raises(ConfigError, match="is not a multiple of 16 = processes x k"):
        RLOOLearner(folder, accelerator)
