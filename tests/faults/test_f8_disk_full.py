"""F8: a disk that fills up in the middle of a checkpoint costs that checkpoint and nothing else."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf.learning.contract import manifest
from rlhf.learning.run import checkpoint
from rlhf.learning.run.run_folder import DONE, PAUSED, STOPPED
from tests.faults.conftest import sized
from tests.learning.conftest import data_dir, learn, make_run, one_thread
from tests.learning.test_runs import AfterCalls, assert_same

__all__ = ["data_dir", "one_thread", "make_run"]

OFFSETS = sized(short=3, long=20)
DISK_BYTES = 64 << 20

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may mount a small disk; test_runs.py injects the error"
)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    size = ["-o", f"size={DISK_BYTES}"]
    mounted = subprocess.run(["mount", "-t", "tmpfs", *size, "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.decode()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path, *, leave: int) -> Path:
    filler = disk / "filler"
    usage = shutil.disk_usage(disk)
    filler.write_bytes(bytes(max(usage.free - leave, 0)))
    return filler


@pytest.mark.timeout(1200)
def test_f8_a_full_disk_leaves_the_previous_checkpoint_and_the_run_goes_on(
    make_run, data_dir, tmp_path, monkeypatch, report
):
    usage = shutil.disk_usage
    whole = make_run("sft", "whole")
    assert learn(whole, data_dir) == DONE
    [size] = {sum(f.stat().st_size for f in place.iterdir()) // 4096 * 4096
              for place in checkpoint.checkpoints(whole / "checkpoints")[-1:]}  # fmt: skip
    paused = 0
    for number in range(OFFSETS):
        folder = make_run("sft", f"broken-{number}")
        assert learn(folder, data_dir, stop=AfterCalls(3)) == STOPPED
        before = checkpoint.latest_good(folder / "checkpoints")[0].step
        filler = fill(tmp_path, leave=size * (number + 1) // (OFFSETS + 1))
        plenty = usage("/")._replace(free=1 << 40)
        monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _, plenty=plenty: plenty)
        paused += learn(folder, data_dir) == PAUSED
        monkeypatch.setattr(checkpoint.shutil, "disk_usage", usage)
        kept, complaints = checkpoint.latest_good(folder / "checkpoints")
        assert kept.step >= before and not complaints
        assert not list((folder / "checkpoints").glob("tmp-*"))
        filler.unlink()
        assert learn(folder, data_dir) == DONE
        assert_same(whole, folder)
        shutil.rmtree(folder.parent)
    report(offsets=OFFSETS, paused=paused, checkpoint_bytes=size)
    assert paused == OFFSETS
    manifest.verify(whole / "model")
