"""What is published is what was trained: for plain classes, in another process, to 1e-4."""

import json
import os
import select
import signal

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rlhf.learning.contract.hyperparameters import Tune
from rlhf.learning.contract.reading import read_rankings
from rlhf.learning.models import adapters, folders
from rlhf.learning.models.networks import LMHead, collate
from rlhf.learning.models.scoring import RewardModel
from rlhf.learning.publishing import plain, writing
from rlhf.learning.publishing.reload import NotAsTrained
from rlhf.learning.run.run_folder import DONE, FAILED
from tests.learning import families
from tests.learning.conftest import learn

CALIBRATION = {"mean": 0.0, "std": 1.0, "bias": 0.0}
END = families.END


@pytest.fixture
def base(tmp_path):
    return families.make_model("llama", tmp_path / "a_base")


def publish(folder, out, *, kind="policy", tune=None):
    """(network, folder) of a policy or reward model that has moved a little."""
    torch.manual_seed(0)
    network = (folders.load_policy if kind == "policy" else folders.load_score)(folder)
    model = network.lm if kind == "policy" else network.model
    wrapper = adapters.choose_weights(model, tune or Tune("full"))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.02)
    out.mkdir()
    if kind == "policy":
        writing.publish_policy(network, wrapper, folders.renderer(folder), out, "")
    else:
        writing.publish_score(network, wrapper, folders.renderer(folder), out, "", CALIBRATION)
    return network, out


# Padding that ends answers: the default base's, one with a token to spare, and one without.
@pytest.mark.parametrize(
    ("specials", "padding"),
    [(("<|reserved|>",), "<|reserved|>"), ((), writing.PAD)],
)
def test_a_reward_model_whose_padding_is_its_end_token_scores_alike_for_everybody(
    specials, padding, tmp_path, world_of_rankings, make_run, data_dir
):
    tokenizer = families.make_tokenizer(pad=END, specials=specials)
    families.make_model("llama3", tmp_path / "same", tokenizer)
    folder = make_run("reward", models={"policy": str(tmp_path / "same")})
    assert learn(folder, data_dir) == DONE

    ours = RewardModel(folder / "model")
    plain_model = AutoModelForSequenceClassification.from_pretrained(folder / "model").eval()
    published = AutoTokenizer.from_pretrained(folder / "model")
    assert (published.pad_token, published.eos_token) == (padding, END)
    for ranking in world_of_rankings:
        count = len(ranking.completions)
        mine = ours.score([ranking.prompt] * count, ranking.completions, [True] * count)
        rows = [ours.encode(ranking.prompt, text, True) for text in ranking.completions]
        batch = collate(rows, published.pad_token_id)
        with torch.no_grad():
            theirs = plain_model(batch.ids_BL, attention_mask=batch.mask_BL.long()).logits[:, 0]
        torch.testing.assert_close(theirs + ours.calibration.bias, mine, atol=1e-4, rtol=0)


@pytest.fixture
def world_of_rankings(data_dir):
    return read_rankings(data_dir / "rankings.jsonl")


def test_ppo_starts_its_critic_from_a_reward_model_that_knows_a_token_more(
    tmp_path, make_run, data_dir
):
    families.make_model("llama3", tmp_path / "same", families.make_tokenizer(pad=END))
    _, judge = publish(tmp_path / "same", tmp_path / "judge", kind="score")
    models = {"policy": str(tmp_path / "same"), "reward": str(judge)}
    folder = make_run("ppo", models=models, train={"critic": "reward", "updates": 1})
    assert learn(folder, data_dir) == DONE


@pytest.mark.parametrize("mode", ["full", "lora"])
@pytest.mark.parametrize("kind", ["policy", "score"])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_the_precision_of_the_base_is_kept(stored, kind, mode, tmp_path):
    families.make_model("llama3", tmp_path / "base", dtype=stored)
    _, out = publish(tmp_path / "base", tmp_path / "out", kind=kind, tune=Tune(mode))
    auto = AutoModelForCausalLM if kind == "policy" else AutoModelForSequenceClassification
    model, report = auto.from_pretrained(out, dtype="auto", output_loading_info=True)
    assert {weight.dtype for weight in model.parameters()} == {stored}
    assert not any(report.values())
    assert json.loads((out / "config.json").read_text())["dtype"] == str(stored)[6:]


def test_learning_goes_on_in_full_precision_after_an_epoch_is_published(tmp_path):
    families.make_model("llama3", tmp_path / "base", dtype=torch.bfloat16)
    network, _ = publish(tmp_path / "base", tmp_path / "out")
    weight = network.lm.get_input_embeddings().weight
    assert weight.dtype == torch.float32
    assert (weight != weight.bfloat16().float()).any()


@pytest.mark.parametrize("kind", ["policy", "score"])
def test_an_adapter_alone_is_read_by_peft_on_its_base(kind, base, tmp_path):
    from peft import PeftModel

    network, out = publish(base, tmp_path / "out", kind=kind, tune=Tune("lora"))
    auto = AutoModelForCausalLM if kind == "policy" else AutoModelForSequenceClassification
    more = {} if kind == "policy" else {"num_labels": 1}
    under = auto.from_pretrained(base, dtype=torch.float32, **more)
    under.config.pad_token_id = AutoTokenizer.from_pretrained(out).pad_token_id
    whole = auto.from_pretrained(out, dtype=torch.float32)
    ids = torch.tensor([[5, 9, 33, 70, 12], [8, 44, 9, 12, 100]])
    with torch.no_grad():
        one = PeftModel.from_pretrained(under, out / "adapter")(input_ids=ids).logits
        torch.testing.assert_close(one, whole(input_ids=ids).logits, atol=1e-4, rtol=0)


# Breaks of publishing, and what must notice: nobody else would.
def tell_a_wrong_rotation(folder, write=json.dumps):
    said = json.loads((folder / "config.json").read_text())
    said["rope_parameters"]["rope_theta"] = 100.0
    (folder / "config.json").write_text(json.dumps(said))


def pad_with_the_end(folder):
    said = json.loads((folder / "config.json").read_text())
    said["pad_token_id"] = said["eos_token_id"]
    (folder / "config.json").write_text(json.dumps(said))


def leave_a_weight_out(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights.popitem()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def make_it_unreadable(folder):
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("policy", tell_a_wrong_rotation),
        ("policy", leave_a_weight_out),
        ("policy", make_it_unreadable),
        ("score", pad_with_the_end),
        ("score", leave_a_weight_out),
    ],
)
def test_a_folder_that_others_read_differently_is_not_published(
    kind, damage, base, tmp_path, monkeypatch
):
    write = writing.write_manifest
    monkeypatch.setattr(writing, "write_manifest", lambda folder: (damage(folder), write(folder)))
    with pytest.raises(
        NotAsTrained,
        match="the (policy|reward model or critic): (others would not|transformers cannot)",
    ):
        publish(base, tmp_path / "out", kind=kind)


def test_a_run_that_cannot_publish_fails_by_name_and_leaves_no_model(
    make_run, data_dir, monkeypatch
):
    write = writing.write_manifest
    monkeypatch.setattr(
        writing,
        "write_manifest",
        lambda folder: (leave_a_weight_out(folder), write(folder)),
    )
    folder = make_run("sft")
    assert learn(folder, data_dir) == FAILED
    outcome = json.loads((folder / "outcome.json").read_text())
    assert outcome["error"].startswith("NotAsTrained: ")
    assert not (folder / "model").exists()


def test_the_process_that_reads_is_another_and_is_replaced_when_somebody_ends_it(base):
    told = plain.Reading(base, [[5, 6, 7], [8, 9]], 0, columns=[3, 4])
    first = plain.ask(told)
    assert [len(row) for row in first] == [6, 4]
    os.kill(plain._server.pid, signal.SIGKILL)
    assert plain.ask(told) == first


def test_ids_without_text_are_neither_sampled_nor_learnt(tmp_path, make_run, data_dir):
    tokenizer = families.make_tokenizer()
    families.make_model("llama3", tmp_path / "wide", tokenizer, vocabulary=384)
    network = folders.load_policy(tmp_path / "wide")
    logits = LMHead(network.lm)(torch.randn(3, 64))
    known = len(tokenizer)
    assert (logits.softmax(-1)[:, known:] == 0).all()
    hidden = torch.randn(3, 64, requires_grad=True)
    LMHead(network.lm)(hidden).log_softmax(-1)[:, 7].sum().backward()
    gradient = network.lm.get_output_embeddings().weight.grad
    assert (gradient[known:] == 0).all() and (gradient[:known] != 0).any()

    publish(tmp_path / "wide", tmp_path / "out")
    said = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert said["suppress_tokens"] == list(range(known, 384))
    folder = make_run(
        "rloo", models={"policy": str(tmp_path / "wide")}, train={"updates": 1, "minibatches": 1}
    )
    assert learn(folder, data_dir) == DONE


@pytest.mark.parametrize("name", ["gemma2", "cohere", "granite"])
def test_logits_are_capped_and_scaled_as_the_family_does(name, tmp_path):
    """Also those of a young model, whose small logits hide a cap."""
    folder = families.make_model(name, tmp_path / "young", initializer_range=0.01)
    network = folders.load_policy(folder)
    head = LMHead(network.lm)
    assert head.cap or head.factor != 1
    hidden = torch.randn(2, 64) * 500
    linear = head.linear(hidden)
    assert not torch.allclose(head(hidden), linear, rtol=0.05)


def test_whoever_reads_what_the_trainer_says_hears_its_end_while_a_folder_is_waited_for():
    """The waiting process is forked, and would keep each pipe of its parent's open."""
    reader, writer = os.pipe()
    kept, plain._server = plain._server, None
    try:
        plain.start()
        os.close(writer)
        ready, _, _ = select.select([reader], [], [], 10)
        assert ready and os.read(reader, 1) == b""
    finally:
        os.close(reader)
        if plain._server:
            plain._server.line.close()
        plain._server = kept
