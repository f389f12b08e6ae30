"""F8: no damage to a checkpoint goes unnoticed."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings

from rlhf.learning.contract.manifest import Corrupt, sha256, write_manifest
from rlhf.models import Checkpoint
from rlhf.models.checkpoints import ensure_whole
from rlhf.models.leases import claim
from rlhf.runs.ingest import last_checkpoint
from tests.faults.conftest import sized

N = sized(short=60, long=200)


@pytest.fixture
def checkpoints(round) -> list[Checkpoint]:
    """Two published ones, the newer first."""
    lease = claim()
    return [published(lease, step) for step in (20, 10)]


def published(lease, step: int) -> Checkpoint:
    folder = f"{lease.folder}/checkpoints/step-{step:08d}"
    place = settings.DATA_DIR / folder
    place.mkdir(parents=True)
    for name, size in (("model", 40_000), ("optimizer", 80_000)):
        (place / f"{name}.safetensors").write_bytes(random.Random(name).randbytes(size))
    (place / "state.json").write_text(f'{{"step": {step}}}')
    write_manifest(place)
    return Checkpoint.objects.create(
        run=lease.run,
        lease_token=lease.token,
        step=step,
        folder=folder,
        manifest_sha256=sha256(place / "manifest.json"),
    )


def flip_a_bit(file: Path, chance: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def cut(file: Path, chance: random.Random) -> None:
    os.truncate(file, chance.randrange(file.stat().st_size))


def grow(file: Path, chance: random.Random) -> None:
    with file.open("ab") as more:
        more.write(chance.randbytes(1 + chance.randrange(100)))


def blank(file: Path, chance: random.Random) -> None:
    """A block that never reached the disk."""
    content = file.read_bytes()
    start = chance.randrange(len(content))
    file.write_bytes(content[:start] + bytes(len(content[start:])))


def lose(file: Path, chance: random.Random) -> None:
    file.unlink()


def restore_another(file: Path, chance: random.Random) -> None:
    """The other checkpoint's files, from the wrong backup: they agree with each other."""
    shutil.copytree(file.parent.parent / "step-00000010", file.parent, dirs_exist_ok=True)


DAMAGES: list[Callable[[Path, random.Random], None]] = [
    *(flip_a_bit, cut, grow, blank, lose, restore_another)
]


def damaged_and_unnoticed(checkpoint: Checkpoint, chance: random.Random) -> list[str]:
    place = settings.DATA_DIR / checkpoint.folder
    files = sorted(place.iterdir())
    unnoticed = []
    for _ in range(N):
        file, damage = chance.choice(files), chance.choice(DAMAGES)
        before = {each: each.read_bytes() for each in files}
        damage(file, chance)
        try:
            ensure_whole(checkpoint)
            unnoticed.append(f"{damage.__name__} {file.name}")
        except Corrupt:
            pass
        for each, content in before.items():
            each.write_bytes(content)
    ensure_whole(checkpoint)
    return unnoticed


def test_f8_every_damage_is_noticed(checkpoints, chance, report):
    unnoticed = damaged_and_unnoticed(checkpoints[0], chance)
    report(damages=N, noticed=N - len(unnoticed))
    assert not unnoticed


@pytest.mark.parametrize("check", ["verify", "sha256"])
def test_f8_without_either_half_of_the_check_some_pass(checkpoints, chance, monkeypatch, check):
    right = checkpoints[0].manifest_sha256
    monkeypatch.setattr(f"rlhf.models.checkpoints.{check}", lambda _: right)
    assert damaged_and_unnoticed(checkpoints[0], chance)


def test_f8_the_run_goes_on_from_the_one_before(checkpoints, chance):
    newer, older = checkpoints
    assert last_checkpoint(newer.run) == newer
    flip_a_bit(settings.DATA_DIR / newer.folder / "optimizer.safetensors", chance)
    assert last_checkpoint(newer.run) == older
