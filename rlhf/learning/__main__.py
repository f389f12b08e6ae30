"""Train in a run folder, and leave when asked.

    python -m rlhf.learning RUN_FOLDER [--data-dir DIR] [--resume CHECKPOINT_FOLDER] [--allow-code]
                             [--allow-changes]
    torchrun --nproc-per-node 2 -m rlhf.learning RUN_FOLDER --data-dir DIR

`config.json` is read from RUN_FOLDER, else from the folder above. Its paths are relative to
--data-dir, else to the environment's DATA_DIR, else to the current directory. Without --resume a
run goes on from its own newest whole checkpoint. `TORCH_THREADS` sets the number of threads.

Exit code: 0 done, 3 asked to stop by SIGTERM (checkpoint written), 4 paused by a guard (the reason
is in outcome.json), 2 no usable config, anything else failed (traceback in log.txt; outcome.json
says `out_of_memory` where that was the reason).
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from feedback_site.parent_death import end_with_parent
from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.kinds import KINDS
from rlhf.learning.run import machine
from rlhf.learning.run.run_folder import DONE, FAILED, PAUSED, STOPPED, Paused, RunFolder, StopAsked

if TYPE_CHECKING:
    from rlhf.learning.run.training import Learner


class Stop:
    """Becomes true at the first SIGTERM or Ctrl-C; heard between updates."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def __call__(self) -> bool:
        return self.asked


def die_with_launcher() -> None:
    """Under a launcher of a supervisor's: if that dies, so does this process, at once (Linux).

    torchrun starts each process in a session of its own, so a kill of the launcher reaches none.
    Whoever starts a run by hand may go: without a supervisor's `TRAINER_PID` nothing is asked."""
    launcher, parent = os.environ.get("TRAINER_PID"), os.getppid()
    if sys.platform != "linux" or launcher is None or int(launcher) == os.getpid():
        return
    # A zombie has no `exe` any more.
    is_alive = end_with_parent(parent, signal.SIGKILL) and Path(f"/proc/{launcher}/exe").exists()
    if not is_alive:
        os._exit(FAILED)


def main() -> int:
    die_with_launcher()
    parser = argparse.ArgumentParser(
        prog="python -m rlhf.learning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--resume", type=Path, metavar="CHECKPOINT_FOLDER")
    parser.add_argument(
        "--allow-code", action="store_true", help="let models.reward_function run code of yours"
    )
    parser.add_argument(
        "--allow-changes",
        action="store_true",
        help="go on from a checkpoint although settings, seed, data or models are others now",
    )
    arguments = parser.parse_args()
    stop = Stop()
    try:
        folder = RunFolder(
            arguments.folder,
            arguments.data_dir,
            writes=os.environ.get("RANK", "0") == "0",
            allows_code=arguments.allow_code,
            allows_changes=arguments.allow_changes,
        )
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    code = run(folder, stop, arguments.resume)
    if code != FAILED:
        machine.leave_processes(code)
    return code


def run(folder: RunFolder, stop: Stop, resume: Path | None) -> int:
    folder.begin()
    try:
        summary = _learn(folder, stop, resume)
    except StopAsked:
        folder.outcome("stopped")
        return STOPPED
    except Paused as paused:
        return _pause(folder, paused)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _pause(folder, Paused("disk_full", error.strerror or str(error)))
        return _fail(folder, error)
    except Exception as error:
        return _fail(folder, error)
    folder.outcome("succeeded", **summary)
    return DONE


def _learn(folder: RunFolder, stop: Stop, resume: Path | None) -> dict[str, object]:
    # Late: these imports take seconds, and SIGTERM must be heard from the start.
    machine.prepare()
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    from rlhf.learning.generation.sample import sample
    from rlhf.learning.publishing import plain
    from rlhf.learning.run.provenance import write_provenance
    from rlhf.learning.run.training import train
    from rlhf.learning.run.vocabulary import check_vocabularies

    disable_progress_bar()  # type: ignore[no-untyped-call]
    set_verbosity_error()  # type: ignore[no-untyped-call]
    if folder.writes and KINDS[folder.config.kind].learner:
        plain.start()
    machine.fit(_bytes_of_weights(folder), int(os.environ.get("TORCH_THREADS", 0)))
    accelerator = machine.accelerator()
    config = folder.config
    data_hash = write_provenance(folder, accelerator)
    if not KINDS[config.kind].learner:
        return {**sample(folder, accelerator, stop), "model": None}
    check_vocabularies(folder)
    learner = _learner(config.kind)(folder, accelerator)
    summary = train(learner, folder, stop, resume)
    accelerator.wait_for_everyone()
    return {"model": "model", "kind": config.kind, "data_sha256": data_hash, **summary}


def _learner(kind: str) -> type[Learner]:
    """The algorithm, imported alone: each brings libraries that take seconds."""
    module, _, name = KINDS[kind].learner.partition(":")
    learner: type[Learner] = getattr(import_module(module), name)
    return learner


def _bytes_of_weights(folder: RunFolder) -> int:
    models = folder.config.models
    places = [each["path"] for each in models.policies.values()] or [models.policy]
    return sum(
        path.stat().st_size
        for place in places
        for path in folder.resolve(place).glob("*.safetensors")
    )


def _pause(folder: RunFolder, paused: Paused) -> int:
    folder.failure(f"paused: {paused}", "paused", reason=paused.reason, detail=paused.detail)
    return PAUSED


def _fail(folder: RunFolder, error: BaseException) -> int:
    reason = {"reason": "out_of_memory"} if _is_out_of_memory(error) else {}
    trace = "".join(traceback.format_exception(error))
    if "RANK" in os.environ:
        trace = f"process {os.environ['RANK']}: {trace}"
    folder.failure(trace, "failed", error=f"{type(error).__name__}: {error}", **reason)
    return FAILED


def _is_out_of_memory(error: BaseException) -> bool:
    """`torch.OutOfMemoryError` of a GPU; on a CPU torch's allocator raises a RuntimeError."""
    is_torchs = isinstance(error, RuntimeError) and (
        "out of memory" in str(error) or "can't allocate memory" in str(error)
    )
    return is_torchs or isinstance(error, MemoryError)


if __name__ == "__main__":
    sys.exit(main())
