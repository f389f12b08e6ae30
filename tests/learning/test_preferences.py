"""DPO and KTO: the papers' losses, and TRL's numbers on the same model and rows."""

import json
import math

import pytest
import torch
from accelerate import Accelerator

from rlhf.learning.algorithms import kto
from rlhf.learning.algorithms.dpo import DPOLearner
from rlhf.learning.algorithms.kto import KTOLearner, balanced, mismatched
from rlhf.learning.algorithms.reward import RewardLearner
from rlhf.learning.contract.kinds.kto import KTO
from rlhf.learning.contract.records import Prompt, Ranking, aggregate
from rlhf.learning.models import folders, losses
from rlhf.learning.models.render import Encoded
from rlhf.learning.publishing import writing
from rlhf.learning.run.run_folder import RunFolder
from tests.learning.conftest import FRUIT, asking, learn, read_rows, write_rows

ANSWERS = ("sweet", "round and red", "no no", "the best of all")


@pytest.fixture
def reference(policy, data_dir, tmp_path):
    """A policy other than the base, so that log-ratios are not 0."""
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(0.03 * torch.randn_like(weight))
    render = folders.renderer(data_dir / "base")
    (tmp_path / "reference").mkdir()
    writing.publish_policy(policy, None, render, tmp_path / "reference", "")
    return tmp_path / "reference"


@pytest.fixture
def make_learner(make_run, data_dir):
    def make(cls, kind, **more):
        return cls(RunFolder(make_run(kind, **more), data_dir), Accelerator(cpu=True))

    return make


def from_trl(name, reference, data_dir, tmp_path, rows):
    """(loss, figures) of TRL's trainer on all rows as one batch, without a step."""
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = getattr(trl, f"{name}Config")(
        output_dir=str(tmp_path / "trl"), report_to="none", use_cpu=True, bf16=False, beta=0.3,
        gradient_checkpointing=False, per_device_train_batch_size=len(rows), disable_tqdm=True,
    )  # fmt: skip
    trainer = getattr(trl, f"{name}Trainer")(
        model=AutoModelForCausalLM.from_pretrained(data_dir / "base"),
        ref_model=AutoModelForCausalLM.from_pretrained(reference),
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(data_dir / "base"),
    )
    trainer.model.eval()
    batch = trainer.data_collator(list(trainer.train_dataset))
    loss = trainer._compute_loss(trainer.model, batch, False)
    return loss, {key: values[-1] for key, values in trainer._metrics["eval"].items()}


def said(text):
    return [{"role": "assistant", "content": text}]


def test_dpo_agrees_with_trl_on_pairs(make_learner, reference, data_dir, tmp_path):
    rows = [
        {"prompt": asking(fruit), "chosen": said(f"The {fruit} is sweet"), "rejected": said(answer)}
        for fruit, answer in zip(FRUIT, ANSWERS, strict=False)
    ]
    write_rows(tmp_path / "pairs.jsonl", rows)
    learner = make_learner(
        DPOLearner, "dpo", models={"policy": "base", "reference": str(reference)},
        data={"train": str(tmp_path / "pairs.jsonl")},
        train={"beta": 0.3, "holdout": 0.0, "batch_size": 4},
    )  # fmt: skip
    ours = learner.update(0)
    loss, theirs = from_trl("DPO", reference, data_dir, tmp_path, rows)
    assert ours["loss"] == pytest.approx(loss.item(), abs=1e-5)
    for name, trl_name in (("chosen", "chosen"), ("rejected", "rejected"), ("margin", "margins")):
        assert ours[f"reward/{name}"] == pytest.approx(theirs[f"rewards/{trl_name}"], abs=1e-5)
    assert ours["reward/accuracy"] == pytest.approx(theirs["rewards/accuracies"])
    for element in learner.elements:  # what is measured on held-out rows is what is learnt from
        learnt = learner.scores(element.rows).tolist()
        assert learner.raw(element.rows) == pytest.approx(learnt, abs=1e-5) and any(learnt)


def test_kto_agrees_with_trl_on_one_batch(make_learner, reference, data_dir, tmp_path, monkeypatch):
    rows = [
        {"prompt": asking(fruit), "completion": said(f"The {fruit} is sweet"), "label": i % 2 == 0}
        for i, fruit in enumerate(FRUIT[:4])
    ]
    write_rows(tmp_path / "thumbs.jsonl", rows)
    thumbs = str(tmp_path / "thumbs.jsonl")
    learner = make_learner(
        KTOLearner, "kto", models={"policy": "base", "reference": str(reference)},
        data={"train": thumbs, "test": thumbs}, train={"beta": 0.3, "batch_size": 4},
    )  # fmt: skip
    # TRL's wrong answers are those of the row before, in the order of the rows.
    monkeypatch.setattr(learner.epochs, "rows", lambda step: range(len(learner.rows)))
    monkeypatch.setattr(
        kto,
        "mismatched",
        lambda rows, context, seed: [
            Encoded(row.prompt, rows[i - 1].completion, rows[i - 1].finished)
            for i, row in enumerate(rows)
        ],
    )
    ours = learner.update(0)
    loss, theirs = from_trl("KTO", reference, data_dir, tmp_path, rows)
    assert ours["objective/kl"] == pytest.approx(theirs["kl"], abs=1e-5) and theirs["kl"] > 0.01
    assert ours["loss"] == pytest.approx(loss.item(), abs=1e-5)
    for name, trl_name in (("chosen", "chosen"), ("rejected", "rejected"), ("margin", "margins")):
        assert ours[f"reward/{name}"] == pytest.approx(theirs[f"rewards/{trl_name}"], abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "cls"), [("reward", RewardLearner), ("dpo", DPOLearner), ("kto", KTOLearner)]
)
def test_an_end_is_taught_only_where_an_answer_came_to_one(kind, cls, make_learner, tmp_path):
    prompt, reasons = asking("fig"), ("stop", "length")
    rows = [{"prompt": prompt, "completions": ["sweet", "sweet and"], "ranks": [1, 2],
             "finish_reasons": reasons}]  # fmt: skip
    if kind == "kto":
        rows = [
            {"prompt": prompt, "completion": said(text), "label": True, "finish_reasons": [reason]}
            for text, reason in zip(("sweet", "sweet and"), reasons, strict=True)
        ]
    write_rows(tmp_path / "rows.jsonl", rows)
    learner = make_learner(cls, kind, data={"train": str(tmp_path / "rows.jsonl")})
    whole, cut = [row for row, *_ in learner.rows] if kind == "kto" else learner.elements[0].rows
    eos = learner.render.eos
    assert (whole.finished, whole.completion[-1]) == (True, eos)
    assert not cut.finished and eos not in cut.completion
    assert learner.render.text(cut.completion) == "sweet and"


@pytest.mark.parametrize(
    ("kind", "cls"), [("reward", RewardLearner), ("dpo", DPOLearner), ("kto", KTOLearner)]
)
def test_completions_that_are_cut_are_counted(kind, cls, make_learner, tmp_path):
    """Not those that had no end when they came: `a` is short, and the others are too long."""
    texts, reasons = ["a", "a", "b " * 9, "c " * 9], ["stop", "length", "stop", "length"]
    rows = [{"prompt": asking("fig"), "completions": texts, "ranks": [1, 2, 3, 4],
             "finish_reasons": reasons}]  # fmt: skip
    if kind == "kto":
        rows = [
            {"prompt": asking("fig"), "completion": said(text), "label": True,
             "finish_reasons": [reason]} for text, reason in zip(texts, reasons, strict=True)
        ]  # fmt: skip
    write_rows(tmp_path / "rows.jsonl", rows)
    data = {"train": str(tmp_path / "rows.jsonl"), "test": ""}
    learner = make_learner(cls, kind, data=data, train={"max_completion_tokens": 5})
    assert learner.update(0)["data/truncated"] == 0.5


@pytest.mark.parametrize("mode", ["full", "lora"])
@pytest.mark.parametrize(("kind", "cls"), [("dpo", DPOLearner), ("kto", KTOLearner)])
def test_the_policy_begins_at_its_reference(kind, cls, mode, make_learner):
    learner = make_learner(cls, kind, tune={"mode": mode, "rank": 4})
    first = learner.update(0)
    if kind == "dpo":
        expected = math.log(2)
    else:
        batch = [learner.rows[i] for i in learner.epochs.rows(0)]
        weights = [learner.weights[0 if up else 1] for _, up, _ in batch]
        expected = 0.5 * sum(weights) / len(weights)
    assert first["loss"] == pytest.approx(expected, abs=1e-5)
    still = first["reward/margin" if kind == "dpo" else "objective/kl"]
    assert still == pytest.approx(0, abs=1e-4)
    assert abs(learner.update(1)["loss"] - expected) > 1e-5


def test_the_value_of_a_thumb_is_the_papers():
    ratios, up = torch.tensor([1.0, 2.0, -1.0]), torch.tensor([True, False, False])
    found = losses.kto_losses(ratios, up, kl=0.5, beta=2.0, up_weight=3.0, down_weight=1.0)

    def missing(gain):
        return 1 - 1 / (1 + math.exp(-2.0 * gain))

    assert found.tolist() == pytest.approx([3 * missing(0.5), missing(-1.5), missing(1.5)])


def test_the_rarer_thumb_weighs_as_much_as_the_other():
    assert balanced(KTO(), ups=2, count=10) == (4.0, 1.0)
    assert balanced(KTO(), ups=8, count=10) == (1.0, 4.0)
    assert balanced(KTO(), ups=10, count=10) == (1.0, 1.0)
    assert balanced(KTO(balance=False, up_weight=2.0), ups=2, count=10) == (2.0, 1.0)


def test_the_reference_point_pairs_every_prompt_with_another_answer():
    rows = [Encoded([1, 2], [3, 4, 5], True), Encoded([6, 7, 8], [9], True)]
    wrong = mismatched(rows, 5, seed=0)
    paired = sorted((row.prompt, row.completion) for row in wrong)
    assert paired == [([1, 2], [9]), ([6, 7, 8], [3, 4])]


def test_no_prompt_is_paired_with_an_answer_to_itself_though_it_has_several():
    rows = [Encoded([i // 3], [10 + i], True) for i in range(6)] + [Encoded([9], [99], True)]
    for seed in range(20):
        wrong = mismatched(rows, 9, seed)
        assert len(wrong) == 7
        own = {(row.prompt[0], row.completion[0]) for row in rows}
        assert not own & {(row.prompt[0], row.completion[0]) for row in wrong}
    assert mismatched(rows[:3], 9, 0) == []
    mostly = mismatched([*rows[:3], rows[-1]], 9, 0)
    assert sorted((row.prompt[0], row.completion[0]) for row in mostly)[-1][0] == 9
    assert len(mostly) == 2


def test_a_batch_in_order_of_length_is_mismatched_at_random():
    rows = [Encoded([i], [0] * (i + 1), True) for i in range(40)]
    pairs = [row for seed in range(20) for row in mismatched(rows, 99, seed)]
    longer = sum(len(row.completion) > row.prompt[0] + 1 for row in pairs) / len(pairs)
    assert 0.4 < longer < 0.6
    assert mismatched(rows, 99, 1) == mismatched(rows, 99, 1) != mismatched(rows, 99, 2)


@pytest.mark.parametrize("kind", ["reward", "dpo"])
def test_accuracy_is_of_held_out_rankings_or_of_none(kind, make_run, data_dir):
    for name, holdout in (("all", 0.0), ("some", 0.3)):
        folder = make_run(kind, name, train={"holdout": holdout, "epochs": 1})
        assert learn(folder, data_dir) == 0
        outcome = json.loads((folder / "outcome.json").read_text())
        assert outcome["held_out"] == bool(holdout)
        assert (outcome["accuracy"] is not None) == bool(holdout)
        splits = {row["split"] for row in read_rows(folder / "metrics.jsonl")}
        assert ("final" in splits) == bool(holdout)


@pytest.mark.parametrize("ties", ["half", "skip"])
def test_a_tie_is_no_question_whose_right_answer_could_be_missed(ties, make_learner, tmp_path):
    rows = [
        {"prompt": asking(fruit), "completions": ["a", "b b", "c c c"], "ranks": [1, 2, 2]}
        for fruit in FRUIT
    ]
    write_rows(tmp_path / "ties.jsonl", rows)
    learner = make_learner(
        RewardLearner, "reward", train={"ties": ties, "holdout": 0.5},
        data={"train": str(tmp_path / "ties.jsonl")},
    )  # fmt: skip
    assert len(learner.elements[0].judged.comparisons) == (4 if ties == "half" else 2)
    learner.raw = lambda rows: [1.0 if row.completion[:-1] == first else 0.0 for row in rows]
    first = learner.elements[0].rows[0].completion[:-1]
    assert learner.test_elements
    assert learner.measure(learner.test_elements)[0]["reward/accuracy"] == 1.0


@pytest.mark.parametrize("kind", ["dpo", "reward"])
def test_answers_that_are_alike_after_the_cut_are_left_out_and_said(
    kind, make_run, data_dir, tmp_path
):
    alike = [
        {"prompt": asking(fruit), "chosen": "sweet " * 9 + "yes", "rejected": "sweet " * 9 + "no"}
        for fruit in FRUIT
    ]
    write_rows(tmp_path / "alike.jsonl", alike)
    data = {"train": str(tmp_path / "alike.jsonl")}
    train = {"max_completion_tokens": 4, "holdout": 0.0}
    folder = make_run(kind, train=train, data=data)
    assert learn(folder, data_dir) == 1
    assert "after the cut to 4 tokens" in json.loads((folder / "outcome.json").read_text())["error"]
    mixed = [{**row, "chosen": "a pear"} if i % 2 else row for i, row in enumerate(alike)]
    write_rows(tmp_path / "alike.jsonl", mixed)
    folder = make_run(kind, "mixed", train=train, data=data)
    assert learn(folder, data_dir) == 0
    assert "4 of 8 comparisons are left out" in (folder / "log.txt").read_text()


def test_other_comparisons_take_over_the_weight_of_one_that_is_left_out():
    prompt = Prompt("p", ({"role": "user", "content": "hi"},))
    (judged,) = aggregate([Ranking(prompt, ("a", "b", "c"), (1, 2, 3))])
    left = judged.without({frozenset((0, 1))})
    assert [(each.better, each.worse) for each in left.comparisons] == [(0, 2), (1, 2)]
    assert [each.weight for each in left.comparisons] == pytest.approx([0.5, 0.5])
    assert judged.without({frozenset(pair) for pair in ((0, 1), (0, 2), (1, 2))}) is None
    assert judged.without(set()) is judged


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_what_people_prefer_becomes_more_likely(kind, make_run, data_dir, tmp_path):
    """Sweet answers are liked, sour ones are not; on fruit nobody was asked about."""
    rows = [(f"The {fruit} is sweet", f"The {fruit} is sour") for fruit in (*FRUIT, "nut", "date")]
    prompts = [asking(fruit) for fruit in (*FRUIT, "nut", "date")]
    if kind == "dpo":
        data = [{"prompt": p, "chosen": good, "rejected": bad}
                for p, (good, bad) in zip(prompts, rows, strict=True)]  # fmt: skip
    else:
        data = [{"prompt": p, "completion": said(text), "label": label}
                for p, pair in zip(prompts, rows, strict=True)
                for text, label in zip(pair, (True, False), strict=True)]  # fmt: skip
    held_out = 2 if kind == "dpo" else 4
    write_rows(tmp_path / "train.jsonl", data[:-held_out])
    write_rows(tmp_path / "test.jsonl", data[-held_out:])
    files = {"train": str(tmp_path / "train.jsonl"), "test": str(tmp_path / "test.jsonl")}
    folder = make_run(kind, data=files, train={"epochs": 6, "learning_rate": 3e-3, "beta": 0.1})
    assert learn(folder, data_dir) == 0
    rows = [row for row in read_rows(folder / "metrics.jsonl") if row["split"] == "test"]
    assert rows[-1]["reward/margin"] > 0.1 > abs(rows[0]["reward/margin"])
    assert json.loads((folder / "outcome.json").read_text())["kind"] == kind
