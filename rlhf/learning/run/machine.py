"""What a training process asks of its machine: first before torch is imported, then after."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator

TOY_BYTES = 50 << 20  # of weights


def prepare() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # The cores are shared with the web: a thread that waits for work sleeps, but only after some
    # microseconds, for between two products of a small model it is woken thousands of times.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # PPO on the tiny model, episodes/s on two threads: 33 asleep at once, 63 with 10,000 turns, 66
    # with libgomp's own 300,000, which would keep a core from the web for much longer.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def fit(weights: int, threads: int = 0) -> None:
    """Threads and kernels for a model of so many bytes of weights; 0 threads: as suits it.

    A toy gets one thread, which leaves the other cores to the site, and MKL, which is called
    sooner; anything else gets all the cores, and oneDNN where that is as exact.
    """
    import torch

    is_toy = weights < TOY_BYTES
    torch.set_num_threads(threads or (1 if is_toy else torch.get_num_threads()))
    if not (is_toy or torch.cuda.is_available()):
        multiply_by_onednn()


def accelerator() -> Accelerator:
    """The GPU in bf16 where there is one, else the CPU. Processes that share a GPU exchange through
    gloo, for NCCL refuses two ranks on one device."""
    import torch
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    on_gpu = torch.cuda.is_available()
    share = on_gpu and int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > torch.cuda.device_count()
    return Accelerator(
        cpu=not on_gpu,
        mixed_precision="bf16" if on_gpu and torch.cuda.is_bf16_supported() else "no",
        kwargs_handlers=[InitProcessGroupKwargs(backend="gloo")] if share else None,
    )


def leave_processes(code: int) -> None:
    """Ends this process of a distributed run with an exit code; returns where it is alone.

    At once: a group that something still refers to keeps its threads, and a thread that runs would
    abort an ordinary exit now and then."""
    torch = sys.modules.get("torch")
    if torch and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def multiply_by_onednn() -> None:
    """Multiply fp32 matrices on a CPU by oneDNN, unless that rounds here.

    On AMD's processors MKL, torch's own choice, leaves AVX-512 unused and takes twice as long.
    torch asks oneDNN only where it may round to bf16, and oneDNN does so on processors with AMX:
    a product with the unit matrix, exact in any order of summation, tells.
    """
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    unit_HH = torch.eye(512)
    for rows in (1, 16, 512):
        x_BH = torch.linspace(-1, 1, rows * 512).view(rows, 512)
        if not torch.equal(x_BH @ unit_HH, x_BH):
            torch.set_float32_matmul_precision(before)
            return
