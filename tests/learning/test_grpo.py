"""GRPO: by hand, beside TRL's, and what one update does to a toy policy."""

import copy
import math

import pytest
import torch
from accelerate import Accelerator

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.kinds.grpo import GRPO
from rlhf.learning.models.networks import PolicyNetwork, collate
from rlhf.learning.models.render import Encoded
from rlhf.learning.ppo.grpo import (
    GRPOLearner,
    group_advantages,
    group_policy_loss,
    token_weights,
)
from rlhf.learning.ppo.rollout import Rollout
from rlhf.learning.run.run_folder import RunFolder
from tests.learning.test_rloo import move

ONE_STEP = {"rollout_epochs": 1, "minibatches": 1, "max_grad_norm": 0.0, "k": 4}


@pytest.fixture
def make_learner(make_run, data_dir):
    def make(name="run", **more):
        folder = RunFolder(make_run("grpo", name, **more), data_dir)
        return GRPOLearner(folder, Accelerator(cpu=True))

    return make


# By hand.


@pytest.mark.parametrize(
    ("scores", "scaled", "advantages"),
    [
        ([1.0, 3.0], False, [-1.0, 1.0]),
        ([1.0, 3.0], True, [-math.sqrt(0.5), math.sqrt(0.5)]),
        ([0.0, 0.0, 3.0], True, [-1 / math.sqrt(3), -1 / math.sqrt(3), 2 / math.sqrt(3)]),
        ([0.5, 0.5, 0.5, 0.5], True, [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_an_answer_is_measured_against_all_answers_to_its_prompt(scores, scaled, advantages):
    other_prompt = [100.0 * (i + 1) for i in range(len(scores))]
    scores_KP = torch.tensor([scores, other_prompt]).T
    torch.testing.assert_close(
        group_advantages(scores_KP, scaled=scaled)[:, 0],
        torch.tensor(advantages),
        atol=2e-4,
        rtol=0,
    )


@pytest.mark.parametrize(
    ("kind", "weights"),
    [("grpo", [1 / 8, 1 / 4]), ("dr_grpo", [1 / 40, 1 / 40]), ("dapo", [1 / 5, 1 / 5])],
)
def test_a_token_counts_as_the_variant_says(kind, weights):
    """Of four answers with five tokens, two have two tokens and one; ten are the most."""
    found = token_weights(torch.tensor([2.0, 1.0]), (4, 5.0), kind, 10)
    torch.testing.assert_close(found, torch.tensor(weights))


@pytest.fixture
def rollout():
    """Two answers, of two tokens and of one."""
    mask_BT = torch.tensor([[True, True], [True, False]])
    zeros_BT = torch.zeros(2, 2)
    reference_BT = torch.tensor([[0.1, 0.0], [0.0, 0.0]])
    return Rollout(
        [], [], [], mask_BT, zeros_BT, reference_BT, torch.zeros(2), zeros_BT, torch.ones(2, 2),
        advantages_BT=torch.tensor([[2.0, 2.0], [-3.0, 0.0]]),
    )  # fmt: skip


def loss_of(rollout, moved, **changes):
    """On two of four answers, three of their five tokens."""
    settings = GRPO(**{"kl_coef": 0.0, "unbiased_kl": False, "max_new_tokens": 10, **changes})
    logprobs_N = torch.tensor(moved, requires_grad=True)
    entropy_N = torch.tensor([1.0, 2.0, 3.0])
    loss, stats = group_policy_loss(rollout, [0, 1], logprobs_N, entropy_N, (4, 5.0), settings)
    (gradient_N,) = torch.autograd.grad(loss, logprobs_N)
    return loss.item(), gradient_N.tolist(), stats


def test_fresh_tokens_are_charged_by_their_advantage(rollout):
    loss, gradient, stats = loss_of(rollout, [0.0, 0.0, 0.0])
    assert loss == stats["loss"] == stats["policy/loss"] == pytest.approx(-(2.0 - 3.0) / 4)
    assert gradient == pytest.approx([-2 / 8, -2 / 8, 3 / 4])
    assert stats["policy/entropy"] == pytest.approx(6 / 5)
    assert (stats["policy/clipfrac"], stats["ratio/max"], stats["ratio/deviation"]) == (0, 1, 0)
    assert stats["policy/approx_kl"] == stats["ratio/off"] == 0


def test_ratios_are_of_tokens_and_clipped_where_they_would_go_on(rollout):
    loss, gradient, stats = loss_of(rollout, [0.3, -0.1, -0.1])
    clipped, first, second = 2 * 1.2, 2 * math.exp(-0.1), -3 * math.exp(-0.1)
    assert loss == pytest.approx(-(clipped + first) / 8 - second / 4)
    assert gradient == pytest.approx([0.0, -first / 8, -second / 4])
    assert stats["policy/clipfrac"] == pytest.approx(1 / 5)
    assert stats["ratio/max"] == pytest.approx(math.exp(0.3))
    off = [math.exp(each) - 1 for each in (0.3, -0.1, -0.1)]
    assert stats["ratio/deviation"] == pytest.approx(max(map(abs, off)))
    assert stats["ratio/off"] == pytest.approx(sum(map(abs, off)) / 5)
    kl = sum(each - log for each, log in zip(off, (0.3, -0.1, -0.1), strict=True))
    assert stats["policy/approx_kl"] == pytest.approx(kl / 5, abs=1e-6)


def test_a_higher_clip_lets_good_tokens_grow_and_no_bad_one_shrink_further(rollout):
    wide, *_ = loss_of(rollout, [0.3, 0.0, -0.3], clip_range_high=0.28)
    assert wide == pytest.approx(-(2 * 1.28 + 2) / 8 + 3 * 0.8 / 4, abs=1e-6)
    near, *_ = loss_of(rollout, [0.3, 0.0, -0.3])
    assert near == pytest.approx(-(2 * 1.2 + 2) / 8 + 3 * 0.8 / 4, abs=1e-6)


def test_the_kl_is_a_term_of_the_loss(rollout):
    loss, gradient, stats = loss_of(rollout, [0.0, 0.0, 0.0], kl_coef=0.5)
    k3 = math.exp(0.1) - 1 - 0.1
    assert loss == pytest.approx(1 / 4 + 0.5 * k3 / 8)
    assert gradient[0] == pytest.approx(-2 / 8 + 0.5 * (1 - math.exp(0.1)) / 8)
    assert stats["policy/loss"] == pytest.approx(1 / 4)


def test_an_unbiased_kl_has_the_gradient_of_the_reverse_kl(rollout):
    """d/dl of exp(l) (exp(r - l) - 1 - (r - l)) at l = 0 is -r, and r = 0.1."""
    _, gradient, _ = loss_of(rollout, [0.0, 0.0, 0.0], kl_coef=0.5, unbiased_kl=True)
    assert gradient[0] == pytest.approx(-2 / 8 + 0.5 * -0.1 / 8)


def test_an_unbiased_kl_is_weighed_by_the_ratio_to_what_sampled(rollout):
    rollout.logprobs_BT = torch.full((2, 2), -1.0)
    rollout.ref_logprobs_BT = rollout.ref_logprobs_BT - 1
    loss, *_ = loss_of(rollout, [-1.0, -1.0, -1.0], kl_coef=0.5, unbiased_kl=True)
    assert loss == pytest.approx(1 / 4 + 0.5 * (math.expm1(0.1) - 0.1) / 8)


def test_a_kl_and_its_figures_stop_growing_at_a_log_ratio_of_20(rollout):
    """Two tokens of 0.25 each beside the third, whose advantage is -3 and whose weight is 1/4."""
    told = {"kl_coef": 0.5, "unbiased_kl": True}
    rollout.ref_logprobs_BT = torch.zeros(2, 2)
    far, _, stats = loss_of(rollout, [0.0, 0.0, 30.0], **told)
    kl = math.exp(20) * (math.expm1(-20) + 20)
    assert far == pytest.approx(-0.5 + 3 * math.exp(20) / 4 + 0.5 * kl / 4)
    assert stats["policy/approx_kl"] == pytest.approx((math.expm1(20) - 20) / 5)
    gone, _, stats = loss_of(rollout, [0.0, 0.0, -30.0], **told)
    kl = math.exp(-20) * (math.expm1(20) - 20)
    assert gone == pytest.approx(-0.5 + 3 * 0.8 / 4 + 0.5 * kl / 4)
    assert stats["policy/approx_kl"] == pytest.approx((math.expm1(-20) + 20) / 5)


def test_a_token_that_an_engine_drew_otherwise_is_weighed_and_its_kl_is_not(rollout):
    rollout.weights_BT = torch.tensor([[2.0, 1.0], [0.5, 1.0]])
    loss, *_ = loss_of(rollout, [0.0, 0.0, 0.0], kl_coef=0.5)
    k3 = math.exp(0.1) - 1 - 0.1
    assert loss == pytest.approx(-(2 * 2 + 2) / 8 + 0.5 * 3 / 4 + 0.5 * k3 / 8)


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "dapo"])
def test_an_update_is_what_a_few_lines_on_the_bare_model_compute(make_learner, kind):
    scaled = kind != "dr_grpo"
    train = {**ONE_STEP, "kl_coef": 0.3, "loss": kind, "scale_advantages": scaled}
    learner = make_learner(train=train)
    twin = copy.deepcopy(learner.policy.lm)
    for one in (learner.policy.lm, twin):  # away from the reference
        move(one, 0.04)
    seen, explore = [], learner.sampler.rollout
    learner.sampler.rollout = lambda *asked: seen.append(explore(*asked)) or seen[-1]
    numbers = learner.update(0)
    [rollout] = seen
    reference, prompts = learner.sampler.reference.network.lm, rollout.prompts
    scores = rollout.scores_B.tolist()

    def logprobs(lm, episode):
        logits = lm(torch.tensor([episode.ids])).logits[0, len(episode.prompt) - 1 : -1]
        answer = torch.tensor(episode.completion)
        return logits.log_softmax(-1)[range(len(answer)), answer]

    tokens = sum(len(episode.completion) for episode in rollout.episodes)
    terms = []
    for i, episode in enumerate(rollout.episodes):
        group = torch.tensor([scores[j] for j in range(8) if prompts[j].id == prompts[i].id])
        advantage = scores[i] - group.mean()
        if scaled:
            advantage = advantage / (group.std() + 1e-4)
        ours, theirs = logprobs(twin, episode), logprobs(reference, episode).detach()
        kl = (theirs - ours).exp() - 1 - (theirs - ours)
        kl = kl * (ours - ours.detach()).exp()
        losses = -advantage * (ours - ours.detach()).exp() + 0.3 * kl
        longest = learner.settings.max_new_tokens
        share = {"grpo": 8 * len(losses), "dr_grpo": 8 * longest, "dapo": tokens}[kind]
        terms.append(losses.sum() / share)
    whole = sum(terms)
    whole.backward()
    norm = torch.stack([w.grad.norm() for w in twin.parameters() if w.grad is not None]).norm()
    assert numbers["loss"] == pytest.approx(whole.item(), abs=1e-5)
    assert numbers["gradient/norm"] == pytest.approx(norm.item(), rel=1e-4)


# Beside TRL.


@pytest.fixture
def frozen_batch(data_dir, tmp_path, monkeypatch):
    """make(**config) → (TRL's trainer, its inputs, the scores): four answers to each of two
    prompts, drawn and judged by it as it is."""
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def make(**config):
        scores = []

        def score(completions, **_):
            scores.extend(3.0 * len(set(text)) / (1 + len(text)) for text in completions)
            return scores

        settings = trl.GRPOConfig(
            output_dir=str(tmp_path / "trl"), report_to="none", use_cpu=True, bf16=False, beta=0.3,
            gradient_checkpointing=False, per_device_train_batch_size=8, num_generations=4,
            max_completion_length=6, temperature=0.7, disable_tqdm=True, epsilon=0.2,
            num_iterations=2, **config,
        )  # fmt: skip
        policy = AutoModelForCausalLM.from_pretrained(data_dir / "base")
        policy.generation_config.eos_token_id = list(range(1, 300, 9))  # some answers end early
        rows = [{"prompt": text} for text in ("What is a fig?", "What is a plum, and why?")]
        trainer = trl.GRPOTrainer(
            model=policy, reward_funcs=score, args=settings, train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(data_dir / "base", padding_side="left"),
        )  # fmt: skip
        move(policy, 0.01)
        batch = [rows[0]] * 4 + [rows[1]] * 4
        return trainer, trainer._generate_and_score_completions(batch), scores

    return make


@pytest.mark.parametrize(
    ("kind", "theirs", "ours"),
    [
        (
            "grpo",
            {"scale_rewards": "group", "use_bias_correction_kl": False},
            {"unbiased_kl": False},
        ),
        ("dr_grpo", {"scale_rewards": "none"}, {"scale_advantages": False}),
        ("dapo", {"epsilon_high": 0.28}, {"clip_range_high": 0.28}),
    ],
)
def test_advantages_losses_and_gradients_agree_with_trl(frozen_batch, kind, theirs, ours):
    trainer, inputs, scores = frozen_batch(loss_type=kind, **theirs)
    settings = GRPO(kl_coef=0.3, loss=kind, max_new_tokens=6, **ours)
    episodes = [
        Encoded(prompt[seen == 1].tolist(), answer[kept == 1].tolist(), True)
        for prompt, seen, answer, kept in zip(
            *(inputs[f"prompt_{each}"] for each in ("ids", "mask")),
            *(inputs[f"completion_{each}"] for each in ("ids", "mask")),
            strict=True,
        )
    ]
    mask_BT = inputs["completion_mask"].bool()
    assert mask_BT.sum(1).unique().numel() > 1

    def logprobs(model):
        logprobs_N, entropy_N, _ = PolicyNetwork(model)(collate(episodes, 0), 0.7)
        return logprobs_N, entropy_N

    def per_token(model):
        values_BT = torch.zeros(mask_BT.shape)
        values_BT[mask_BT] = logprobs(model)[0].detach()
        return values_BT

    old_BT, ref_BT = per_token(trainer.model), per_token(trainer.ref_model)
    scores_B = torch.tensor(scores)
    rollout = Rollout([], episodes, [], mask_BT, old_BT, ref_BT, scores_B, old_BT, mask_BT.float())
    scaled = settings.scale_advantages
    advantages_B = group_advantages(scores_B.view(2, 4).T, scaled=scaled).T.flatten()
    torch.testing.assert_close(advantages_B, inputs["advantages"], atol=1e-5, rtol=1e-5)
    rollout.advantages_BT = advantages_B[:, None] * mask_BT
    clipped_any = False
    for moved in (0.0, 0.01):
        move(trainer.model, moved)
        expected = trainer._compute_loss(trainer.model, inputs)
        loss, stats = group_policy_loss(
            rollout, range(8), *logprobs(trainer.model), (8, float(mask_BT.sum())), settings
        )
        assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
        said = {name: values[-1] for name, values in trainer._metrics["eval"].items()}
        assert stats["policy/entropy"] == pytest.approx(said["entropy"], abs=1e-5)
        clipped_any |= stats["policy/clipfrac"] > 0
        gradients = [
            torch.autograd.grad(each, list(trainer.model.parameters())) for each in (loss, expected)
        ]
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert clipped_any


# One update of the learner.


def test_the_first_ratio_is_one_and_there_is_no_critic(make_learner):
    learner = make_learner()
    numbers = learner.update(0)
    assert numbers["policy/first_ratio_deviation"] < 1e-4
    assert not [name for name in numbers if name.startswith("val/") or "critic" in name]
    assert learner.update(1)["objective/kl_k3"] > 0


def test_prompts_whose_answers_are_all_worth_the_same_are_counted(make_learner):
    learner = make_learner(train={"normalise_score": False})
    learner.sampler.reward.scorer.score = lambda prompts, texts, *_: torch.full((len(texts),), 0.5)
    learner.sampler.settings = learner.settings.__class__(missing_eos="none", max_new_tokens=6)
    assert learner.update(0)["objective/flat_prompts"] == 1.0


@pytest.mark.parametrize(("kind", "size"), [("grpo", 3), ("dr_grpo", 3), ("dapo", 3)])
def test_micro_batches_add_up_to_their_minibatch(make_learner, kind, size):
    norms = []
    for name, each in (("one", 8), ("other", size)):
        train = {**ONE_STEP, "loss": kind, "micro_batch_size": each}
        norms.append(make_learner(name, train=train).update(0)["gradient/norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"k": 3}, "GRPO.batch_size 8 is not a multiple of GRPO.k 3"),
        ({"k": 1}, "GRPO.k must be at least 2"),
        ({"loss": "ppo"}, "GRPO.loss must be one of grpo, dr_grpo, dapo"),
        ({"clip_range_high": -0.1}, "GRPO.clip_range_high must be at least 0"),
    ],
)
def test_settings_that_mean_nothing_are_named(train, message):
    with pytest.raises(ConfigError, match=message):
        GRPO(**{"batch_size": 8, **train}).validate()
