"""The model card says what a reader must know, and the same for equal runs."""

from rlhf.learning.contract.config import from_dict
from rlhf.learning.contract.kinds import KINDS
from rlhf.learning.run.card import model_card
from rlhf.learning.run.run_folder import DONE
from tests.learning.conftest import learn, read_rows


def test_every_kind_that_publishes_says_how_it_learnt():
    assert all(kind.card for kind in KINDS.values() if kind.learner)
    assert {name for name, kind in KINDS.items() if not kind.learner} == {"sample"}


def test_each_split_has_a_table():
    config = from_dict(
        {
            "kind": "sft",
            "seed": 7,
            "models": {"policy": "models/base"},
            "data": {"train": "train.jsonl", "sha256": "abc123"},
        }
    )
    measured = {
        "train": {"step": 2, "split": "train", "loss": 2.5, "progress/total_steps": 2.0},
        "test": {"step": 2, "split": "test", "loss": 3.25},
    }
    card = model_card(config, "A policy", measured)
    assert "# A policy" in card and "abc123" in card and "`models/base`" in card
    assert "| loss | 2.5 |" in card and "| loss | 3.25 |" in card
    assert "progress" not in card
    assert '"learning_rate"' in card and "| Seed | 7 |" in card


def test_equal_runs_publish_equal_cards(make_run, data_dir):
    folders = [make_run("sft", name) for name in ("one", "other")]
    assert [learn(folder, data_dir) for folder in folders] == [DONE, DONE]
    cards = [(folder / "model/README.md").read_text() for folder in folders]
    assert cards[0] == cards[1]
    last = [row for row in read_rows(folders[0] / "metrics.jsonl") if row["split"] == "test"][-1]
    assert f"| loss | {last['loss']:.4g} |" in cards[0]
