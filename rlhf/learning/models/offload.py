"""Frozen networks that take no memory while others learn.

The reference and the reward model speak once an update and then wait for the whole of the learning,
which is when memory is scarcest. On a GPU their weights wait in host memory. On a CPU they live in
a mapped scratch file: between turns its pages are given back, and a later touch brings them in
again from the page cache, or from the disk where that was needed for something better.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

ALIGNMENT = 64  # bytes; what vector instructions like
Network = TypeVar("Network", bound=nn.Module)


class Offloaded(Generic[Network]):
    """A frozen network; use it inside `with offloaded.loaded() as network:`."""

    def __init__(
        self, network: Network, device: torch.device | str = "cpu", scratch: Path | None = None
    ) -> None:
        """`scratch` is a folder on a disk; None: it stays in memory."""
        self.network = network
        self.network.requires_grad_(False)
        self.device, self.offloads = torch.device(device), scratch is not None
        self.pages: mmap.mmap | None = None
        if scratch is not None and self.device.type == "cpu":
            self.pages = _move_to_file(network, scratch)
        self._offload()

    @contextmanager
    def loaded(self) -> Iterator[Network]:
        """Brings the network to its device for the time of the context."""
        if self.offloads and self.pages is None:
            self.network.to(self.device)
        try:
            yield self.network
        finally:
            self._offload()

    def _offload(self) -> None:
        if self.pages is not None:
            self.pages.madvise(mmap.MADV_DONTNEED)  # of a shared mapping: the file keeps them
        elif self.offloads:
            self.network.to("cpu")


def _move_to_file(network: nn.Module, scratch: Path) -> mmap.mmap:
    weights: dict[int, Tensor] = {id(each): each for each in network.parameters()}
    places, size = [], 0
    for weight in weights.values():
        places.append(size)
        size += -(-weight.nbytes // ALIGNMENT) * ALIGNMENT
    with tempfile.TemporaryFile(dir=scratch) as file:
        os.posix_fallocate(file.fileno(), 0, max(size, 1))  # a full disk says so here
        pages = mmap.mmap(file.fileno(), max(size, 1))
    for weight, place in zip(weights.values(), places, strict=True):
        moved = torch.frombuffer(pages, dtype=weight.dtype, count=weight.numel(), offset=place)
        weight.data = moved.view_as(weight).copy_(weight.data)
    pages.flush()
    return pages
