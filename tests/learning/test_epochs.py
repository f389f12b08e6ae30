"""The policies of a run's epochs, kept to choose from: published once, and nothing learns of it."""

import errno
import json
import os
import shutil
from functools import cache

import pytest
import torch
from safetensors.torch import load_file

from rlhf.learning.algorithms.sft import SFTLearner
from rlhf.learning.contract import manifest
from rlhf.learning.contract.hyperparameters import Tune
from rlhf.learning.models import adapters, folders
from rlhf.learning.publishing import writing
from rlhf.learning.run import checkpoint
from rlhf.learning.run.run_folder import DONE, PAUSED, STOPPED, Paused, RunFolder
from tests.learning.conftest import learn, new_run, read_rows
from tests.learning.test_runs import AfterCalls, assert_same, numbers

# Eight rows in batches of three: an epoch ends after steps 3, 6 and 9. Checkpoints at 4, 8 and 9.
KEEPING = {"keep_epochs": True, "epochs": 3, "checkpoint_every": 4}
KEPT = ("epochs/1", "epochs/2")
LORA = {"mode": "lora", "rank": 4}
MODES = [{"mode": "full"}, LORA, {"mode": "last_layers", "layers": 1}, {"mode": "head"}]


def hashes(folder) -> dict[str, str]:
    """Whole, and every file of every published model by its hash."""
    places = [*folder.glob("epochs/*"), folder / "model"]
    for place in places:
        manifest.verify(place)
    return {str(p.relative_to(folder)): manifest.sha256(p / "manifest.json") for p in places}


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture
def keeping(make_run):
    def make(name, train=KEEPING, **more):
        return make_run("sft", name, train={**KEEPING, **train}, **more)

    return make


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    """whole("lora") is the run that nothing disturbed, learnt once. What a test changes, it copies
    first."""

    @cache
    def learnt(mode="full", checkpoint_every=4):
        train = {**KEEPING, "checkpoint_every": checkpoint_every}
        tune = {"tune": LORA} if mode == "lora" else {}
        folder = new_run(tmp_path_factory.mktemp("whole"), "sft", train=train, **tune)
        assert learn(folder, data_dir) == DONE
        return folder

    return learnt


@pytest.mark.parametrize("tune", MODES, ids=lambda tune: tune["mode"])
def test_each_epoch_but_the_last_is_published_and_learning_does_not_notice(tune, keeping, data_dir):
    kept = keeping("kept", tune=tune)
    plain, short = (keeping(name, {"keep_epochs": False}, tune=tune) for name in ("plain", "short"))
    assert learn(kept, data_dir) == learn(plain, data_dir) == DONE
    assert not (plain / "epochs").exists()
    assert sorted(hashes(kept)) == [*KEPT, "model"]
    assert json.loads((kept / "outcome.json").read_text())["epochs"] == {"1": 3, "2": 6}

    ours, theirs = weights(kept / "model"), weights(plain / "model")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    last = [checkpoint.load(run / "checkpoints/step-00000009") for run in (kept, plain)]
    assert last[0].state["random"] == last[1].state["random"]
    for name, group in last[1].tensors.items():
        assert all(torch.equal(last[0].tensors[name][each], group[each]) for each in group)

    # What was published after the second epoch is what the run had learnt by then.
    assert learn(short, data_dir, stop=AfterCalls(6)) == STOPPED
    learnt = checkpoint.latest_good(short / "checkpoints")[0].tensors["model"]
    network = folders.load_policy(data_dir / "base")
    wrapper = adapters.choose_weights(network.lm, Tune(**tune))
    network.load_state_dict(learnt, strict=False)
    (short / "by-hand").mkdir()
    writing.publish_policy(network, wrapper, folders.renderer(data_dir / "base"),
                           short / "by-hand", "")  # fmt: skip
    files = {path.name for path in (kept / "epochs/2").rglob("*") if path.is_file()}
    assert files == {path.name for path in (kept / "model").rglob("*") if path.is_file()}
    for name in files - {"README.md", "manifest.json"}:
        (one,), (other,) = ((kept / "epochs/2").rglob(name), (short / "by-hand").rglob(name))
        assert one.read_bytes() == other.read_bytes(), name


def test_the_end_of_an_epoch_is_looked_at_and_its_card_says_what_was_seen(keeping, data_dir):
    folder = keeping("run", {"evaluate_every": 0})
    assert learn(folder, data_dir) == DONE
    rows = read_rows(folder / "metrics.jsonl")
    assert [row["step"] for row in rows if row["split"] == "test"] == [3, 6, 9]
    card = (folder / "epochs/2/README.md").read_text()
    assert "# Policy fine-tuned on 8 demonstrations, after epoch 2 of 3\n" in card
    assert "## Measured (test, step 6)" in card


@pytest.mark.parametrize(
    ("steps", "mode"),
    [(2, "full"), (3, "full"), (6, "full"), (8, "full"), (3, "lora"), (7, "lora")],
)
def test_a_run_stopped_around_the_end_of_an_epoch_keeps_the_same(
    steps, mode, whole, keeping, data_dir
):
    tune = {"tune": LORA} if mode == "lora" else {}
    broken = keeping("broken", **tune)
    assert learn(broken, data_dir, stop=AfterCalls(steps)) == STOPPED
    shutil.copytree(broken, broken.parent / "t0")
    assert learn(broken, data_dir) == DONE
    assert_same(whole(mode), broken)
    assert hashes(broken) == hashes(whole(mode))

    # The same from another folder, as a worker does that takes the run over.
    (last,) = checkpoint.checkpoints(broken.parent / "t0/checkpoints")[-1:]
    other = keeping("other", **tune)
    assert learn(other, data_dir, resume=last) == DONE
    assert hashes(other) == hashes(whole(mode))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["before", "while", "after"])
@pytest.mark.parametrize("step", [3, 6])
def test_a_run_killed_while_it_publishes_an_epoch_keeps_it_once(
    step, moment, whole, keeping, data_dir, monkeypatch
):
    killed = keeping("killed", {"checkpoint_every": 3})
    name, done = f"epochs/{step // 3}", RunFolder.publish

    def publish(self, write, place="model"):
        if place == name and moment == "before":
            raise Killed
        if place == name and moment == "while":
            (self.path / "tmp-killed").mkdir()  # SIGKILL leaves what an exception would take away
            write(self.path / "tmp-killed")
            raise Killed
        done(self, write, place)
        if place == name:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "publish", publish)
        with pytest.raises(Killed):
            learn(killed, data_dir)
    assert (killed / name).exists() == (moment == "after")
    assert learn(killed, data_dir) == DONE
    undisturbed = whole(checkpoint_every=3)
    assert_same(undisturbed, killed)
    assert hashes(killed) == hashes(undisturbed)
    assert not list(killed.glob("tmp-*"))


@pytest.mark.parametrize("is_one_disk", [True, False])
def test_an_epoch_after_the_checkpoint_is_learnt_anew_and_not_taken_over(
    is_one_disk, whole, keeping, tmp_path, data_dir, monkeypatch
):
    broken, other = shutil.copytree(whole(), tmp_path / "broken"), keeping("other")
    (broken / "epochs/2/README.md").write_text("of a worker that has lost its lease")
    first = broken / "checkpoints/step-00000004"

    def refuse(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    if not is_one_disk:
        monkeypatch.setattr(os, "link", refuse)
    assert learn(other, data_dir, resume=first) == DONE
    assert hashes(other) == hashes(whole())
    one, two = (os.stat(folder / "epochs/1/model.safetensors") for folder in (broken, other))
    assert (one.st_ino == two.st_ino) == is_one_disk
    assert "is lost" not in (other / "log.txt").read_text()


def test_a_damaged_epoch_is_not_taken_over_and_the_run_goes_on_without_it(
    whole, keeping, tmp_path, data_dir
):
    damaged, other = shutil.copytree(whole(), tmp_path / "damaged"), keeping("other")
    (damaged / "epochs/1/config.json").write_text("{}")
    last = checkpoint.checkpoints(damaged / "checkpoints")[-1]
    assert learn(other, data_dir, resume=last) == DONE
    assert "epochs/1 is lost: 1: config.json does not match" in (other / "log.txt").read_text()
    assert sorted(hashes(other)) == ["epochs/2", "model"]
    assert json.loads((other / "outcome.json").read_text())["epochs"] == {"2": 6}


def test_a_guard_that_stops_the_run_at_the_end_of_an_epoch_loses_nothing(
    whole, keeping, data_dir, monkeypatch
):
    paused = keeping("paused")

    def guard(self, numbers):
        if numbers["epoch"] == 1:
            raise Paused("curiosity", "somebody wants to look")

    with monkeypatch.context() as patched:
        patched.setattr(SFTLearner, "guard", guard)
        assert learn(paused, data_dir) == PAUSED
    assert learn(paused, data_dir) == DONE
    assert hashes(paused) == hashes(whole())
    assert numbers(paused) == numbers(whole())
