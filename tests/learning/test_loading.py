"""A folder is read whole and as what it is, or refused by name before anything is learnt."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlhf.learning.contract.hyperparameters import ConfigError, Tune
from rlhf.learning.models import folders
from rlhf.learning.models.adapters import choose_weights
from rlhf.learning.models.scoring import RewardModel
from rlhf.learning.publishing import writing
from rlhf.learning.run.run_folder import DONE, FAILED
from tests.learning import families
from tests.learning.conftest import learn

CALIBRATION = {"mean": 0.0, "std": 1.0, "bias": 0.0}


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return families.make_model("llama", tmp_path_factory.mktemp("loading") / "llama")


@pytest.fixture
def with_weights(llama, tmp_path):
    def make(change):
        folder = shutil.copytree(llama, tmp_path / "changed")
        weights = change(load_file(folder / "model.safetensors"))
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


def without(part):
    return lambda weights: {name: each for name, each in weights.items() if part not in name}


def one_layer_more(weights):
    more = {
        name.replace(".layers.2.", ".layers.3."): each.clone()
        for name, each in weights.items()
        if ".layers.2." in name
    }
    return {**weights, **more}


def a_wider_embedding(weights):
    wide = torch.cat([weights["model.embed_tokens.weight"]] * 2)
    return {**weights, "model.embed_tokens.weight": wide}


def under(prefix):
    return lambda weights: {prefix + name: each for name, each in weights.items()}


@pytest.mark.parametrize("load", [folders.load_policy, folders.load_score])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without(".layers.2."), "missing: model.layers.2.input_layernorm.weight, .* and 3 more"),
        (one_layer_more, "left over: model.layers.3.input_layernorm.weight, .* and 3 more"),
        (a_wider_embedding, r"of another shape: model.embed_tokens.weight \(640, 64\) for \(320"),
        (under("student."), "missing: .*; left over: student.lm_head.weight"),
    ],
)
def test_weights_that_do_not_fit_are_listed(load, change, said, with_weights):
    with pytest.raises(ConfigError, match=said):
        load(with_weights(change))


def test_a_policy_without_its_head_is_refused_and_a_reward_model_needs_none(with_weights):
    folder = with_weights(without("lm_head"))
    with pytest.raises(ConfigError, match="missing: lm_head.weight"):
        folders.load_policy(folder)
    assert folders.load_score(folder)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
@pytest.mark.parametrize("load", [folders.load_policy, folders.load_score])
def test_the_names_of_a_wrapped_module_are_read_without_the_wrapper(
    load, prefix, with_weights, llama
):
    folder = with_weights(under(prefix))
    found, expected = (load(each).state_dict() for each in (folder, llama))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[n], expected[n]) for n in found if "score" not in n)
    with pytest.raises(ConfigError, match="an adapter on it would be of use to nobody else"):
        load(folder, tune=Tune("lora"))


def test_a_run_on_wrapped_weights_publishes_plain_ones(with_weights, make_run, data_dir):
    folder = make_run("sft", models={"policy": str(with_weights(under("_orig_mod.")))})
    assert learn(folder, data_dir) == DONE
    names = load_file(folder / "model" / "model.safetensors")
    assert not [name for name in names if "_orig_mod" in name]


def test_a_damaged_file_is_named(llama, tmp_path):
    folder = shutil.copytree(llama, tmp_path / "cut")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="model.safetensors is damaged or cut off"):
        folders.load_policy(folder)


def test_weights_that_are_no_numbers_are_refused(with_weights):
    def spoil(weights):
        weights["model.norm.weight"][3] = float("nan")
        return weights

    with pytest.raises(ConfigError, match="not finite"):
        folders.load_policy(with_weights(spoil))


@pytest.fixture(scope="module")
def judge(llama, tmp_path_factory):
    out = tmp_path_factory.mktemp("judge") / "judge"
    out.mkdir()
    score, render = folders.load_score(llama), folders.renderer(llama)
    writing.publish_score(score, None, render, out, "", CALIBRATION)
    return out


def test_a_folder_of_one_kind_is_refused_as_another(llama, judge, tmp_path, make_run, data_dir):
    with pytest.raises(ConfigError, match="is a reward model"):
        folders.load_policy(judge)
    with pytest.raises(ConfigError, match="is not a reward model"):
        RewardModel(llama)

    foreign = shutil.copytree(judge, tmp_path / "foreign")
    (foreign / folders.CALIBRATION).unlink()
    with pytest.raises(ConfigError, match="is a reward model"):
        folders.load_policy(foreign)

    network = folders.load_policy(llama)
    wrapper = choose_weights(network.lm, Tune("lora"))
    wrapper.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ConfigError, match="is an adapter and no whole model"):
        folders.load_policy(tmp_path / "adapter")

    train = {"updates": 1, "critic": "reward", "save_critic": True, "evaluate_every": 0}
    folder = make_run("ppo", train=train)
    assert learn(folder, data_dir) == DONE
    with pytest.raises(ConfigError, match="is a critic"):
        RewardModel(folder / "model" / "critic")


def test_an_encoder_is_no_policy(llama, tmp_path):
    import transformers

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    config = transformers.BertConfig(vocab_size=320, num_attention_heads=2, **sizes)
    folder = shutil.copytree(llama, tmp_path / "bert")
    transformers.BertLMHeadModel(config).save_pretrained(folder)
    with pytest.raises(ConfigError, match="BertLMHeadModel looks ahead"):
        folders.load_policy(folder)


def test_a_model_nobody_knows_is_refused(llama, tmp_path):
    folder = shutil.copytree(llama, tmp_path / "new")
    (folder / "config.json").write_text(json.dumps({"model_type": "unheard_of"}))
    with pytest.raises(ConfigError, match="is of no model known here"):
        folders.load_policy(folder)


@pytest.mark.parametrize("kind", ["sft", "reward", "sample"])
def test_tokens_beyond_the_embeddings_are_named(kind, tmp_path, make_run, data_dir):
    tokenizer = families.make_tokenizer()
    families.make_model("llama", tmp_path / "short", tokenizer, vocabulary=len(tokenizer) - 40)
    place = str(tmp_path / "short")
    models = {"policies": {"it": {"path": place}}} if kind == "sample" else {"policy": place}
    folder = make_run(kind, models=models)
    assert learn(folder, data_dir) == FAILED
    error = json.loads((folder / "outcome.json").read_text())["error"]
    assert error.startswith("ConfigError: ") and "tokens beyond the model's 280 embed" in error


@pytest.mark.parametrize("kind", ["sft", "reward", "dpo", "sample"])
def test_padding_outside_the_embeddings_is_replaced(kind, tmp_path, make_run, data_dir):
    tokenizer = families.make_tokenizer(pad=None)
    size = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    families.make_model("llama", tmp_path / "pad", tokenizer, vocabulary=size, pad_token_id=None)
    place = str(tmp_path / "pad")
    models = {"policies": {"it": {"path": place}}} if kind == "sample" else {"policy": place}
    folder = make_run(kind, models=models)
    assert learn(folder, data_dir) == DONE
    if kind != "sample":
        file = "config.json" if kind == "reward" else "generation_config.json"
        said = json.loads((folder / "model" / file).read_text())
        weights = load_file(folder / "model" / "model.safetensors")
        assert said["pad_token_id"] < len(weights["model.embed_tokens.weight"])


def test_only_pre_training_does_without_a_chat_template(tmp_path, make_run, data_dir):
    tokenizer = families.make_tokenizer(template=None)
    families.make_model("gpt2", tmp_path / "raw", tokenizer)
    models = {"policy": str(tmp_path / "raw")}
    folder = make_run("pretrain", "pretrain", models=models, train={"row_tokens": 48})
    assert learn(folder, data_dir) == DONE
    folder = make_run("sft", "sft", models=models)
    assert learn(folder, data_dir) == FAILED
    assert "has no chat template" in (folder / "outcome.json").read_text()
