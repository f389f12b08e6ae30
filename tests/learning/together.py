"""Several runs, one after the other, in one set of processes: their imports take longest.

torchrun … -m tests.learning.together DATA_DIR RUN_FOLDER …"""

import os
import sys
from pathlib import Path

from rlhf.learning.__main__ import Stop, run
from rlhf.learning.run_folder import DONE, RunFolder

if __name__ == "__main__":
    data_dir, *folders = map(Path, sys.argv[1:])
    for each in folders:
        folder = RunFolder(each, data_dir, writes=os.environ["RANK"] == "0")
        assert run(folder, Stop(), None) == DONE, f"{each}: see its log.txt"
