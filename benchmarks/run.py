"""Every benchmark, as a table: what `make bench` prints and keeps.

    python benchmarks/run.py [--model tiny|smol|FOLDER]

First the trainers on one model, then the site, full of data: a quarter of an hour on two cores with
the tiny model. The table names the command of each figure and the machine; it is kept in
benchmarks/results/.
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
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"
Figures = dict[str, Any]
TRAINERS = {
    "ppo.py --critic separate --episodes 48": "episodes_per_s",
    "ppo.py --critic shared --episodes 48": "episodes_per_s",
    "reward.py --k 6": "comparisons_per_s",
    "sft.py": "tokens_per_s",
}
SITE = {
    "labelling --tasks 8 --rest 6": "next_p50_ms next_p95_ms submit_p50_ms submit_p95_ms",
    "importing --kind demonstrations": "seconds memory_growth_mb",
    "importing --kind rankings": "seconds memory_growth_mb",
    "preflight": "seconds",
    "chat": "web_p50_ms direct_p50_ms added_p50_ms",
    "chat_page": "layout_shift ms_a_piece longest_task_ms",
    "round_page": "page_ms page_gzip_kb metrics_ms metrics_gzip_kb",
    "grid_page": "page_ms page_kb page_queries",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny")
    model = parser.parse_args().model
    folder = smol_folder() if model == "smol" else model
    lines = [
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python"
        f" {platform.python_version()}, {time.strftime('%Y-%m-%d')}, model {model}",
        "",
        "| command | figures |",
        "|---|---|",
    ]
    for turn, rate in TRAINERS.items():
        name, *rest = turn.split()
        figures = run(str(HERE / name), "--model", str(folder), *rest)
        what = f"{figures[rate]:g} {rate.removesuffix('_per_s')}/s, {figures['peak_rss_mb']} MB"
        lines.append(f"| `python benchmarks/{name} --model {model} {' '.join(rest)}` | {what} |")
        print(lines[-1], file=sys.stderr)
    for turn, names in SITE.items():
        figures = run("-m", *f"benchmarks.{turn}".split())
        what = ", ".join(f"{name} {figures[name]:g}" for name in names.split())
        lines.append(f"| `python -m benchmarks.{turn}` | {what} |")
        print(lines[-1], file=sys.stderr)
    table = "\n".join(lines) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{Path(model).name}-{time.strftime('%Y%m%d-%H%M%S')}.md").write_text(table)
    print(table)


def run(*command: str) -> Figures:
    """What a benchmark says in its last line."""
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def smol_folder() -> Path:
    place = ROOT / ".data" / "benchmark-smol"
    if not place.exists():
        command = [sys.executable, "-m", "rlhf.learning.models.base", "smol", str(place)]
        subprocess.run(command, cwd=ROOT, check=True)
    return place


if __name__ == "__main__":
    main()
