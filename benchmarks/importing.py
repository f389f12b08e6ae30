"""How long an import takes, by the clock and of the processor (without PostgreSQL's part), and how
much memory: 100,000 demonstrations, or rankings of four.

.venv/bin/python -m benchmarks.importing [--rows 100000] [--kind demonstrations|rankings|prompts]
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from typing import Any

from benchmarks.empty_site import empty_site

SELF, CHILDREN = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN


def row(kind: str, n: int) -> dict[str, Any]:
    prompt = f"Question {n}: how does this differ from question {n - 1}? " * 3
    if kind == "prompts":
        return {"prompt": prompt}
    if kind == "demonstrations":
        return {"prompt": prompt, "completion": f"Answer {n}. " * 20}
    texts = [f"Answer {n} of policy {i}. " * 20 for i in range(4)]
    return {"prompt": prompt, "completions": texts, "ranks": [1, 2, 2, 4]}


def peak() -> float:
    return resource.getrusage(SELF).ru_maxrss / 1024


def processor() -> float:
    """Seconds of this process and of its children that have ended."""
    own, children = (resource.getrusage(who) for who in (SELF, CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--kind", default="demonstrations")
    arguments = parser.parse_args()

    with empty_site(), tempfile.TemporaryFile() as file:
        from annotate.exchange.importing import import_labels
        from annotate.models import Project

        project = Project.objects.create(name="Import", slug="import")
        by = project.admit(name="olga", role="operator")
        for n in range(arguments.rows):
            file.write(json.dumps(row(arguments.kind, n)).encode() + b"\n")
        file.seek(0)
        before, began, used = peak(), time.monotonic(), processor()
        import_labels(file, project=project, by=by)
        found = {
            "seconds": time.monotonic() - began,
            "processor_seconds": processor() - used,
            "memory_growth_mb": peak() - before,
        }
    print(json.dumps(vars(arguments) | {k: round(v, 1) for k, v in found.items()}))


if __name__ == "__main__":
    main()
