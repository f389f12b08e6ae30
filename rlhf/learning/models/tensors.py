"""Tensors on the disk as safetensors, never as pickle; a full disk is an OSError."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


@contextmanager
def telling_of_a_full_disk() -> Iterator[None]:
    """Raises OSError(ENOSPC) where safetensors has an error of its own for a full disk: whoever
    pauses a run for one needs to know no other."""
    try:
        yield
    except SafetensorError as error:
        if "No space left" in str(error) or "os error 28" in str(error):
            raise OSError(errno.ENOSPC, str(error)) from error
        raise


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes a safetensors file; raises OSError where the disk is full."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with telling_of_a_full_disk():
        save_file(plain, path)
