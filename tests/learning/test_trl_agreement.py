"""Ours beside TRL 1.12's PPO on one recorded rollout of a tiny model (`record_trl_ppo.py`).

The first half: where TRL is right, every term is the same to 1e-5. The second half: one test for
each thing in which the two differ, and by how much.
"""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from rlhf.learning.models import losses
from rlhf.learning.models.networks import PolicyNetwork, ScoreNetwork, collate
from rlhf.learning.models.render import Encoded
from rlhf.learning.ppo.advantages import gae, token_rewards, whiten
from tests.learning.conftest import learn, read_rows
from tests.learning.record_trl_ppo import (
    EOS,
    FIXTURE,
    PAD,
    PROMPTS,
    SETTINGS,
    TEMPERATURE,
    tiny_models,
)

TRL = json.loads(FIXTURE.read_text())
EPOCHS = range(len(TRL["micro_batches"]))
T = SETTINGS["response_length"]
EXACT = {"atol": 1e-5, "rtol": 1e-5}


def table(name):
    """One of TRL's tensors of the rollout, a row an answer."""
    return torch.tensor(TRL["rollout"][name]).view(len(PROMPTS), -1)


def episodes():
    """The recorded answers without padding, as our rollout holds them."""
    made = []
    for whole, answer in zip(table("query_responses"), table("responses"), strict=True):
        prompt = [id for id in whole.tolist()[:-T] if id != PAD]
        ids = answer.tolist()
        finished = EOS in ids
        made.append(Encoded(prompt, ids[: ids.index(EOS) + 1] if finished else ids, finished))
    return made


MASK = table("padding_mask") == 0
MASK_AND_ONE_MORE = table("padding_mask_p1") == 0
WHOLE = MASK.all(1)  # answers that were cut off: nothing after their last token
SCORES = table("scores").squeeze(1)
KL = losses.kl_k1(table("logprobs"), table("ref_logprobs"))


def epoch_of_trl(number):
    """(inds, TRL's numbers) of one pass over the batch, its tensors a row an answer."""
    part = TRL["micro_batches"][number]
    tensors = {
        name: torch.tensor(part[name]).view(len(PROMPTS), T) for name in ("new_logprobs", "vpred")
    }
    numbers = {name: part[name][0] for name in ("pg_loss", "vf_loss", "loss", "vf_clipfrac")}
    return part["micro_batch_inds"], SimpleNamespace(**tensors, **numbers)


def our_rewards():
    return token_rewards(SCORES, KL, MASK, SETTINGS["kl_coef"])


def our_advantages(rewards, mask):
    return gae(rewards, table("values"), mask, SETTINGS["gamma"], SETTINGS["lam"])


# Where TRL is right.


def test_the_recorded_answers_are_ours_with_a_mask_in_place_of_padding():
    assert [len(each.completion) for each in episodes()] == MASK.sum(1).tolist()
    assert 0 < sum(each.finished for each in episodes()) < len(PROMPTS)


@pytest.mark.parametrize("name", ["policy", "reference"])
def test_the_log_probabilities_at_temperature_0_7_agree(name):
    network = PolicyNetwork(tiny_models()[name])
    with torch.no_grad():
        ours, _, _ = network(collate(episodes(), EOS), TEMPERATURE)
    theirs = table("logprobs" if name == "policy" else "ref_logprobs")[MASK]
    torch.testing.assert_close(ours, theirs, **EXACT)


def test_scores_after_the_missing_eos_penalty_agree():
    batch = collate(episodes(), EOS)
    with torch.no_grad():
        scores = ScoreNetwork(tiny_models()["reward"])(batch).squeeze(1)
    unfinished = torch.tensor([not each.finished for each in episodes()])
    ours = scores - SETTINGS["missing_eos_penalty"] * unfinished
    torch.testing.assert_close(ours, SCORES, **EXACT)


def test_values_before_each_token_agree():
    batch = collate(episodes(), EOS)
    with torch.no_grad():
        values = ScoreNetwork(tiny_models()["critic"]).values(batch)
    torch.testing.assert_close(
        values[batch.keep_BL.roll(-1, dims=1)], table("values")[MASK], **EXACT
    )


def test_the_kl_of_tokens_and_answers_agrees():
    torch.testing.assert_close(KL, table("kl"), **EXACT)
    assert (KL * MASK).sum(1).mean().item() == pytest.approx(
        TRL["logged"]["objective/kl"], abs=1e-5
    )
    reward = SCORES.mean() - SETTINGS["kl_coef"] * (KL * MASK).sum(1).mean()
    assert reward.item() == pytest.approx(TRL["logged"]["objective/rlhf_reward"], abs=1e-5)


def test_rewards_advantages_and_returns_of_answers_without_an_end_agree():
    rewards = our_rewards()
    _, returns = our_advantages(rewards, MASK)
    torch.testing.assert_close(rewards[WHOLE], table("rewards")[WHOLE], **EXACT)
    torch.testing.assert_close(returns[WHOLE], table("returns")[WHOLE], **EXACT)


def test_gae_on_trls_own_rewards_and_mask_agrees_for_every_answer():
    _, returns = our_advantages(table("rewards"), MASK_AND_ONE_MORE)
    theirs = table("returns")
    torch.testing.assert_close(returns, theirs * MASK_AND_ONE_MORE, **EXACT)


@pytest.mark.parametrize("epoch", EPOCHS)
def test_the_policy_loss_agrees_before_and_after_a_step(epoch):
    rows, theirs = epoch_of_trl(epoch)
    mask = MASK[rows]
    loss, ratio, clipped = losses.policy_loss(
        theirs.new_logprobs[mask],
        table("logprobs")[rows][mask],
        table("advantages")[rows][mask],
        SETTINGS["cliprange"],
    )
    assert loss.item() / mask.sum().item() == pytest.approx(theirs.pg_loss, abs=1e-5)
    assert bool(((ratio - 1).abs() > 0.2).any()) is clipped.any().item() is (epoch > 0)


@pytest.mark.parametrize("epoch", EPOCHS)
def test_the_value_loss_on_trls_mask_agrees_before_and_after_a_step(epoch):
    rows, theirs = epoch_of_trl(epoch)
    mask = MASK_AND_ONE_MORE[rows]
    loss, clipped = losses.value_loss(
        theirs.vpred[mask],
        table("values")[rows][mask],
        table("returns")[rows][mask],
        SETTINGS["cliprange_value"],
    )
    count = mask.sum().item()
    assert loss.item() / count == pytest.approx(theirs.vf_loss, abs=1e-5)
    assert clipped.float().mean().item() == pytest.approx(theirs.vf_clipfrac, abs=1e-5)
    assert theirs.pg_loss + SETTINGS["vf_coef"] * loss.item() / count == pytest.approx(
        theirs.loss, abs=1e-5
    )


# Where it is not, or does something else.


def test_trl_puts_the_score_one_token_after_the_end_and_we_on_the_end():
    early = (~WHOLE).nonzero().flatten()
    end = MASK.sum(1) - 1
    torch.testing.assert_close(table("rewards")[early, end[early] + 1], SCORES[early], **EXACT)
    difference = our_rewards() - table("rewards")
    torch.testing.assert_close(difference[early, end[early]], SCORES[early], **EXACT)


def test_trl_bootstraps_from_a_value_after_the_end_and_ours_is_nothing_there():
    rewards = our_rewards()
    _, ours = our_advantages(rewards, MASK)
    end = MASK.sum(1) - 1
    for row in (~WHOLE).nonzero().flatten().tolist():
        last = end[row].item()
        after = table("values")[row, last + 1].item()
        assert after != 0
        # The last token's return is its reward here; there the score is discounted by a step of
        # gamma x lambda, and the value of a state that does not exist fills the rest.
        assert ours[row, last].item() == pytest.approx(rewards[row, last].item(), abs=1e-5)
        kl_reward, score = table("rewards")[row, last].item(), SCORES[row].item()
        gamma, lam = SETTINGS["gamma"], SETTINGS["lam"]
        theirs = kl_reward + gamma * (lam * score + (1 - lam) * after)
        assert table("returns")[row, last].item() == pytest.approx(theirs, abs=1e-5)


def test_trl_teaches_the_critic_a_token_after_the_end_as_well():
    extra = MASK_AND_ONE_MORE & ~MASK
    assert extra.sum() == (~WHOLE).sum() > 0
    rows, theirs = epoch_of_trl(1)
    old, returns = table("values")[rows], table("returns")[rows]
    clip = SETTINGS["cliprange_value"]
    whole, ours, beyond = (
        losses.value_loss(theirs.vpred[mask], old[mask], returns[mask], clip)[0].item()
        for mask in (MASK_AND_ONE_MORE[rows], MASK[rows], extra[rows])
    )
    assert whole == pytest.approx(ours + beyond, abs=1e-5) and beyond > 1e-3


def test_trl_whitens_with_n_minus_1_and_we_with_n():
    one = SimpleNamespace(total=lambda *numbers: list(numbers))
    rollout = SimpleNamespace(mask_BT=MASK, advantages_BT=table("returns") - table("values"))
    whiten(one, rollout)
    count = MASK.sum().item()
    ours = rollout.advantages_BT * math.sqrt((count - 1) / count)
    torch.testing.assert_close(ours, table("advantages"), **EXACT)


def test_trl_thins_approx_kl_out_with_padding_and_takes_half_the_square():
    rows, theirs = epoch_of_trl(1)
    change = (theirs.new_logprobs - table("logprobs")[rows])[MASK[rows]]
    k2 = 0.5 * (change**2).mean().item()
    of_all_epochs = k2 * MASK.float().mean().item() / len(EPOCHS)
    assert TRL["logged"]["policy/approxkl_avg"] == pytest.approx(of_all_epochs, abs=1e-4)
    assert TRL["logged"]["policy/approxkl_avg"] < 0.5 * k2


def test_trls_minibatches_do_not_step_and_ours_do(make_run, data_dir):
    for name in ("two_minibatches", "two_micro_batches"):
        assert len(TRL[name]["micro_batches"]) == 2
        assert len(TRL[name]["gradient_norms"]) == 1
    run = make_run(
        "ppo", train={"updates": 1, "ppo_epochs": 1, "minibatches": 2, "evaluate_every": 0}
    )
    assert learn(run, data_dir) == 0
    assert read_rows(run / "metrics.jsonl")[0]["policy/optimizer_steps"] == 2


def test_trl_stops_accumulating_on_the_last_batch_of_the_data():
    at_the_end = TRL["two_micro_batches_at_the_end_of_the_data"]
    assert len(at_the_end["micro_batches"]) == len(at_the_end["gradient_norms"]) == 2


def test_trl_weighs_micro_batches_alike_and_we_weigh_tokens():
    halves = TRL["two_micro_batches"]
    tokens = (torch.tensor(halves["padding_mask"]).view(len(PROMPTS), T) == 0).sum(1)
    counts = [tokens[part["micro_batch_inds"]].sum().item() for part in halves["micro_batches"]]
    means = [part["pg_loss"][0] for part in halves["micro_batches"]]
    by_batch = sum(means) / 2
    by_token = sum(n * mean for n, mean in zip(counts, means, strict=True)) / sum(counts)
    # Fresh answers have a ratio of 1, and whitened advantages sum to 0 over tokens, not batches.
    assert counts[0] != counts[1]
    assert abs(by_token) < 1e-5 < 1e-3 < abs(by_batch)


def test_trl_ignores_max_grad_norm_and_we_clip(make_run, data_dir):
    assert min(TRL["gradient_norms"]) > 100 * SETTINGS["max_grad_norm"]
    norms, clip = [], SETTINGS["max_grad_norm"]

    def look(adam, *_):
        gradients = [weight.grad for group in adam.param_groups for weight in group["params"]]
        norms.append(torch.stack([each.norm() for each in gradients if each is not None]).norm())

    run = make_run("ppo", train={"updates": 1, "max_grad_norm": clip, "evaluate_every": 0})
    watching = register_optimizer_step_pre_hook(look)
    try:
        assert learn(run, data_dir) == 0
    finally:
        watching.remove()
    assert norms and max(norms).item() == pytest.approx(clip, rel=1e-3)
    assert read_rows(run / "metrics.jsonl")[0]["gradient/norm"] > clip


def test_trl_scores_the_token_before_the_end_where_pad_is_eos_and_we_the_end():
    ids = TRL["end_token"]["row"]
    network = ScoreNetwork(tiny_models()["reward"])
    with torch.no_grad():
        ours = network(collate([Encoded(ids[:2], ids[2:], True)], pad=EOS)).item()
        before = network(collate([Encoded(ids[:2], ids[2:-1], False)], pad=EOS)).item()
    assert ours == pytest.approx(TRL["end_token"]["own_pad"][0], abs=1e-5)
    assert before == pytest.approx(TRL["end_token"]["pad_is_eos"][0], abs=1e-5)
    assert abs(ours - before) > 1e-2
