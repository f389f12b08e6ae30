"""Token ids of one tokenizer are noise to a network of another, and the numbers look the same."""

import json
import shutil

import pytest
import torch

from rlhf.learning.models import folders
from rlhf.learning.publishing import writing
from rlhf.learning.run.run_folder import DONE, FAILED
from tests.learning.conftest import learn, make_base, write_rows


@pytest.fixture(scope="session")
def foreign(tmp_path_factory):
    """A policy and a reward model with a tokenizer of another corpus."""
    place = tmp_path_factory.mktemp("foreign")
    said = [{"role": "assistant", "content": "quer über den Sylter Deich"}]
    asked = [{"role": "user", "content": "Zwölf Boxkämpfer jagen Viktor"}]
    write_rows(place / "rows.jsonl", [{"prompt": asked, "completion": said}])
    make_base(place / "base", place / "rows.jsonl")
    publish_score(place / "base", place / "reward")
    return place


def publish_score(base, out):
    out.mkdir()
    calibration = {"mean": 0.0, "std": 1.0, "bias": 0.0}
    network, render = folders.load_score(base), folders.renderer(base)
    torch.nn.init.normal_(network.head.weight, std=0.2)
    writing.publish_score(network, None, render, out, "", calibration)


@pytest.mark.parametrize(
    ("kind", "field", "model", "advice"),
    [
        ("ppo", "reward", "reward", "choose policy there"),
        ("ppo", "critic", "reward", "name one that has the policy's tokenizer"),
        ("ppo", "reference", "base", "name one that has the policy's tokenizer"),
        ("dpo", "reference", "base", "name one that has the policy's tokenizer"),
        ("kto", "reference", "base", "name one that has the policy's tokenizer"),
    ],
)
def test_a_model_that_would_read_foreign_ids_is_refused(
    kind, field, model, advice, make_run, data_dir, foreign
):
    folder = make_run(kind, models={field: str(foreign / model)})
    assert learn(folder, data_dir) == FAILED
    error = json.loads((folder / "outcome.json").read_text())["error"]
    assert error.startswith(f"ConfigError: models.{field} {foreign / model} has another tokenizer")
    assert error.endswith(advice)
    assert not (folder / "metrics.jsonl").exists()


def test_a_reward_model_of_another_tokenizer_may_score(make_run, data_dir, foreign):
    train = {"critic": "policy", "updates": 1, "evaluate_every": 0}
    folder = make_run("ppo", models={"reward": str(foreign / "reward")}, train=train)
    assert learn(folder, data_dir) == DONE


@pytest.mark.parametrize("written", ["same bytes", "same tokens"])
def test_a_copy_of_the_tokenizer_is_the_policys(written, make_run, data_dir, tmp_path):
    """A reward model of another run, that carries a tokenizer file of its own."""
    place = tmp_path / "reward"
    shutil.copytree(data_dir / "reward", place)
    if written == "same tokens":
        tokenizer = place / "tokenizer.json"
        tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text())))
        config = place / "tokenizer_config.json"
        settings = {**json.loads(config.read_text()), "model_max_length": 77}
        config.write_text(json.dumps(settings))
        template = place / "chat_template.jinja"
        template.write_text(f"{template.read_text()}{{# another file #}}")
    folder = make_run(
        "ppo",
        models={"reward": str(place), "reference": str(data_dir / "base")},
        train={"updates": 1, "evaluate_every": 0},
    )
    assert learn(folder, data_dir) == DONE
