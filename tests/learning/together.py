"""Several runs, one after the other, in one set of processes: their imports take longest.

torchrun … -m tests.learning.together DATA_DIR [NAME=VALUE … | RUN_FOLDER …]

As with `env`, a variable is set for the runs after it."""

import os
import sys
from pathlib import Path

from accelerate.state import AcceleratorState

from rlhf.learning.__main__ import Stop, run
from rlhf.learning.run import machine
from rlhf.learning.run.run_folder import DONE, RunFolder

if __name__ == "__main__":
    data_dir = Path(sys.argv[1])
    for argument in sys.argv[2:]:
        name, is_variable, value = argument.partition("=")
        if is_variable:
            os.environ[name] = value
            AcceleratorState._reset_state()  # it has read them
            continue
        folder = RunFolder(Path(argument), data_dir, writes=os.environ["RANK"] == "0")
        assert run(folder, Stop(), None) == DONE, f"{argument}: see its log.txt"
    machine.leave_processes(0)
