"""What a training process asks of its machine, before torch is imported."""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
LARGE = 1 << 20  # bytes; larger tensors are few, and kept they would leave holes


def prepare() -> None:
    """Share the cores, and keep the memory of one layer for the next.

    A thread that has nothing to do looks for work for some 50 microseconds and then sleeps: the
    next operation mostly comes sooner, and the web wants the cores too. Left alone, glibc hands
    the memory of a tensor back to the kernel when it dies and asks for more right away; the page
    faults cost up to a tenth of an update.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # of glibc alone
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
