"""Two processes with half a batch each are one process with all of it."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from rlhf.learning import checkpoint
from rlhf.learning.hyperparameters import ConfigError
from tests.learning.conftest import ROOT, learn, read_rows
from tests.learning.test_runs import KINDS, assert_same

SAME = {
    *("loss", "gradient/norm", "policy/loss", "val/loss", "val/explained_variance"),
    *("objective/kl", "objective/scores", "objective/beta", "reward/accuracy", "reward/margin"),
}


def learn_in_two(folders, data_dir):
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
         "-m", "tests.learning.together", str(data_dir), *map(str, folders)],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_two_processes_learn_what_one_does_and_go_on_bit_for_bit(make_run, data_dir):
    # A batch of three gives one process two rows and the other one, or none at the end of an epoch.
    # The one held-out prompt that PPO answers falls to the first process.
    train = {kind: {"epochs": 1} for kind in KINDS}
    train["ppo"] = {"minibatches": 1, "updates": 3, "evaluate_prompts": 1}
    ones, twos, killed = (
        {kind: make_run(kind, f"{name}-{kind}", train=train[kind]) for kind in KINDS}
        for name in ("one", "two", "killed")
    )
    learn_in_two(twos.values(), data_dir)
    for kind, one in ones.items():
        assert learn(one, data_dir) == 0
        compare(kind, one, twos[kind])

    for kind in KINDS:
        shutil.copytree(twos[kind], killed[kind], dirs_exist_ok=True)
        shutil.rmtree(killed[kind] / "model")
        shutil.rmtree(checkpoint.checkpoints(killed[kind] / "checkpoints")[-1])
    learn_in_two(killed.values(), data_dir)
    for kind in KINDS:
        assert "resumed at step" in (killed[kind] / "log.txt").read_text(), kind
        assert_same(twos[kind], killed[kind])


def compare(kind, one, two):
    assert "2 process(es)" in (two / "log.txt").read_text()
    for ours, theirs in zip(
        read_rows(one / "metrics.jsonl"), read_rows(two / "metrics.jsonl"), strict=True
    ):
        assert (ours["step"], ours["split"]) == (theirs["step"], theirs["split"]), kind
        for name in SAME & ours.keys():
            assert theirs[name] == pytest.approx(ours[name], abs=1e-5, rel=1e-5), (kind, name)
    weights = [load_file(folder / "model/model.safetensors") for folder in (one, two)]
    for name in weights[0]:
        torch.testing.assert_close(
            weights[0][name], weights[1][name], atol=1e-5, rtol=0, msg=f"{kind}: {name}"
        )


def test_accelerate_launch_starts_the_same_run(make_run, data_dir):
    plain, launched = make_run("sft", "plain"), make_run("sft", "launched")
    assert learn(plain, data_dir) == 0
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1",
         "-m", "rlhf.learning", str(launched), "--data-dir", str(data_dir)],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    weights = [load_file(folder / "model/model.safetensors") for folder in (plain, launched)]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], atol=1e-6, rtol=0)


def test_sharded_weights_are_refused_by_name():
    from accelerate.utils import DistributedType

    from rlhf.learning.provenance import refuse_sharding

    for kind in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        with pytest.raises(ConfigError, match=f"does not shard weights .{kind.value}.*MULTI_GPU"):
            refuse_sharding(kind)
    refuse_sharding(DistributedType.MULTI_GPU)
    refuse_sharding(DistributedType.NO)


@pytest.mark.parametrize("file", sorted((ROOT / "deploy/accelerate").glob("*.yaml")), ids=str)
def test_the_recipes_of_accelerate_are_read_by_accelerate(file):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    config = load_config_from_file(str(file))
    assert config.num_processes % config.num_machines == 0
    arguments = ["--config_file", str(file), "-m", "rlhf.learning", "RUN"]
    rendered, _, _ = _validate_launch_command(launch_command_parser().parse_args(arguments))
    assert rendered.multi_gpu and rendered.mixed_precision == "bf16"
    assert (rendered.num_machines, rendered.num_processes) == (
        config.num_machines, config.num_processes)  # fmt: skip
