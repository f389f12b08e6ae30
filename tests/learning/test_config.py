"""A config is right, or the message says which field is not."""

import dataclasses
import json

import pytest

from rlhf.learning.contract import config, hyperparameters
from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.kinds import KINDS

MINIMAL = {
    "pretrain": {"models": {"policy": "m"}},
    "sft": {"models": {"policy": "m"}},
    "reward": {"models": {"policy": "m"}},
    "ppo": {"models": {"policy": "m", "reward": "r"}},
    "rloo": {"models": {"policy": "m", "reward": "r"}},
    "grpo": {"models": {"policy": "m", "reward": "r"}},
    "raft": {"models": {"policy": "m", "reward": "r"}},
    "dpo": {"models": {"policy": "m"}},
    "kto": {"models": {"policy": "m"}},
    "sample": {"models": {"policies": {"a": {"path": "m"}}}},
}


def build(kind, **more):
    return config.from_dict({"kind": kind, "data": {"train": "x"}, **MINIMAL[kind], **more})


@pytest.mark.parametrize("size", ["tiny", "small", "large"])
@pytest.mark.parametrize("kind", config.KINDS)
def test_every_recipe_is_a_config_and_survives_json(kind, size):
    made = build(kind, **config.recipe(kind, size))
    assert config.from_dict(made.as_dict()) == made


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"train": {"kl_cof": 1}}, r"unknown field train.kl_cof; known are .*kl_coef"),
        ({"tune": {"ranks": 1}}, r"unknown field tune.ranks; known are mode, layers, rank, alpha"),
        ({"colour": 1}, r"unknown field config.colour; known are kind"),
        ({"train": {"kl_coef": "much"}}, r"PPO.kl_coef must be float, not 'much'"),
        ({"train": {"updates": 1.5}}, r"PPO.updates must be int"),
        ({"train": {"updates": True}}, r"PPO.updates must be int"),
        ({"train": {"updates": 0}}, r"PPO.updates must be at least 1"),
        ({"train": {"kl_coef": float("nan")}}, r"PPO.kl_coef must be at least"),
        (
            {"train": {"critic": "none"}},
            r"PPO.critic must be one of reward, policy, adapter, share",
        ),
        ({"train": {"critic": "adapter"}}, r"PPO.critic adapter needs Tune.mode lora or qlora"),
        (
            {"train": {"top_p": 0.9}},
            r"train.top_p is refused: the policy learns from",
        ),
        ({"train": {"top_k": 50}}, r"train.top_k is refused"),
        ({"train": {"repetition_penalty": 1.2}}, r"train.repetition_penalty is refused"),
        (
            {"models": {"policy": "m", "reward_function": "a:b"}},
            r"PPO.critic is reward, but there is no reward model",
        ),
        (
            {"models": {"policy": "m", "reward": "r", "reward_function": "a:b"}},
            r"cannot both score",
        ),
        ({"train": {"batch_size": 9, "minibatches": 2}}, r"not a multiple"),
        (
            {"train": {"kl_control": "adaptive", "kl_target": 0}},
            r"PPO.kl_target must be above 0 .* to aim at, in nats, e.g. 6",
        ),
        (
            {"train": {"kl_control": "adaptive", "kl_coef": 0}},
            r"PPO.kl_coef is 0, .* begin with more, e.g. 0.02, or choose PPO.kl_control fixed",
        ),
        (
            {"train": {"kl_control": "adaptive", "batch_size": 500, "kl_horizon": 100}},
            r"PPO.kl_horizon 100 is too short for PPO.batch_size 500: .* choose 500 or more",
        ),
        ({"train": {"warmup": 20}}, r"PPO.warmup must be less than 1, not 20"),
        ({"train": {"ptx_weight": 1.0}}, r"data.demonstrations is missing"),
        ({"tune": {"mode": "last_layers"}}, r"Tune.layers"),
        ({"models": {"policy": "m"}}, r"models.reward is missing"),
        ({"models": []}, r"models must be an object"),
        ({"data": {}}, r"data.train is missing"),
        ({"seed": -1}, r"Config.seed must be at least 0"),
    ],
)
def test_a_mistake_is_named(more, message):
    with pytest.raises(ConfigError, match=message):
        build("ppo", **more)


def test_what_only_just_keeps_beta_above_0_is_no_mistake():
    build("ppo", train={"kl_control": "adaptive", "batch_size": 500, "kl_horizon": 101})
    build("ppo", train={"kl_target": 0, "kl_coef": 0, "kl_horizon": 1})  # it is fixed


@pytest.mark.parametrize("kind", ["reward", "dpo"])
def test_not_every_prompt_can_be_held_out(kind):
    with pytest.raises(ConfigError, match="holdout must be less than 1, not 1"):
        build(kind, train={"holdout": 1})


def test_what_reads_documents_is_asked_nothing_about_answers():
    speaking = {each.name for each in dataclasses.fields(hyperparameters.Speaking)}
    assert speaking <= {each.name for each in dataclasses.fields(KINDS["sft"].settings)}
    assert not speaking & {each.name for each in dataclasses.fields(KINDS["pretrain"].settings)}


def test_a_sampled_policy_is_checked_too():
    with pytest.raises(ConfigError, match=r"unknown field models.policies.a.tempreture"):
        build("sample", models={"policies": {"a": {"path": "m", "tempreture": 1}}})


def test_kinds_and_files_are_named(tmp_path):
    with pytest.raises(
        ConfigError,
        match="kind must be one of dpo, grpo, kto, ppo, pretrain, raft, reward, rloo, sample, sft",
    ):
        config.from_dict({"kind": "reinforce"})
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        config.load(tmp_path / "config.json")


@pytest.mark.parametrize(
    "cls",
    [
        *(kind.settings for kind in KINDS.values()),
        *(hyperparameters.Tune, hyperparameters.Models, hyperparameters.Data),
    ],
)
def test_every_field_can_explain_itself_in_one_line(cls):
    for each in dataclasses.fields(cls):
        assert 10 < len(each.metadata["help"]) < 140, each.name


EARLIER = {"beta": 0.3, "lam": 0.9, "clip": 0.1, "rest_frozen": False}
TODAY = {"kl_coef": 0.3, "gae_lambda": 0.9, "clip_range": 0.1, "offload_frozen": False}


def test_a_config_written_with_earlier_names_of_fields_loads_equal(tmp_path):
    assert set(config.RENAMED["ppo"]) == set(EARLIER)
    minimal = {"kind": "ppo", "data": {"train": "x"}, **MINIMAL["ppo"]}
    (tmp_path / "config.json").write_text(json.dumps({**minimal, "train": EARLIER}))
    assert config.load(tmp_path / "config.json") == build("ppo", train=TODAY)
    assert build("ppo", train=TODAY) != build("ppo")


@pytest.mark.parametrize("old", EARLIER)
def test_a_field_by_both_its_names_is_refused(old):
    today = config.RENAMED["ppo"][old]
    with pytest.raises(ConfigError, match=f"train.{old} is train.{today} today: set one of them"):
        build("ppo", train={old: EARLIER[old], today: TODAY[today]})


def test_a_field_keeps_its_name_where_it_was_not_renamed():
    assert build("dpo", train={"beta": 0.3}).train.beta == 0.3
    for kind, renamed in config.RENAMED.items():
        known = {each.name for each in dataclasses.fields(KINDS[kind].settings)}
        assert set(renamed.values()) <= known and not known & set(renamed)
