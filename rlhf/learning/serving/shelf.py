"""The policies that are loaded: several at once, within a limit of memory.

Whoever wants one takes it, and it stays until it is given back; of those that nobody has, the one
that was used longest ago makes room for another. All of it runs in one event loop; weights are read
in a thread beside it, while others are answered.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.generation.decoding import product
from rlhf.learning.models.folders import check_folder, read_policy, renderer, stop_ids
from rlhf.learning.models.networks import LMHead
from rlhf.learning.models.render import Renderer
from rlhf.learning.models.weights import stored_precision, weight_files

from .slots import OneByOne, Slots, memory_for

logger = logging.getLogger(__name__)
Key = tuple[Path, int]
IDLE_SECONDS = 1800.0  # after which an unused policy leaves memory
SWEEP_SECONDS = 60.0
PLACES = ("models/*/config.json", "runs/*/*/model/config.json")


class NoSuchModel(Exception):
    """There is no such model folder, or none that this server may read."""


@dataclass(eq=False)
class Policy:
    """A loaded model folder. `memory` is the decoding thread's alone."""

    name: str
    lm: PreTrainedModel
    render: Renderer
    stops: frozenset[int]
    memory: Slots | OneByOne
    users: int = 0
    used_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.head = LMHead(self.lm)
        weights = {each.data_ptr(): each.nbytes for each in self.lm.parameters()}
        self.bytes = sum(weights.values())

    def logits(self, hidden_BH: torch.Tensor) -> torch.Tensor:
        """logits_BV of the next token."""
        return self.head.finish(product(self.head.linear, len(hidden_BH))(hidden_BH))


class Shelf:
    """Loaded policies, the one used last at the end."""

    def __init__(
        self, roots: Sequence[Path], *, limit: int, load: Callable[[Path], Policy]
    ) -> None:
        """Model folders below `roots` alone; weights of at most `limit` bytes, or one policy."""
        self.roots = [root.resolve() for root in roots]
        self.limit, self.load = limit, load
        self._loaded: dict[Key, Policy] = {}
        self._loading: dict[Key, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        self._given_back = asyncio.Event()
        self._is_waiting_for_room = False

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self._loaded.values())

    async def take(self, name: str) -> Policy:
        """A policy to be given back, loaded if need be. Raises NoSuchModel, or ConfigError where
        its folder cannot be read."""
        key = await asyncio.to_thread(self._find, name)
        while True:
            if self._is_waiting_for_room:  # not past those who wait for one to be given back
                async with self._turn:
                    pass
            if policy := self._loaded.pop(key, None):
                self._loaded[key] = policy
                policy.users += 1
                return policy
            if key not in self._loading:
                self._loading[key] = asyncio.create_task(self._load(key))
            # Whoever hangs up meanwhile leaves it loaded for the next.
            await asyncio.shield(self._loading[key])

    def give_back(self, policy: Policy) -> None:
        policy.users -= 1
        policy.used_at = time.monotonic()
        self._given_back.set()

    def names(self) -> list[str]:
        """The folders that can be asked for, the loaded ones first."""
        loaded = [str(folder) for folder, _ in reversed(self._loaded)]
        found = [
            str(place.parent)
            for root in self.roots
            for pattern in PLACES
            for place in sorted(root.glob(pattern))
        ]
        return list(dict.fromkeys(loaded + found))

    async def sweep(self) -> None:
        """Unloads what nobody has asked for in half an hour; runs until it is cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            long_ago = time.monotonic() - IDLE_SECONDS
            for key, policy in list(self._loaded.items()):
                if not policy.users and policy.used_at < long_ago:
                    self._unload(key)

    def _find(self, name: str) -> Key:
        """The folder, and when its weights were written: another model may take its place."""
        for root in self.roots:
            try:
                folder = (root / name).resolve()
                if folder.is_relative_to(root) and (folder / "config.json").is_file():
                    check_folder(folder)
                    return folder, max(each.stat().st_mtime_ns for each in weight_files(folder))
            except (OSError, ValueError, ConfigError):  # a name with a NUL, a folder half removed
                continue
        raise NoSuchModel(name)

    async def _load(self, key: Key) -> None:
        folder, _ = key
        try:
            async with self._turn:
                for other in [each for each in self._loaded if each[0] == folder]:
                    if not self._loaded[other].users:
                        self._unload(other)  # what its folder held before
                await self._make_room(await asyncio.to_thread(bytes_of, folder))
                began = time.monotonic()
                policy = await asyncio.to_thread(self.load, folder)
                self._loaded[key] = policy
                logger.info(
                    "%s loaded in %.1f s: %d MB of weights, %d MB in all",
                    *(folder, time.monotonic() - began, policy.bytes >> 20, self.bytes >> 20),
                )
        finally:
            del self._loading[key]

    async def _make_room(self, wanted: int) -> None:
        try:
            while self._loaded and self.bytes + wanted > self.limit:
                idle = next((key for key, each in self._loaded.items() if not each.users), None)
                if idle is not None:
                    self._unload(idle)
                    continue
                self._is_waiting_for_room = True
                self._given_back.clear()
                await self._given_back.wait()
        finally:
            self._is_waiting_for_room = False

    def _unload(self, key: Key) -> None:
        logger.info("%s unloaded", key[0])
        del self._loaded[key]
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)  # glibc would keep what it holds


def bytes_of(folder: Path) -> int:
    """Bytes of a folder's weights in fp32."""
    stored = sum(each.stat().st_size for each in weight_files(folder))
    return stored * torch.float32.itemsize // stored_precision(folder).itemsize


def load(folder: Path, *, rows: int, device: torch.device | str = "cpu") -> Policy:
    """Loads a model folder to decode `rows` rows at once. Raises ConfigError."""
    render = renderer(folder, chats=False)
    if not render.tokenizer.chat_template:
        raise ConfigError(f"{folder}: the tokenizer has no chat template")
    lm = read_policy(folder, render).requires_grad_(False)
    nn.Module.to(lm, device)
    _ = render.controls, render.around  # found out once, and not while somebody waits
    return Policy(str(folder), lm, render, frozenset(stop_ids(lm, render)), memory_for(lm, rows))


def shelf(roots: Sequence[Path], *, limit: int, rows: int) -> Shelf:
    """A shelf for this machine's GPU, or its CPU."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Shelf(roots, limit=limit, load=partial(load, rows=rows, device=device))
