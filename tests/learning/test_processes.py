"""Two processes with half a batch each are one process with all of it.

The long form, in `make faults`, also shards and kills the ways that shard, and go on, as another
does."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from accelerate.utils import DistributedType
from safetensors.torch import load_file

from rlhf.learning.contract import manifest
from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.run import checkpoint, sharding
from tests.learning.conftest import ROOT, learn, read_rows
from tests.learning.test_runs import KINDS, assert_same

IS_LONG = os.environ.get("FAULTS") == "long"
# A batch of three gives one process two rows and the other one, or none at the end of an epoch.
# The one held-out prompt that PPO answers falls to the first process, and so does the odd
# demonstration of its anchor.
SHORT = {"epochs": 1, "micro_batch_size": 1}
# Mini-batches are drawn from all episodes: of four with two rows, some have none of one process.
PPO = {"minibatches": 4, "updates": 3, "evaluate_prompts": 1}
LORA = {"mode": "lora", "rank": 4}
ON_ROLLOUTS = ("ppo", "rloo", "grpo", "raft")
# Two epochs are published before the last.
KEEPING = {"keep_epochs": True, "epochs": 3, "checkpoint_every": 4}
WAYS = {
    **{kind: (kind, {"train": SHORT}) for kind in KINDS if kind not in ON_ROLLOUTS},
    **{kind: (kind, {"train": PPO}) for kind in ON_ROLLOUTS},
    "anchored": (
        "ppo",
        {
            "train": {**PPO, "critic": "shared", "ptx_weight": 1.0, "ptx_batch_size": 3},
            "data": {"demonstrations": "demonstrations.jsonl"},
        },
    ),
    "adapters": ("ppo", {"train": {**PPO, "critic": "adapter"}, "tune": LORA}),
    "epochs": ("sft", {"train": KEEPING, "tune": LORA}),
}
# A policy, an adapter, a reward model, two networks, two adapters: what there is to shard and keep.
UNLIKE = tuple(WAYS) if IS_LONG else ("sft", "epochs", "reward", "ppo", "adapters")

SAME = {
    *("loss", "gradient/norm", "gradient/critic_norm", "policy/loss", "val/loss"),
    *("objective/kl", "objective/scores", "objective/kl_coef", "reward/accuracy", "reward/margin"),
    "val/explained_variance",
}


SHARDED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}  # as accelerate's launcher says it


def learn_in_two(runs, data_dir):
    """All of them in one launch: `runs["sharded"]` after the whole ones."""
    sharding = [f"{name}={value}" for name, value in SHARDED.items()]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
         "-m", "tests.learning.together", str(data_dir),
         *map(str, runs["whole"].values()), *sharding, *map(str, runs["sharded"].values())],
        cwd=ROOT, capture_output=True, text=True, timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(900)
def test_two_processes_learn_what_one_does_and_go_on_bit_for_bit(make_run, data_dir):
    def make_runs(name, ways=UNLIKE):
        return {way: make_run(WAYS[way][0], f"{name}-{way}", **WAYS[way][1]) for way in ways}

    ones = make_runs("one", WAYS)
    twos = {"whole": make_runs("two-whole", WAYS), "sharded": make_runs("two-sharded")}
    killed = {how: make_runs(f"killed-{how}") for how in twos}
    learn_in_two(twos, data_dir)
    for way, one in ones.items():
        assert learn(one, data_dir) == 0
        for how in twos:
            if way not in twos[how]:
                continue
            compare(way, one, twos[how][way])
            log = (twos[how][way] / "log.txt").read_text()
            assert "CPU, 2 processes" in log
            assert ("this process holds 5" in log) == (how == "sharded"), log

    for how in killed:
        for way in UNLIKE:
            leave_early(twos[how][way], killed[how][way])
    learn_in_two(killed, data_dir)
    for how in killed:
        for way in UNLIKE:
            assert "resumed at step" in (killed[how][way] / "log.txt").read_text(), (how, way)
            assert_same(twos[how][way], killed[how][way])

        for way in ("sft", "ppo"):  # what two have begun, one can end
            alone = make_run(way, f"alone-{how}-{way}")
            leave_early(twos[how][way], alone)
            assert learn(alone, data_dir) == 0
            compare(way, ones[way], alone)


def leave_early(whole, killed):
    shutil.copytree(whole, killed, dirs_exist_ok=True)
    shutil.rmtree(killed / "model")
    shutil.rmtree(checkpoint.checkpoints(killed / "checkpoints")[-1])


def compare(kind, one, two):
    for ours, theirs in zip(
        read_rows(one / "metrics.jsonl"), read_rows(two / "metrics.jsonl"), strict=True
    ):
        assert (ours["step"], ours["split"]) == (theirs["step"], theirs["split"]), kind
        for name in SAME & ours.keys():
            assert theirs[name] == pytest.approx(ours[name], abs=1e-5, rel=1e-5), (kind, name)
    published = [f"epochs/{n}" for n in (1, 2)] if kind == "epochs" else []
    for place in [*published, "model"]:
        manifest.verify(two / place)
        ours, theirs = (load_file(folder / place / "model.safetensors") for folder in (one, two))
        for name in ours:
            torch.testing.assert_close(
                ours[name], theirs[name], atol=1e-5, rtol=0, msg=f"{kind}, {place}: {name}"
            )
    assert len(list(two.glob("epochs/*"))) == len(published)


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


class Launched:
    num_processes = 2

    def __init__(self, distributed_type=DistributedType.FSDP):
        self.distributed_type = distributed_type


@pytest.mark.parametrize(
    ("kind", "environment", "advice"),
    [
        (DistributedType.DEEPSPEED, {}, "does not run under DEEPSPEED.*sharded.yaml"),
        (DistributedType.MEGATRON_LM, {}, "does not run under MEGATRON_LM"),
        (DistributedType.FSDP, {"FSDP_VERSION": "1"}, "fsdp_version: 2"),
        (DistributedType.FSDP, {"FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params.*false"),
        (DistributedType.FSDP, {"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "checkpointing.*false"),
    ],
)
def test_launches_that_shard_otherwise_are_refused_by_name(kind, environment, advice, monkeypatch):
    for name, value in {**SHARDED, **environment}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=advice):
        sharding.is_asked(Launched(kind))


def test_shards_are_asked_for_by_the_launcher_alone(monkeypatch):
    assert not sharding.is_asked(Launched(DistributedType.MULTI_GPU))
    for name, value in SHARDED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    assert sharding.is_asked(Launched())
    assert os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"
    alone = Launched()
    alone.num_processes = 1
    assert not sharding.is_asked(alone)


@pytest.mark.parametrize("file", sorted((ROOT / "deploy/accelerate").glob("*.yaml")), ids=str)
def test_the_recipes_of_accelerate_are_read_by_accelerate(file, monkeypatch):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    config = load_config_from_file(str(file))
    assert config.num_processes % config.num_machines == 0
    arguments = ["--config_file", str(file), "-m", "rlhf.learning", "RUN"]
    rendered, _, _ = _validate_launch_command(launch_command_parser().parse_args(arguments))
    is_sharded = file.stem == "sharded"
    assert (rendered.multi_gpu, rendered.use_fsdp) == (not is_sharded, is_sharded)
    assert rendered.mixed_precision == "bf16"
    assert (rendered.num_machines, rendered.num_processes) == (
        config.num_machines, config.num_processes)  # fmt: skip
    # What the launcher then says to the trainer is understood.
    for name, value in prepare_multi_gpu_env(rendered).items():
        monkeypatch.setenv(name, value)
    kind = DistributedType.FSDP if is_sharded else DistributedType.MULTI_GPU
    assert sharding.is_asked(Launched(kind)) == is_sharded
