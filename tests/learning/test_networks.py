"""Padding is invisible, the score stands on the stated token, adapters come and go exactly."""

import pytest
import torch

from rlhf.learning.contract.hyperparameters import ConfigError, Tune
from rlhf.learning.contract.records import DataError, Prompt
from rlhf.learning.contract.seeds import derive
from rlhf.learning.generation.sampling import draw, generate, uniforms
from rlhf.learning.models import adapters, folders, networks
from rlhf.learning.models.render import Encoded
from rlhf.learning.ppo.rollout import ActorCritic
from rlhf.learning.publishing import writing

ROWS = [Encoded([5, 6, 7], [8, 9], True), Encoded([10], [11, 12, 13, 14, 15, 1], True)]
STOPS = list(range(0, 1024, 8))


def test_a_row_alone_is_what_it_is_in_a_padded_batch(policy, scorer):
    together, entropy, _ = policy(networks.collate(ROWS, pad=0))
    alone = [policy(networks.collate([row], pad=0)) for row in ROWS]
    torch.testing.assert_close(together, torch.cat([each[0] for each in alone]), atol=1e-5, rtol=0)
    torch.testing.assert_close(entropy, torch.cat([each[1] for each in alone]), atol=1e-5, rtol=0)
    scores = torch.cat([scorer(networks.collate([row], pad=0)) for row in ROWS])
    torch.testing.assert_close(scorer(networks.collate(ROWS, pad=0)), scores, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pad", [1, 300])
def test_what_stands_in_the_padding_changes_no_loss_even_if_it_is_eos(policy, scorer, pad):
    zero, other = networks.collate(ROWS, pad=0), networks.collate(ROWS, pad=pad)
    assert not torch.equal(zero.ids_BL, other.ids_BL)
    torch.testing.assert_close(policy(zero)[0], policy(other)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(scorer(zero), scorer(other), atol=1e-5, rtol=0)


def test_logprobs_are_of_the_completion_alone_and_those_of_the_plain_model(policy):
    row = ROWS[0]
    logits = policy.lm(torch.tensor([row.ids])).logits[0].log_softmax(-1)
    expected = torch.stack([logits[2, 8], logits[3, 9]])
    torch.testing.assert_close(policy(networks.collate([row], 0))[0], expected, atol=1e-5, rtol=0)


def test_the_score_is_read_at_the_last_real_token(scorer):
    batch = networks.collate(ROWS, pad=1)
    values = scorer.values(batch)
    torch.testing.assert_close(scorer(batch)[:, 0], torch.stack([values[0, 4], values[1, 6]]))
    assert networks.last_valid(batch.mask_BL).tolist() == [4, 6]


def test_positions_count_real_tokens_whatever_the_padding():
    mask = torch.tensor([[False, False, True, True], [True, True, True, False]])
    assert networks.positions(mask).tolist() == [[0, 0, 0, 1], [0, 1, 2, 2]]


def test_the_scalar_head_begins_small(data_dir):
    torch.manual_seed(0)
    weight = folders.load_score(data_dir / "base").head.weight
    assert weight.std().item() == pytest.approx(0.1 / (32 + 1) ** 0.5, rel=0.4)


def test_sampled_logprobs_are_those_of_training_at_the_same_temperature(policy):
    prompts = [[5, 6, 7], [9], [10, 11]]
    answers = generate(policy.lm, prompts, uniforms([1, 2, 3], 12), 0.7, [1], 0)
    rows = [Encoded(p, a.ids, a.finished) for p, a in zip(prompts, answers, strict=True)]
    logprobs, _, _ = policy(networks.collate(rows, 0), 0.7)
    torch.testing.assert_close(
        torch.cat([a.logprobs_T for a in answers]), logprobs.detach(), atol=2e-5, rtol=0
    )


def test_an_answer_depends_on_its_own_seed_and_on_no_neighbour(policy):
    prompts = [[5, 6, 7], [9], [10, 11], [5, 6, 7, 8, 9]]
    # An eighth of the vocabulary ends an answer, so that rows leave at different times.
    noise = uniforms([derive("a", i) for i in range(4)], 20)
    together = generate(policy.lm, prompts, noise, 1.0, STOPS, 0)
    for i, prompt in enumerate(prompts):
        (alone,) = generate(policy.lm, [prompt], noise[i : i + 1], 1.0, STOPS, 0)
        assert alone.ids == together[i].ids
        torch.testing.assert_close(alone.logprobs_T, together[i].logprobs_T, atol=2e-5, rtol=0)
    assert len({len(answer.ids) for answer in together}) > 1
    assert all(answer.finished == (answer.ids[-1] in STOPS) for answer in together)


def test_drawing_follows_the_probabilities():
    logits = torch.tensor([0.5, 0.0, 0.3, 0.2]).log().repeat(20000, 1)
    ids, logprobs = draw(logits, torch.rand(20000, generator=torch.Generator().manual_seed(0)), 1.0)
    shares = torch.bincount(ids, minlength=4) / 20000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.0, 0.3, 0.2]), atol=0.01, rtol=0)
    torch.testing.assert_close(logprobs, logits[0][ids])
    assert draw(logits[:1], torch.tensor([0.99]), 0.0)[0].item() == 0


def test_an_adapter_switched_off_is_the_base_and_merging_leaves_no_trace(policy):
    batch = networks.collate(ROWS, 0)
    before = policy(batch)[0].detach()
    adapters.choose_weights(policy.lm, Tune("lora", rank=2))
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    adapted = policy(batch)[0].detach()
    assert (adapted - before).abs().max() > 1e-3
    with adapters.adapter_off(policy.lm):
        torch.testing.assert_close(policy(batch)[0], before, atol=0, rtol=0)
    with adapters.merged(policy.lm):
        torch.testing.assert_close(policy(batch)[0], adapted, atol=2e-5, rtol=0)
    torch.testing.assert_close(policy(batch)[0], adapted, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("tune", "moving"),
    [
        (Tune("full"), {"embed_tokens", "layers.0", "layers.1", "norm"}),
        (Tune("last_layers", layers=1), {"layers.1", "norm"}),
        (Tune("head"), {"lm_head"}),
        (Tune("lora", rank=2), {"layers.0", "layers.1"}),
        (Tune("lora", rank=2, layers=1), {"layers.1"}),
    ],
)
def test_only_the_weights_asked_for_learn(policy, tune, moving):
    adapters.choose_weights(policy.lm, tune)
    names = [name for name, weight in policy.named_parameters() if weight.requires_grad]
    parts = ("embed_tokens", "layers.0", "layers.1", "model.norm", "lm_head")
    assert {
        part.removeprefix("model.") for part in parts for name in names if part in name
    } == moving
    if tune.mode == "lora":
        assert all("lora_" in name for name in names)


def test_a_folder_that_is_no_model_is_named_with_what_it_lacks(tmp_path):
    with pytest.raises(ConfigError, match="no such directory"):
        folders.load_policy(tmp_path / "nothing")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"tokenizer_config.json.*safetensors"):
        folders.load_policy(tmp_path)


def test_a_prompt_over_the_context_is_refused_by_its_id(data_dir):
    render = folders.renderer(data_dir / "base")
    long = Prompt("p17", ({"role": "user", "content": "word " * 600},))
    with pytest.raises(DataError, match="prompt p17 has"):
        render.prompt(long, 10)


def test_training_sees_the_tokens_of_the_template(data_dir):
    render = folders.renderer(data_dir / "base")
    prompt = Prompt("p", ({"role": "user", "content": "Say something about the fig."},))
    row = render.encode(prompt, "The fig is sweet", 50)
    text = render.tokenizer.apply_chat_template(
        [*prompt.messages, {"role": "assistant", "content": "The fig is sweet"}], tokenize=False
    )
    assert render.tokenizer.decode(row.ids) == text
    assert row.ids[-1] == render.eos and row.finished


def test_a_cut_completion_ends_without_eos(data_dir):
    render = folders.renderer(data_dir / "base")
    prompt = Prompt("p", ({"role": "user", "content": "Say something about the fig."},))
    ids, finished = render.completion(prompt, "The fig is sweet and round", 3)
    assert len(ids) == 3 and not finished and render.eos not in ids


def test_a_scalar_is_not_rounded_to_the_precision_of_the_trunk(policy, scorer):
    rows = [Encoded([1, 2, 3], [4, i], True) for i in range(5, 25)]
    batch = networks.collate(rows, 0)
    for model in (ActorCritic(policy, None), ActorCritic(policy, scorer)):
        if model.critic is None:
            torch.nn.init.normal_(model.value_head.weight)
        with torch.autocast("cpu", torch.bfloat16):
            values = model.values(batch)
            _, _, heard = model(batch, 1.0)
        for said in (values, heard):
            assert said.dtype == torch.float32
            assert (said != said.bfloat16().float()).any()
    with torch.autocast("cpu", torch.bfloat16):
        scores = scorer(batch)
    assert (scores != scores.bfloat16().float()).any()


@pytest.mark.parametrize("load", [folders.load_policy, folders.load_score])
def test_qlora_without_a_gpu_says_what_it_needs(load, data_dir):
    with pytest.raises(ConfigError, match="needs a CUDA GPU and the package bitsandbytes"):
        load(data_dir / "base", tune=Tune("qlora"))


@pytest.mark.parametrize("score", [False, True])
def test_an_adapter_read_back_onto_the_full_model_is_the_merged_one(score, data_dir, tmp_path):
    """What publishing does with a model in four bits, tried on one in full."""
    torch.manual_seed(0)
    load = folders.load_score if score else folders.load_policy
    network = load(data_dir / ("reward" if score else "base"))
    model = network.model if score else network.lm
    wrapper = adapters.choose_weights(model, Tune("lora", rank=2))
    for name, weight in wrapper.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    expected = network(networks.collate(ROWS, 0))
    expected = (expected if score else expected[0]).detach()
    model.quantization_method = "bitsandbytes"
    render = folders.renderer(data_dir / "base")
    (tmp_path / "out").mkdir()
    if score:
        writing.publish_score(network, wrapper, render, tmp_path / "out", "", {"mean": 0.0})
    else:
        writing.publish_policy(network, wrapper, render, tmp_path / "out", "")
    found = load(tmp_path / "out")(networks.collate(ROWS, 0))
    torch.testing.assert_close(found if score else found[0], expected, atol=2e-5, rtol=0)
