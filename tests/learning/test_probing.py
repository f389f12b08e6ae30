"""What is found out of a family by sending tokens through it."""

import pytest
import torch

from rlhf.learning.algorithms.pretrain import collate_packed
from rlhf.learning.contract.hyperparameters import Tune
from rlhf.learning.generation.decoding import Decoder, Rereader, decoder
from rlhf.learning.generation.sampling import generate, uniforms
from rlhf.learning.models import adapters, folders
from rlhf.learning.models.networks import LMHead, collate
from rlhf.learning.models.render import Encoded, Packed
from tests.learning import families

FINAL = {
    "opt": {"decoder.final_layer_norm"},
    "opt_350m": {"decoder.project_out"},
    "gpt_neox": {"final_layer_norm"},
    "gpt2": {"ln_f"},
    "bloom": {"ln_f"},
    "falcon": {"ln_f"},
    "mpt": {"norm_f"},
    "mamba": {"norm_f"},
    "gemma3_with_eyes": {"language_model.norm"},
    "llama": {"norm"},
    "phi": {"final_layernorm"},
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    place, made = tmp_path_factory.mktemp("families"), {}

    def load(name):
        if name not in made:
            made[name] = families.make_model(name, place / name)
        return folders.load_policy(made[name])

    return load


@pytest.mark.parametrize("name", FINAL)
def test_the_last_layers_include_what_follows_them(name, policy):
    lm = policy(name).lm
    adapters.choose_weights(lm, Tune("last_layers", layers=1))
    last = {id(each) for each in adapters.blocks(lm)[-1].parameters()}
    learning = {
        weight.rpartition(".")[0]
        for weight, each in lm.base_model.named_parameters()
        if each.requires_grad and id(each) not in last
    }
    assert learning == FINAL[name]


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "qwen3_next", "mamba", "bloom"])
def test_texts_packed_into_a_row_are_as_likely_as_alone(name, policy):
    """Also past a sliding window of 8, in recurrent layers, and without positions."""
    network = policy(name)
    torch.manual_seed(0)
    texts = [torch.randint(5, 300, (length,)).tolist() for length in (13, 10, 11)]
    packed = network(collate_packed([Packed(texts[:2]), Packed(texts[2:])], 0))[0]
    alone = [network(collate([Encoded(text[:1], text[1:], True)], 0))[0].detach() for text in texts]
    torch.testing.assert_close(packed.detach(), torch.cat(alone), atol=2e-4, rtol=1e-4)
    packed.sum().backward()  # and learn


@pytest.mark.parametrize(
    ("name", "cls"), [("mamba", Rereader), ("qwen3_next", Rereader), ("bloom", Decoder)]
)
def test_what_is_sampled_is_as_likely_as_in_training(name, cls, policy):
    lm = policy(name).lm
    assert type(decoder(lm, 8)) is cls
    prompts = [[9, 8, 7], [5] * 9, [30, 40]]
    answers = generate(lm, prompts, uniforms(range(3), 8), 1.0, [1], 0)
    for prompt, answer in zip(prompts, answers, strict=True):
        network = policy(name)
        row = Encoded(prompt, answer.ids, answer.finished)
        logprobs = network(collate([row], 0))[0].detach()
        torch.testing.assert_close(answer.logprobs_T, logprobs, atol=2e-4, rtol=1e-4)


def test_only_the_text_part_of_a_model_that_sees_learns(policy):
    lm = policy("gemma3_with_eyes").lm
    moving = {name for name, each in lm.named_parameters() if each.requires_grad}
    assert moving and not [name for name in moving if "vision" in name or "projector" in name]
    assert len(adapters.blocks(lm)) == 3  # and not the five of its eyes


@pytest.mark.parametrize("name", ["gemma2", "cohere", "granite", "opt_350m"])
def test_our_logits_are_those_of_the_whole_model(name, policy):
    lm = policy(name).lm
    ids = torch.randint(5, 300, (2, 12))
    with torch.no_grad():
        ours = LMHead(lm)(lm.base_model(input_ids=ids).last_hidden_state)
        torch.testing.assert_close(ours, lm(input_ids=ids).logits, atol=1e-4, rtol=1e-4)
