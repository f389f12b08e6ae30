"""Whole runs through the run-folder contract, on the toy model."""

import errno
import json
import math
import shutil
import signal
import time
from functools import cache

import pytest
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from rlhf.learning.__main__ import run
from rlhf.learning.contract import manifest
from rlhf.learning.contract.hyperparameters import Optimisation
from rlhf.learning.models import folders
from rlhf.learning.run import checkpoint, provenance
from rlhf.learning.run.optimiser import Optimiser
from rlhf.learning.run.run_folder import (
    DONE,
    FAILED,
    PAUSED,
    STOPPED,
    TIME_FIELDS,
    RunFolder,
)
from tests.learning.conftest import asking, command, learn, new_run, read_rows, write_rows

KINDS = ("pretrain", "sft", "reward", "ppo", "rloo", "grpo", "raft", "dpo", "kto")


def numbers(folder):
    """Metric rows without what a clock or the operating system says."""
    return [
        {name: value for name, value in row.items() if not name.startswith(TIME_FIELDS)}
        for row in read_rows(folder / "metrics.jsonl")
    ]


def assert_same(one, other):
    assert numbers(one) == numbers(other)
    if (one / "samples.jsonl").exists():
        assert read_rows(one / "samples.jsonl") == read_rows(other / "samples.jsonl")
    assert_published_the_same(one, other)


def assert_published_the_same(one, other):
    """Weights, tokenizer, model card: every file of the folder, by its hash."""
    assert (one / "model/manifest.json").read_text() == (other / "model/manifest.json").read_text()


class AfterCalls:
    def __init__(self, calls):
        self.left = calls

    def __call__(self):
        self.left -= 1
        return self.left < 0


LORA = {"mode": "lora", "rank": 4}


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    """whole("ppo") is the run that nothing disturbed: learnt once, and many are compared with it.
    What a test changes, it copies first."""

    @cache
    def learnt(kind, mode="full"):
        tune = {"tune": LORA} if mode == "lora" else {}
        folder = new_run(tmp_path_factory.mktemp("whole"), kind, **tune)
        assert learn(folder, data_dir) == DONE
        return folder

    return learnt


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_leaves_metrics_a_checkpoint_and_a_model_that_loads(kind, whole, data_dir):
    folder = whole(kind)
    rows = read_rows(folder / "metrics.jsonl")
    steps = [row["step"] for row in rows if row["split"] == "train"]
    assert steps == list(range(1, rows[0]["progress/total_steps"] + 1))
    assert {"time", "loss", "lr", "speed/tokens_per_s", "memory/peak_rss_mb"} <= rows[1].keys()
    assert all(math.isfinite(v) for row in rows for v in row.values() if not isinstance(v, str))
    manifest.verify(folder / "model")
    known = json.loads((folder / "provenance.json").read_text())
    assert known["models_sha256"]["policy"] == manifest.sha256(data_dir / "base/manifest.json")
    assert len(known["data_sha256"]["train"]) == 64 and known["config"]["seed"] == 3
    assert len(checkpoint.checkpoints(folder / "checkpoints")) <= checkpoint.KEEP
    assert not list(folder.rglob("tmp-*")) and not list(folder.rglob("*.pt"))
    outcome = json.loads((folder / "outcome.json").read_text())
    assert outcome["state"] == "succeeded" and outcome["model"] == "model"
    if kind == "reward":
        folders.load_score(folder / "model")
        final = rows[-1]
        assert final["split"] == "final"
        assert 0 <= final["reward/accuracy"] <= 1
        # One held-out prompt has no interval.
        assert "reward/accuracy_low" not in final
        assert "reward/longer_wins" in final
        return
    assert folders.load_policy(folder / "model")
    generation = json.loads((folder / "model/generation_config.json").read_text())
    assert generation["do_sample"] is True and generation["eos_token_id"] == [1]
    if kind == "pretrain":
        return
    assert {"step", "prompt_id", "text", "score", "kl"} == read_rows(
        folder / "samples.jsonl")[0].keys()  # fmt: skip


@pytest.mark.parametrize("mode", ["full", "lora"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(kind, mode, whole, make_run, data_dir):
    broken = make_run(kind, **({"tune": LORA} if mode == "lora" else {}))
    assert learn(broken, data_dir, stop=AfterCalls(3)) == STOPPED
    assert json.loads((broken / "outcome.json").read_text())["state"] == "stopped"
    assert not (broken / "model").exists()
    torch.rand(7)  # whatever else happened in between
    assert learn(broken, data_dir) == DONE
    assert_same(whole(kind, mode), broken)


def test_a_run_goes_on_in_another_folder_from_the_checkpoint_it_is_given(whole, make_run, data_dir):
    broken, next_try = (make_run("ppo", name) for name in ("broken", "next"))
    learn(broken, data_dir, stop=AfterCalls(3))
    (last,) = checkpoint.checkpoints(broken / "checkpoints")[-1:]
    assert learn(next_try, data_dir, resume=last) == DONE
    first = numbers(next_try)[0]["step"]
    assert numbers(next_try) == [row for row in numbers(whole("ppo")) if row["step"] >= first]
    assert_published_the_same(whole("ppo"), next_try)


def test_a_run_taken_back_to_an_earlier_checkpoint_forgets_the_later_ones(
    whole, tmp_path, data_dir
):
    back = shutil.copytree(whole("sft"), tmp_path / "back")
    first, *later = checkpoint.checkpoints(back / "checkpoints")
    assert learn(back, data_dir, stop=AfterCalls(1), resume=first) == STOPPED
    assert not [place for place in later[1:] if place.exists()]
    assert learn(back, data_dir) == DONE
    assert_same(whole("sft"), back)


def test_a_run_stopped_before_its_first_update_looks_at_the_start_once(whole, make_run, data_dir):
    stopped = make_run("ppo")
    assert learn(stopped, data_dir, stop=AfterCalls(0)) == STOPPED
    assert learn(stopped, data_dir) == DONE
    assert_same(whole("ppo"), stopped)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_after_its_last_step_is_published_from_another_folder(
    kind, whole, make_run, data_dir
):
    next_try = make_run(kind)
    (last,) = checkpoint.checkpoints(whole(kind) / "checkpoints")[-1:]
    assert learn(next_try, data_dir, resume=last) == DONE
    assert_published_the_same(whole(kind), next_try)


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_forgets_the_rows_it_will_write_again(kind, whole, tmp_path, data_dir):
    killed = shutil.copytree(whole(kind), tmp_path / "killed")
    # As after SIGKILL between two checkpoints, in the middle of a line.
    shutil.rmtree(killed / "model")
    shutil.rmtree(checkpoint.checkpoints(killed / "checkpoints")[-1])
    with (killed / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "spl')
    assert learn(killed, data_dir) == DONE
    assert_same(whole(kind), killed)


def test_sigterm_is_heard_from_outside_and_answered_with_3(make_run, data_dir):
    folder = make_run("ppo", train={"updates": 5000})
    process = command(folder, data_dir)
    deadline = time.monotonic() + 240
    while not (folder / "metrics.jsonl").exists() or len(read_rows_safely(folder)) < 4:
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == STOPPED
    last = read_rows(folder / "metrics.jsonl")[-1]["step"]
    assert last < 5000
    assert checkpoint.latest_good(folder / "checkpoints")[0].step == last
    process.communicate()


def read_rows_safely(folder):
    return (folder / "metrics.jsonl").read_text().splitlines()


def test_a_corrupt_checkpoint_is_passed_over_for_the_one_before(whole, make_run, data_dir):
    broken = make_run("sft")
    learn(broken, data_dir, stop=AfterCalls(4))
    newest = checkpoint.checkpoints(broken / "checkpoints")[-1]
    weights = bytearray((newest / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (newest / "model.safetensors").write_bytes(bytes(weights))

    assert learn(broken, data_dir) == DONE
    assert f"corrupt checkpoint passed over: {newest.name}" in (broken / "log.txt").read_text()
    assert_same(whole("sft"), broken)


def test_when_every_checkpoint_is_corrupt_the_run_says_so(make_run, data_dir):
    folder = make_run("sft")
    learn(folder, data_dir, stop=AfterCalls(3))
    for place in checkpoint.checkpoints(folder / "checkpoints"):
        (place / "state.json").write_text("{}")
    assert learn(folder, data_dir) == FAILED
    assert "does not match its manifest" in (folder / "log.txt").read_text()


@pytest.mark.parametrize("where", ["space check", "weights", "manifest"])
def test_a_full_disk_pauses_and_leaves_the_previous_checkpoint(
    where, make_run, data_dir, monkeypatch
):
    folder = make_run("sft")
    saved = checkpoint.save

    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    def save(place, step, *rest):
        if step > 2 and where == "space check":
            usage = shutil.disk_usage(place)._replace(free=1000)
            monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: usage)
        elif step > 2:
            name = "write_tensors" if where == "weights" else "write_manifest"
            monkeypatch.setattr(checkpoint, name, full)
        return saved(place, step, *rest)

    monkeypatch.setattr(checkpoint, "save", save)
    assert learn(folder, data_dir) == PAUSED
    outcome = json.loads((folder / "outcome.json").read_text())
    assert (outcome["state"], outcome["reason"]) == ("paused", "disk_full")
    assert checkpoint.latest_good(folder / "checkpoints")[0].step == 2
    assert not list((folder / "checkpoints").glob("tmp-*"))

    monkeypatch.undo()
    assert learn(folder, data_dir) == DONE


def test_a_disk_that_is_full_when_the_model_is_published_pauses_too(
    make_run, data_dir, monkeypatch
):
    def full(*arguments, **named):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    folder = make_run("sft")
    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    assert learn(folder, data_dir) == PAUSED
    assert json.loads((folder / "outcome.json").read_text())["reason"] == "disk_full"
    assert not (folder / "model").exists() and not list(folder.glob("tmp-*"))
    monkeypatch.undo()
    assert learn(folder, data_dir) == DONE


@pytest.mark.parametrize(
    ("train", "reason"),
    [
        ({"kl_limit": 1e-9, "learning_rate": 1e-2}, "kl_limit"),
        ({"min_entropy": 2.0}, "entropy_collapse"),
        ({"max_length": 0.5}, "length_blowup"),
        ({"max_identical": 1e-6}, "identical_outputs"),
        ({"min_length": 2.0}, "length_halved"),
        ({"min_distinct": 2.0}, "distinct_collapsed"),
    ],
)
def test_a_guard_pauses_by_name(train, reason, make_run, data_dir):
    folder = make_run("ppo", train=train)
    assert learn(folder, data_dir) == PAUSED
    outcome = json.loads((folder / "outcome.json").read_text())
    assert (outcome["state"], outcome["reason"]) == ("paused", reason) and outcome["detail"]
    last = read_rows(folder / "metrics.jsonl")[-1]["step"]
    assert checkpoint.latest_good(folder / "checkpoints")[0].step == last


def test_a_failure_leaves_its_traceback(make_run, data_dir):
    folder = make_run("sft", models={"policy": "nowhere"})
    assert learn(folder, data_dir) == FAILED
    log = (folder / "log.txt").read_text()
    assert "nowhere is not a model folder" in log and "Traceback" in log
    assert json.loads((folder / "outcome.json").read_text())["state"] == "failed"


def test_out_of_memory_is_told_by_name(make_run, data_dir, monkeypatch):
    def too_much(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB")

    monkeypatch.setattr("rlhf.learning.run.optimiser.Optimiser.step", too_much)
    folder = make_run("sft")
    assert learn(folder, data_dir) == FAILED
    assert json.loads((folder / "outcome.json").read_text())["reason"] == "out_of_memory"


def test_what_adam_remembers_goes_back_to_the_device_of_its_weights():
    """Fused Adam wants its count of steps there too; `meta` stands for a GPU."""
    accelerator, rates = Accelerator(cpu=True), [("", 1e-3)]
    trained = Optimiser(accelerator, torch.nn.Linear(3, 2), rates, Optimisation())
    trained.step([[]], idle=lambda: tuple(weight.sum() for weight in trained.weights.values()))
    with torch.device("meta"):
        resumed = Optimiser(accelerator, torch.nn.Linear(3, 2), rates, Optimisation())
    resumed.restore(trained.tensors())
    remembered = [value for state in resumed.adam.state.values() for value in state.values()]
    assert len(remembered) == 2 * 3
    assert {value.device.type for value in remembered} == {"meta"}


@pytest.mark.filterwarnings("error:fan_in_fan_out")
@pytest.mark.parametrize("kind", ["sft", "reward", "ppo"])
def test_an_adapter_learns_on_layers_that_hold_their_weights_the_other_way_round(
    kind, make_run, data_dir, tmp_path
):
    tokenizer = AutoTokenizer.from_pretrained(data_dir / "base")
    torch.manual_seed(0)
    settings = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 512}
    GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), eos_token_id=1, **settings)
    ).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    train = {"critic": "policy", "updates": 2} if kind == "ppo" else {"epochs": 1}
    folder = make_run(
        kind,
        models={"policy": str(tmp_path / "gpt2")},
        tune={"mode": "lora", "rank": 4},
        train={"evaluate_every": 0, **train},
    )
    assert learn(folder, data_dir) == DONE
    before, after = (
        load_file(place / "model.safetensors") for place in (tmp_path / "gpt2", folder / "model")
    )
    weight = "transformer.h.1.attn.c_attn.weight"
    assert (before[weight] - after[weight]).abs().max() > 1e-6
    ratios = [row.get("policy/first_ratio_deviation", 0) for row in numbers(folder)]
    assert max(ratios) < 1e-4  # merged, it answers as it learns


def test_data_other_than_the_config_says_is_refused(make_run, data_dir):
    folder = make_run("sft", data={"sha256": "0" * 64})
    assert learn(folder, data_dir) == FAILED
    assert "not what the config's sha256 says" in (folder / "log.txt").read_text()


@pytest.mark.parametrize("kind", ["pretrain", "sft", "reward", "dpo", "kto"])
def test_accumulated_micro_batches_are_one_large_batch(kind, make_run, data_dir):
    large = make_run(kind, "large", train={"micro_batch_size": 8, "forward_rows": 64}
                     if kind in ("reward", "dpo") else {"micro_batch_size": 8})  # fmt: skip
    small = make_run(kind, "small", train={"micro_batch_size": 1})
    learn(large, data_dir)
    learn(small, data_dir)
    for one, other in zip(numbers(large), numbers(small), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
    weights = [load_file(f / "model/model.safetensors") for f in (large, small)]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], atol=5e-4, rtol=0)


def test_a_prompt_over_the_context_fails_by_its_id(make_run, data_dir, tmp_path):
    long = [{"role": "user", "content": "so " * 600}]
    write_rows(tmp_path / "long.jsonl", [{"id": "p99", "prompt": long}])
    folder = make_run("ppo", data={"train": str(tmp_path / "long.jsonl")})
    assert learn(folder, data_dir) == FAILED
    assert "prompt p99 has" in (folder / "log.txt").read_text()


@pytest.mark.parametrize(("answer", "shown"), [(0, True), (1, False)])
def test_a_prompt_without_room_for_a_sample_is_learnt_from_and_not_shown(
    answer, shown, make_run, data_dir, tmp_path
):
    render = folders.renderer(data_dir / "base")
    room = render.context - len(render.messages(asking("fig")))
    row = {"prompt": asking("fig"), "completion": [{"role": "assistant", "content": "sweet"}]}
    write_rows(tmp_path / "one.jsonl", [row])
    folder = make_run(
        "sft",
        data={"train": str(tmp_path / "one.jsonl"), "test": ""},
        train={"max_new_tokens": room + answer, "epochs": 1},
    )
    assert learn(folder, data_dir) == DONE
    assert (folder / "samples.jsonl").exists() == shown


def test_held_out_labelers_are_measured_apart_and_change_nothing(whole, make_run, data_dir):
    without = whole("reward")
    beside = make_run("reward", data={"held_out_labelers": "rankings.jsonl"})
    assert learn(beside, data_dir) == DONE
    apart = [row for row in read_rows(beside / "metrics.jsonl") if row["split"] == "labelers"]
    assert apart and all(0 <= row["reward/accuracy"] <= 1 for row in apart)
    outcome = json.loads((beside / "outcome.json").read_text())
    assert outcome["held_out_labelers_accuracy"] == apart[-1]["reward/accuracy"]
    assert manifest.sha256(without / "model/model.safetensors") == manifest.sha256(
        beside / "model/model.safetensors"
    )


CHANGES = {
    "train.epochs was 2 and is 4": {"train": {"epochs": 4}},
    "train.batch_size was 3 and is 2": {"train": {"batch_size": 2}},
    "train.learning_rate was 0.001 and is 0.01": {"train": {"learning_rate": 0.01}},
    "tune.mode was full and is lora": {"tune": {"mode": "lora"}},
    "seed was 3 and is 5": {"seed": 5},
    "data.train was ": {"data": {"train": "other.jsonl"}},
}


@pytest.mark.parametrize("said", CHANGES)
def test_a_run_goes_on_from_no_checkpoint_of_another_run(said, make_run, data_dir):
    rows = (data_dir / "demonstrations.jsonl").read_text().splitlines()
    (data_dir / "other.jsonl").write_text("\n".join(rows[:-1]) + "\n")
    before, now = make_run("sft", "before"), make_run("sft", "now", **CHANGES[said])
    learn(before, data_dir, stop=AfterCalls(3))
    (last,) = checkpoint.checkpoints(before / "checkpoints")[-1:]
    assert learn(now, data_dir, resume=last) == FAILED
    error = json.loads((now / "outcome.json").read_text())["error"]
    assert error.startswith("ConfigError: step-0000000") and said in error
    assert not (now / "model").exists()
    if "tune" not in said:
        folder = RunFolder(now, data_dir, allows_changes=True)
        assert run(folder, lambda: False, last) == DONE
        assert f"goes on with changes from step 3: {said}" in (now / "log.txt").read_text()


@pytest.mark.parametrize("changed", ["chat_template.jinja", "tokenizer.json", "model.safetensors"])
def test_a_model_is_another_when_any_file_that_is_read_of_it_is(changed, tmp_path):
    for name in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"):
        (tmp_path / name).write_text(name)
    before = provenance.folder_hash(tmp_path)
    (tmp_path / "README.md").write_text("What people read is nothing that is learnt.")
    assert provenance.folder_hash(tmp_path) == before
    (tmp_path / changed).write_text("another")
    assert provenance.folder_hash(tmp_path) != before


def test_a_checkpoint_of_another_kind_is_refused(make_run, data_dir):
    before, now = make_run("sft", "before"), make_run("pretrain", "now")
    learn(before, data_dir, stop=AfterCalls(3))
    (last,) = checkpoint.checkpoints(before / "checkpoints")[-1:]
    assert learn(now, data_dir, resume=last) == FAILED
    assert "is a checkpoint of sft, and this run is pretrain" in (now / "outcome.json").read_text()


def test_a_run_may_be_resumed_with_less_in_memory_and_with_other_limits(make_run, data_dir):
    train = {"micro_batch_size": 1, "checkpoint_every": 1, "evaluate_every": 0, "max_skipped": 1}
    before, now = make_run("sft", "before"), make_run("sft", "now", train=train)
    learn(before, data_dir, stop=AfterCalls(3))
    (last,) = checkpoint.checkpoints(before / "checkpoints")[-1:]
    assert learn(now, data_dir, resume=last) == DONE
