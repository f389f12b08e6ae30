"""What a machine has and uses now: processors, memory, disk, GPUs."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import psutil
from django.conf import settings

QUERY = "index,name,utilization.gpu,memory.used,memory.total"
MEBIBYTE = 2**20
PATIENCE = 5.0  # seconds for a driver that hangs


def machine_figures(gpu: str = "") -> dict[str, Any]:
    """Measures this machine; `gpu`: the one to report, all where none is named. Shares are of 1,
    sizes bytes: {cpu, cores, memory: [used, total], disk: […], gpus: [{name, load, memory: […]}]}.
    The first call after the process began says 0 for the CPU."""
    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(settings.DATA_DIR)
    return {
        "cpu": psutil.cpu_percent() / 100,
        "cores": psutil.cpu_count() or 1,
        "memory": [memory.total - memory.available, memory.total],
        "disk": [disk.used, disk.total],
        "gpus": [each for each in _gpus() if gpu in ("", each["index"])],
    }


def _gpus() -> list[dict[str, Any]]:
    """By the driver's own tool; none where there is no such tool, or it fails."""
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [gpu for line in done.stdout.splitlines() if (gpu := read_gpu(line))]


def read_gpu(line: str) -> dict[str, Any] | None:
    """Reads a line of QUERY; None for one that says less, as of a GPU in parts."""
    try:
        index, name, load, used, total = (part.strip() for part in line.split(","))
        memory = [int(used) * MEBIBYTE, int(total) * MEBIBYTE]
        return {"index": index, "name": name, "load": int(load) / 100, "memory": memory}
    except ValueError:
        return None
