"""The model card says what a reader must know, as a hub reads it, and the same for equal runs."""

import json

import pytest
from huggingface_hub import EvalResult, ModelCard

from rlhf.learning.contract.config import from_dict
from rlhf.learning.contract.kinds import KINDS
from rlhf.learning.models.base import copy_folder
from rlhf.learning.run.card import descent_of, model_card
from rlhf.learning.run.run_folder import DONE
from tests.learning.conftest import learn, read_rows

CONFIG = {
    "kind": "sft",
    "seed": 7,
    "models": {"policy": "models/base"},
    "data": {"train": "train.jsonl", "sha256": {"train": "abc123", "test": "def456"}},
}


def test_every_kind_that_publishes_says_how_it_learnt():
    assert all(kind.card for kind in KINDS.values() if kind.learner)
    assert {name for name, kind in KINDS.items() if not kind.learner} == {"sample"}


def test_each_split_has_a_table():
    measured = {
        "train": {"step": 2, "split": "train", "loss": 2.5, "progress/total_steps": 2.0},
        "test": {"step": 2, "split": "test", "loss": 3.25},
    }
    card = model_card(from_dict(CONFIG), "A policy", measured)
    assert "# A policy" in card and "abc123" in card and "`models/base`" in card
    assert "| loss | 2.5 |" in card and "| loss | 3.25 |" in card
    assert "progress/" not in card
    assert '"learning_rate"' in card and "| Seed | 7 |" in card


def test_a_hub_reads_the_descent_the_data_sets_and_what_was_measured():
    data = CONFIG["data"] | {"datasets": "openai/gsm8k, yahma/alpaca-cleaned"}
    measured = {
        "train": {"step": 2, "split": "train", "loss": 2.5},
        "final": {"step": 2, "split": "final", "reward/accuracy": 0.71234, "loss": 0.5,
                  "reward/accuracy_low": 0.6, "reward/accuracy_high": 0.8, "perplexity": 1e999},
    }  # fmt: skip
    descent = {"base_model": "HuggingFaceTB/SmolLM2-135M-Instruct", "license": "apache-2.0"}
    config = from_dict(CONFIG | {"kind": "reward", "data": data})
    said = ModelCard(model_card(config, "A reward model", measured, descent)).data
    assert said.to_dict() | {"model-index": ...} == {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "base_model_relation": "finetune",
        "license": "apache-2.0",
        "datasets": ["openai/gsm8k", "yahma/alpaca-cleaned"],
        "tags": ["feedback-site", "reward"],
        "model-index": ...,
    }
    assert said.model_name == "A reward model"
    rows = {result.metric_name: result for result in said.eval_results}
    assert rows.keys() == {"loss", "reward/accuracy"}  # of training nothing; infinity is no JSON
    assert rows["reward/accuracy"] == EvalResult(
        task_type="text-classification",
        dataset_type="feedback-site",
        dataset_name="Held-out rows of this run (final)",
        dataset_split="final",
        dataset_revision="def456",
        metric_type="accuracy",
        metric_name="reward/accuracy",
        metric_value=0.7123,
        metric_args={"confidence_level": 0.95, "confidence_interval": [0.6, 0.8]},
    )
    assert rows["loss"].metric_args is None


@pytest.mark.parametrize(
    ("files", "known"),
    [
        ({}, {}),
        (
            {"source.json": json.dumps({"model": "a/b", "license": "mit"})},
            {"base_model": "a/b", "license": "mit"},
        ),
        (
            {"README.md": "---\nbase_model: a/b\nlicense: mit\ntags: [feedback-site]\n---\n# Ours"},
            {"base_model": "a/b", "license": "mit"},
        ),
        (
            {"README.md": "---\nbase_model: a/b\nlicense: mit\n---\n# Somebody's: made of a/b"},
            {"license": "mit"},
        ),
        ({"README.md": "# No metadata"}, {}),
        ({"README.md": "---\n[not: yaml\n---\n"}, {}),
        ({"README.md": "---\nbase_model: /srv/models/base\ntags: [feedback-site]\n---\n"}, {}),
    ],
)
def test_what_a_model_comes_from_is_known_from_its_folder(tmp_path, files, known):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert descent_of(tmp_path) == known


def test_the_descent_goes_from_run_to_run(make_run, data_dir, tmp_path):
    copy_folder(data_dir / "base", tmp_path / "base")
    (tmp_path / "base/source.json").write_text('{"model": "a/b", "license": "mit"}')
    first = make_run("sft", "first", models={"policy": str(tmp_path / "base")},
                     train={"epochs": 1})  # fmt: skip
    assert learn(first, data_dir) == DONE
    second = make_run("sft", "second", models={"policy": str(first / "model")},
                      train={"epochs": 1})  # fmt: skip
    assert learn(second, data_dir) == DONE
    said = ModelCard.load(second / "model/README.md").data
    assert (said.base_model, said.license) == ("a/b", "mit")
    assert said.eval_results[0].dataset_split == "test"


def test_equal_runs_publish_equal_cards(make_run, data_dir):
    folders = [make_run("sft", name) for name in ("one", "other")]
    assert [learn(folder, data_dir) for folder in folders] == [DONE, DONE]
    cards = [(folder / "model/README.md").read_text() for folder in folders]
    assert cards[0] == cards[1]
    last = [row for row in read_rows(folders[0] / "metrics.jsonl") if row["split"] == "test"][-1]
    assert f"| loss | {last['loss']:.4g} |" in cards[0]
