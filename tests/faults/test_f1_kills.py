"""F1: SIGKILL at random instants, inside a checkpoint's writing too, changes no number of a run."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf.learning.run import checkpoint, training
from rlhf.learning.run.checkpoint import checkpoints
from rlhf.learning.run.run_folder import DONE, STOPPED, RunFolder
from tests.faults.conftest import IS_LONG, sized
from tests.learning.conftest import ROOT, data_dir, learn, make_run, read_rows
from tests.learning.test_runs import AfterCalls, assert_same

__all__ = ["data_dir", "make_run"]

LONGER = {
    "sft": {"epochs": 12}, "reward": {"epochs": 12}, "ppo": {"updates": 30},
    "grpo": {"updates": 40},
}  # fmt: skip
TRAIN = {"checkpoint_every": 1, "evaluate_every": 5}
# PPO has most to keep: two networks, two optimisers, a reward model, sampled text.
KINDS = ("sft", "reward", "ppo") if IS_LONG else ("ppo",)


def start(folder: Path, data_dir: Path, processes: int) -> subprocess.Popen[bytes]:
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [sys.executable, *(several if processes > 1 else []), "-m", "rlhf.learning", str(folder),
         "--data-dir", str(data_dir)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def last_step(folder: Path) -> int:
    saved = checkpoints(folder / "checkpoints")
    return int(saved[-1].name.removeprefix("step-")) if saved else 0


def kill_somewhere(folder: Path, data_dir: Path, processes: int, chance: random.Random) -> bool:
    """Start a run and kill it a few steps on; True when a checkpoint was being written."""
    target, in_writing = last_step(folder) + chance.randint(1, 2), chance.random() < 0.6
    pause = chance.uniform(0, 0.05)
    process = start(folder, data_dir, processes)
    deadline = time.monotonic() + 200
    while last_step(folder) < target and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    if in_writing:
        while not list((folder / "checkpoints").glob("tmp-*")) and process.poll() is None:
            pass
    else:
        time.sleep(pause)
    assert process.poll() is None, "the run was over before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return bool(list((folder / "checkpoints").glob("tmp-*")))


@pytest.mark.parametrize(
    ("kind", "processes", "kills"),
    [
        *((kind, 1, sized(short=1, long=9)) for kind in KINDS),
        *[("ppo", 2, 3), ("grpo", 1, 10)] * IS_LONG,
    ],
)
def test_a_run_killed_at_random_instants_ends_as_one_that_was_not(
    kind, processes, kills, make_run, data_dir, chance, report
):
    train = {**TRAIN, **LONGER[kind]}
    whole, killed = (make_run(kind, name, train=train) for name in ("whole", "killed"))
    if processes == 1:
        assert learn(whole, data_dir) == 0
    else:
        assert start(whole, data_dir, processes).wait(300) == 0
    in_writing = sum(kill_somewhere(killed, data_dir, processes, chance) for _ in range(kills))
    assert not (killed / "model").exists()
    assert start(killed, data_dir, processes).wait(200) == 0
    assert_same(whole, killed)
    report(kind=kind, processes=processes, kills=kills, inside_a_checkpoint=in_writing,
           rows=len(read_rows(killed / "metrics.jsonl")))  # fmt: skip


def forget_the_moments(monkeypatch):
    found = checkpoint.latest_good

    def without_moments(*where):
        good, complaints = found(*where)
        good.tensors["optimizer"] = {}
        return good, complaints

    monkeypatch.setattr(training.checkpoint, "latest_good", without_moments)


def keep_the_rows(monkeypatch):
    monkeypatch.setattr(RunFolder, "rewind", lambda self, step, measured: None)


@pytest.mark.skipif(IS_LONG, reason="the short form is enough to see the teeth")
@pytest.mark.parametrize("mistake", [forget_the_moments, keep_the_rows])
def test_a_run_that_takes_up_less_or_more_than_its_checkpoint_is_found_out(
    mistake, make_run, data_dir, monkeypatch
):
    whole, broken = (make_run("sft", name, train=TRAIN) for name in ("whole", "broken"))
    assert learn(whole, data_dir) == DONE
    assert learn(broken, data_dir, stop=AfterCalls(2)) == STOPPED
    # As after SIGKILL in the step that follows.
    (broken / "metrics.jsonl").open("a").write('{"step": 3, "split": "train"}\n')
    mistake(monkeypatch)
    assert learn(broken, data_dir) == DONE
    with pytest.raises(AssertionError):
        assert_same(whole, broken)
