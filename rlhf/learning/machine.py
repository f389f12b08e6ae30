"""What a training process asks of its machine, before torch is imported."""

from __future__ import annotations

import os


def prepare() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # the cores are shared with the web
