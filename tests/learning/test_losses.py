"""The formulas, against numbers worked out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf.learning.algorithms.preference import element_loss
from rlhf.learning.contract.records import Prompt, Ranking, aggregate
from rlhf.learning.models import losses
from rlhf.learning.ppo.advantages import gae, token_rewards

PROMPT = Prompt("p", ({"role": "user", "content": "hi"},))


def test_gae_of_four_tokens_is_what_a_pencil_says_and_padding_stays_out_of_it():
    # gamma 0.5, lambda 0.5; the second row has two tokens, then padding full of nonsense.
    rewards = torch.tensor([[0.0, 0.0, 0.0, 8.0], [0.0, 4.0, 99.0, 99.0]])
    values = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 77.0, 77.0]])
    mask = torch.tensor([[True] * 4, [True, True, False, False]])

    advantages, returns = gae(rewards, values, mask, gamma=0.5, gae_lambda=0.5)

    # Row one, deltas from the end: 8-4 = 4, 2-3 = -1, 1.5-2 = -0.5, 1-1 = 0; a quarter of each
    # advantage comes down to the one before.
    assert advantages[0].tolist() == [-0.125, -0.5, 0.0, 4.0]
    # row two: 4-2=2 (nothing after it); 0+.5*2-1=0, plus a quarter of 2
    assert advantages[1].tolist() == [0.5, 2.0, 0.0, 0.0]
    assert returns[1].tolist() == [1.5, 4.0, 0.0, 0.0]


def test_an_answer_of_one_token_has_the_advantage_of_its_reward_over_its_value():
    one = torch.tensor([[3.0]])
    advantages, returns = gae(one, torch.tensor([[1.0]]), one > 0, gamma=1.0, gae_lambda=0.95)
    assert advantages.item() == 2.0 and returns.item() == 3.0


def test_the_score_lands_on_the_last_valid_token():
    mask = torch.tensor([[True, True, True], [True, False, False]])
    kl = torch.tensor([[1.0, 2.0, 3.0], [4.0, 50.0, 60.0]])
    rewards = token_rewards(torch.tensor([10.0, 20.0]), kl, mask, kl_coef=0.1)
    torch.testing.assert_close(rewards, torch.tensor([[-0.1, -0.2, 9.7], [19.6, 0.0, 0.0]]))


def test_kl_is_zero_between_a_policy_and_itself():
    logprobs = torch.randn(5, 7)
    assert losses.kl_k1(logprobs, logprobs).abs().max() == 0
    assert losses.kl_k3(logprobs, logprobs).abs().max() == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_both_kl_estimates_average_to_the_true_one(seed):
    torch.manual_seed(seed)
    p, q = torch.randn(5).log_softmax(-1), torch.randn(5).log_softmax(-1)
    true = (p.exp() * (p - q)).sum()
    torch.testing.assert_close((p.exp() * losses.kl_k1(p, q)).sum(), true)
    torch.testing.assert_close((p.exp() * losses.kl_k3(p, q)).sum(), true)
    assert (losses.kl_k3(p, q) >= -1e-6).all()


def test_a_wide_clip_on_fresh_answers_is_the_policy_gradient():
    logprobs = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    advantages = torch.tensor([2.0, -1.0, 0.5])
    loss, ratio, clipped = losses.policy_loss(logprobs, logprobs.detach(), advantages, clip=1e6)
    loss.backward()
    assert ratio.tolist() == [1, 1, 1] and not clipped.any()
    torch.testing.assert_close(logprobs.grad, -advantages)


@pytest.mark.parametrize(
    ("advantage", "log_ratio", "moves"),
    [(1, 0.5, False), (1, -0.5, True), (-1, 0.5, True), (-1, -0.5, False)],
)
def test_the_clip_takes_the_gradient_only_where_it_would_go_too_far(advantage, log_ratio, moves):
    logprobs = torch.tensor([log_ratio], requires_grad=True)
    loss, _, _ = losses.policy_loss(
        logprobs, torch.zeros(1), torch.tensor([float(advantage)]), clip=0.2
    )
    loss.backward()
    assert (logprobs.grad.abs().item() > 0) is moves


def test_ratios_and_kl_stop_growing_at_a_log_ratio_of_20():
    far, zero = torch.tensor([-30.0]), torch.zeros(1)
    _, ratio, _ = losses.policy_loss(zero, far, torch.ones(1), clip=0.2)
    assert ratio.item() == pytest.approx(math.exp(20))
    _, ratio, _ = losses.policy_loss(far, zero, torch.ones(1), clip=0.2)
    assert ratio.item() == pytest.approx(math.exp(-20))
    assert losses.kl_k3(far, zero).item() == pytest.approx(math.expm1(20) - 20)
    assert losses.kl_k3(zero, far).item() == pytest.approx(math.expm1(-20) + 20)


def test_a_thumb_is_worth_its_weight_times_how_far_it_was_from_agreeing():
    ratios, up = torch.tensor([2.0, 2.0]), torch.tensor([True, False])
    found = losses.kto_losses(ratios, up, kl=0.5, beta=0.4, up_weight=3.0, down_weight=5.0)
    # the gain is 1.5 nats one way and -1.5 the other, times beta: 0.6
    expected = [3 * (1 - 1 / (1 + math.exp(-0.6))), 5 * (1 - 1 / (1 + math.exp(0.6)))]
    assert found.tolist() == pytest.approx(expected)


def test_a_policy_far_from_its_sampler_still_has_finite_gradients():
    logprobs = torch.tensor([0.0, -5000.0], requires_grad=True)
    loss, ratio, _ = losses.policy_loss(
        logprobs, torch.tensor([-5000.0, 0.0]), torch.tensor([-1.0, 1.0]), clip=0.2
    )
    loss.backward()
    assert loss.isfinite() and ratio.isfinite().all() and logprobs.grad.isfinite().all()


def test_the_value_loss_is_the_worse_of_plain_and_clipped():
    loss, clipped = losses.value_loss(
        torch.tensor([1.0, 0.1]), torch.zeros(2), torch.tensor([2.0, 1.0]), clip=0.2
    )
    # row one: plain 1, clipped 1.8^2; row two stays within the clip
    assert loss.item() == pytest.approx(0.5 * (1.8**2 + 0.9**2))
    assert clipped.tolist() == [True, False]


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_gradients_stay_finite_under_wild_logits(size):
    hidden = torch.randn(6, 4, requires_grad=True)
    head = torch.nn.Linear(4, 9, bias=False)
    with torch.no_grad():
        head.weight.mul_(size)
    logprobs, entropy = losses.token_logprobs(hidden, head, torch.arange(6))
    loss, _, _ = losses.policy_loss(logprobs, torch.zeros(6), torch.ones(6), 0.2)
    (loss + entropy.sum() + losses.kl_k3(logprobs, torch.zeros(6)).sum()).backward()
    assert hidden.grad.isfinite().all() and head.weight.grad.isfinite().all()


def test_logprobs_in_chunks_are_those_of_one_piece(monkeypatch):
    torch.manual_seed(0)
    hidden, targets = torch.randn(10, 8, requires_grad=True), torch.randint(0, 20, (10,))
    head = torch.nn.Linear(8, 20, bias=False)

    def both():
        logprobs, entropy = losses.token_logprobs(hidden, head, targets, temperature=0.7)
        gradient = torch.autograd.grad((logprobs + entropy).sum(), [hidden, head.weight])
        return logprobs, entropy, *gradient

    whole = both()
    monkeypatch.setattr(losses, "CHUNK", 60)  # three rows at a time
    for part, one in zip(both(), whole, strict=True):
        torch.testing.assert_close(part, one)
    expected = (head(hidden) / 0.7).log_softmax(-1)
    torch.testing.assert_close(whole[0], expected[torch.arange(10), targets])
    torch.testing.assert_close(whole[1], -(expected.exp() * expected).sum(-1))


def test_the_gradient_of_a_target_is_the_one_autograd_finds():
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 9, requires_grad=True), torch.tensor([0, 8, 3, 3, 1])
    ours, _ = losses._TargetLogprobs.apply(logits, targets, False)
    plain = logits.log_softmax(-1)[torch.arange(5), targets]
    weights = torch.linspace(-1, 2, 5)
    for one, other in zip(
        torch.autograd.grad((weights * ours).sum(), logits),
        torch.autograd.grad((weights * plain).sum(), logits),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.7])
def test_logits_are_divided_by_the_temperature(temperature):
    torch.manual_seed(0)
    hidden, head, targets = torch.randn(4, 6), torch.nn.Linear(6, 7), torch.arange(4)
    said = {} if temperature == 1 else {"temperature": temperature}
    logprobs, _ = losses.token_logprobs(hidden, head, targets, **said)
    expected = (head(hidden) / temperature).log_softmax(-1)[torch.arange(4), targets]
    torch.testing.assert_close(logprobs, expected)


@pytest.mark.parametrize(
    ("chunk", "rows"), [(60, [3, 3, 3, 1]), (5, [1] * 10), (1 << 26, [10])], ids=str
)
def test_no_more_logits_are_held_than_a_chunk_has_room_for(chunk, rows, monkeypatch):
    monkeypatch.setattr(losses, "CHUNK", chunk)
    hidden, head, targets = torch.randn(10, 8), torch.nn.Linear(8, 20), torch.arange(10)
    seen: list[int] = []
    head.register_forward_hook(lambda _, given, made: seen.append(len(made)))
    losses.token_logprobs(hidden, head, targets)
    assert seen == rows
    seen.clear()
    losses.greedy_hits(hidden, head, targets)
    assert seen == rows


@pytest.mark.parametrize("chunk", [1 << 26, 3])
def test_a_greedy_hit_is_a_target_that_the_model_would_have_said(chunk, monkeypatch):
    monkeypatch.setattr(losses, "CHUNK", chunk)
    head = torch.nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.eye(3))
    hidden = torch.tensor([[3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0], [1.0, 2.0, 0]])
    assert losses.greedy_hits(hidden, head, torch.tensor([0, 1, 2, 1])) == 4
    assert losses.greedy_hits(hidden, head, torch.tensor([0, 2, 2, 0])) == 2


def test_entropy_that_nobody_asked_for_is_zero_and_changes_nothing():
    torch.manual_seed(0)
    hidden, head, targets = torch.randn(4, 6), torch.nn.Linear(6, 7), torch.arange(4)
    logprobs, entropy = losses.token_logprobs(hidden, head, targets, entropy=False)
    torch.testing.assert_close(logprobs, losses.token_logprobs(hidden, head, targets)[0])
    assert not entropy.any() and losses.token_logprobs(hidden, head, targets)[1].min() > 0


def test_the_loss_of_a_ranking_is_the_mean_over_its_pairs():
    scores = torch.tensor([0.3, -0.2, 1.1, 0.5])
    (judged,) = aggregate([Ranking(PROMPT, ("a", "b", "c", "d"), (1, 2, 2, 4))])
    pairs = [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)]  # b and c tie
    expected = sum(math.log1p(math.exp(-(scores[i] - scores[j]).item())) for i, j in pairs) / 5
    assert element_loss(scores, judged, margin=0).item() == pytest.approx(expected)


def test_the_opposite_opinion_has_the_opposite_gradient_at_equal_scores():
    ranking = Ranking(PROMPT, ("a", "b", "c"), (1, 2, 3))
    gradients = []
    for each in (ranking, ranking.swap()):
        scores = torch.zeros(3, requires_grad=True)
        element_loss(scores, aggregate([each])[0], margin=0).backward()
        gradients.append(scores.grad)
    torch.testing.assert_close(gradients[0], -gradients[1])
    assert gradients[0][0] < 0 < gradients[0][2]


def test_two_labelers_who_disagree_cancel_out_and_a_third_decides():
    first = Ranking(PROMPT, ("a", "b"), (1, 2), labeler="alice")
    second = Ranking(PROMPT, ("a", "b"), (2, 1), labeler="bob")
    scores = torch.zeros(2, requires_grad=True)
    element_loss(scores, aggregate([first, second])[0], margin=0).backward()
    assert scores.grad.abs().max() == 0
    (judged,) = aggregate([first, second, first])
    assert sorted(pair.weight for pair in judged.comparisons) == pytest.approx([1 / 3, 2 / 3])


def test_a_ranking_of_ties_teaches_nothing():
    assert aggregate([Ranking(PROMPT, ("a", "b", "c"), (1, 1, 1))]) == []


def test_strength_asks_for_a_wider_margin():
    scores = torch.tensor([1.0, 0.0])
    weak, strong = (
        element_loss(scores, aggregate([Ranking(PROMPT, ("a", "b"), (1, 2), strength=s)])[0], 0.5)
        for s in (0.0, 3.0)
    )
    assert strong.item() == pytest.approx(math.log1p(math.exp(0.5)))
    assert weak.item() == pytest.approx(math.log1p(math.exp(-1.0)))


def test_beta_follows_the_kl_within_its_clip():
    assert losses.adapted_kl_coef(1.0, kl=6, target=6, horizon=100, episodes=10) == 1.0
    assert losses.adapted_kl_coef(1.0, kl=60, target=6, horizon=100, episodes=10) == pytest.approx(
        1.02
    )
    assert losses.adapted_kl_coef(1.0, kl=0, target=6, horizon=100, episodes=10) == pytest.approx(
        0.98
    )
