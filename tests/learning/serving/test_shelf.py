"""Which policies are loaded, and which make room."""

import asyncio
import os
from pathlib import Path

import pytest

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.models import base
from rlhf.learning.serving import shelf as shelves
from rlhf.learning.serving.shelf import NoSuchModel, Shelf
from tests.learning.serving.conftest import SECONDS


def run(made):
    return asyncio.run(asyncio.wait_for(made, SECONDS))


def test_the_policy_that_was_used_longest_ago_makes_room(models):
    size = shelves.bytes_of(models / "live")

    async def walk():
        shelf = shelves.shelf([models.parent], limit=2 * size, rows=2)
        base.prepare(str(models / "live"), models / "third") if not (
            models / "third"
        ).exists() else 0
        held = await shelf.take("models/live")
        shelf.give_back(await shelf.take(str(models / "challenger")))
        assert shelf.bytes <= 2 * size
        shelf.give_back(await shelf.take("models/third"))
        assert [Path(each).name for each in shelf.names()[:2]] == ["third", "live"]
        assert await shelf.take("models/live") is held
        # Both are wanted: a third one waits until one is given back.
        other = await shelf.take("models/third")
        waiting = asyncio.ensure_future(shelf.take("models/challenger"))
        while not shelf._is_waiting_for_room:
            await asyncio.sleep(0.01)
        late = asyncio.ensure_future(shelf.take("models/third"))  # though it is loaded now
        await asyncio.sleep(0.05)
        assert not waiting.done() and not late.done()
        shelf.give_back(other)
        assert (await waiting).name.endswith("challenger")
        shelf.give_back(held)
        shelf.give_back(held)
        assert (await late).name.endswith("third")
        assert shelf.bytes <= 2 * size

    run(walk())


def test_a_policy_that_is_too_large_is_loaded_alone(models):
    async def walk():
        shelf = shelves.shelf([models.parent], limit=1, rows=2)
        for name in ("live", "challenger"):
            shelf.give_back(await shelf.take(f"models/{name}"))
            assert len(shelf._loaded) == 1

    run(walk())


def test_who_asks_for_a_policy_that_is_being_loaded_waits_for_the_same(models):
    loads = []

    def load(folder):
        loads.append(folder)
        return shelves.load(folder, rows=2)

    async def walk():
        shelf = Shelf([models.parent], limit=1 << 30, load=load)
        gone = asyncio.ensure_future(shelf.take("models/live"))
        await asyncio.sleep(0)
        wait = [asyncio.ensure_future(shelf.take("models/live")) for _ in range(3)]
        await asyncio.sleep(0.01)
        gone.cancel()
        first, *others = await asyncio.gather(*wait)
        assert others == [first, first] and first.users == 3

    run(walk())
    assert len(loads) == 1


def test_only_model_folders_below_its_own_are_read(models, tmp_path):
    (tmp_path / "models").mkdir()
    base.prepare(str(models / "live"), tmp_path / "models/inside")
    (tmp_path / "models/link").symlink_to(models / "live")
    (tmp_path / "models/broken").mkdir()
    (tmp_path / "models/broken/config.json").write_text("{}")

    async def walk():
        shelf = shelves.shelf([tmp_path], limit=1 << 30, rows=2)
        assert (await shelf.take("models/inside")).users == 1
        outside = [str(models / "live"), "models/link", f"models/../../{models}/live", "/etc"]
        for name in (*outside, "models/broken", "models", "", "\0", "x" * 5000, "gpt2"):
            with pytest.raises(NoSuchModel):
                await shelf.take(name)
        (tmp_path / "models/inside/tokenizer_config.json").write_text("{}")
        os.utime(tmp_path / "models/inside/model.safetensors")
        with pytest.raises(ConfigError, match=r"template|token"):
            await shelf.take("models/inside")

    run(walk())
