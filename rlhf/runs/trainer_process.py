"""Starts a trainer as a process of its own, and ends it.

The kernel kills the trainer when the worker dies (parent-death signal), so two trainers of one run
never work side by side for long; the lease decides whose results count. Where `TRAIN_LAUNCHER`
starts several processes, each of them asks for the same when the launcher dies: torchrun gives
them sessions of their own, which no signal to ours reaches."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from feedback_site.parent_death import ending_with_parent
from rlhf.stages.stage import SECRETS

OUTPUT = "output.txt"


class Trainer:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def wait(self, seconds: float) -> int | None:
        """Returns the exit code, or None if it still works after so many seconds."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def ask_to_stop(self) -> None:
        """Asks it to write a checkpoint and leave."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it and all that it has started, at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)


def start(folder: Path, *, resume: Path | None = None, is_changed: bool = False) -> Trainer:
    """Starts a trainer on a run folder. Its output lands in the folder too. `is_changed`: the run
    goes on with other settings than its checkpoint was made with, and is meant to."""
    command = [*_launcher(), "-m", "rlhf.learning", str(folder)]
    command += ["--data-dir", str(settings.DATA_DIR)]
    if resume:
        command += ["--resume", str(resume)]
    if is_changed:
        command.append("--allow-changes")
    with (folder / OUTPUT).open("ab") as output:
        process = subprocess.Popen(
            ending_with_parent(command, stop_signal=signal.SIGKILL, pid_variable="TRAINER_PID"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=settings.BASE_DIR,
            env=_environment(),
            start_new_session=True,
        )
    return Trainer(process)


def last_lines(folder: Path, count: int = 50) -> str:
    """Reads the end of what a trainer said."""
    file = folder / OUTPUT
    if not file.exists():
        return ""
    with file.open("rb") as lines:
        # A progress bar may have made the file as long as the training was.
        lines.seek(max(0, file.stat().st_size - 20_000))
        text = lines.read().decode(errors="replace").replace("\x00", "")
    return "\n".join(text.splitlines()[-count:])


def _launcher() -> list[str]:
    """`torchrun --nproc-per-node 2` and `accelerate launch` understand `-m` as python does."""
    return shlex.split(settings.TRAIN_LAUNCHER) or [sys.executable]


def _environment() -> dict[str, str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "OMP_NUM_THREADS": str(cores),
        **{name: value for name, value in os.environ.items() if name not in SECRETS},
        # What is trained on lies in DATA_DIR; a name that is not a folder must not reach for the
        # net.
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
