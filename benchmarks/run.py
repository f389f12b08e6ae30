"""Every benchmark on one model, as a table: what `make bench` prints and keeps.

    python benchmarks/run.py [--model tiny|smol|FOLDER]

The table names the command of each figure and the machine; it is kept in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"
TURNS = ("ppo.py --critic separate", "ppo.py --critic shared", "reward.py --k 6", "sft.py")
EPISODES = "--episodes 48"
RATES = ("episodes_per_s", "comparisons_per_s", "tokens_per_s")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny")
    model = parser.parse_args().model
    folder = smol_folder() if model == "smol" else model
    lines = [
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python"
        f" {platform.python_version()}, {time.strftime('%Y-%m-%d')}, model {model}",
        "",
        "| command | figure | peak memory |",
        "|---|---|---|",
    ]
    for turn in TURNS:
        name, *rest = turn.split()
        if name == "ppo.py":
            rest += EPISODES.split()
        done = subprocess.run(
            [sys.executable, str(HERE / name), "--model", str(folder), *rest],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        figures = json.loads(done.stdout.splitlines()[-1])
        rate = next(each for each in RATES if each in figures)
        command = f"python benchmarks/{name} --model {model} {' '.join(rest)}".strip()
        lines.append(
            f"| `{command}` | {figures[rate]:g} {rate.removesuffix('_per_s')}/s"
            f" | {figures['peak_rss_mb']} MB |"
        )
        print(lines[-1], file=sys.stderr)
    table = "\n".join(lines) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{Path(model).name}-{time.strftime('%Y%m%d-%H%M%S')}.md").write_text(table)
    print(table)


def smol_folder() -> Path:
    place = ROOT / ".data" / "benchmark-smol"
    if not place.exists():
        command = [sys.executable, "-m", "rlhf.learning.base", "smol", str(place)]
        subprocess.run(command, cwd=ROOT, check=True)
    return place


if __name__ == "__main__":
    main()
