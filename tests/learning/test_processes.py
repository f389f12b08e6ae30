"""Two processes with half a batch each are one process with all of it."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.learning.conftest import ROOT, learn, read_rows


@pytest.mark.parametrize("kind", ["pretrain", "sft", "reward", "ppo", "dpo", "kto"])
def test_two_processes_learn_what_one_does(kind, make_run, data_dir):
    # A batch of three gives one process two rows and the other one, or none at the end of an epoch.
    train = {"minibatches": 1, "updates": 3} if kind == "ppo" else {"epochs": 1}
    one, two = make_run(kind, "one", train=train), make_run(kind, "two", train=train)
    assert learn(one, data_dir) == 0
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
         "-m", "rlhf.learning", str(two), "--data-dir", str(data_dir)],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 process(es)" in (two / "log.txt").read_text()
    for ours, theirs in zip(
        read_rows(one / "metrics.jsonl"), read_rows(two / "metrics.jsonl"), strict=True
    ):
        assert (ours["step"], ours["split"]) == (theirs["step"], theirs["split"])
        for name in {"loss", "gradient/norm", "objective/kl", "objective/scores"} & ours.keys():
            assert theirs[name] == pytest.approx(ours[name], abs=1e-3, rel=1e-3), name
    weights = [load_file(folder / "model/model.safetensors") for folder in (one, two)]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], atol=1e-3, rtol=0)
