"""How long a look at a large project's labels takes before a launch.

Builds a project of so many rankings of four, and a tenth as many demonstrations, in a PostgreSQL of
its own, and asks for the preflight of an SFT, reward model and PPO. One line of JSON comes out: the
slowest of three, all of it and query by query those that took the longest.

    .venv/bin/python -m benchmarks.preflight [--rankings 100000]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.empty_site import empty_site

SHOWN = 6  # queries


def build_project(rankings: int) -> tuple[Any, Any]:
    from django.conf import settings

    from annotate.models import Demonstration, Project, User
    from benchmarks.labelling import build

    build(prompts=rankings, labels=rankings, labelers=16)
    project = Project.objects.get(slug="large")
    people = list(User.objects.filter(memberships__role="labeler"))
    asked = project.prompts.order_by("pk")[: rankings // 10]
    Demonstration.objects.bulk_create(
        Demonstration(prompt=prompt, labeler=people[i % len(people)], text=prompt.text[::-1])
        for i, prompt in enumerate(asked)
    )
    folder = Path(settings.DATA_DIR) / "models/base"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"max_position_embeddings": 2048}')
    for name in ("tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    return project, project.policies.create(name="base", origin="base", folder="models/base")


def measure(project: Any, base: Any) -> dict[str, Any]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from rlhf.rounds.preflight import preflight
    from rlhf.rounds.settings import stage_configs
    from rlhf.stages import DEFAULT_TRAININGS

    configs = stage_configs(DEFAULT_TRAININGS, "small", {})
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        found = preflight(project, base, stages=DEFAULT_TRAININGS, configs=configs)
        taken.append(time.perf_counter() - began)
    with CaptureQueriesContext(connection) as captured:
        preflight(project, base, stages=DEFAULT_TRAININGS, configs=configs)
    slowest = sorted(captured.captured_queries, key=lambda query: -float(query["time"]))
    return {
        "seconds": round(max(taken), 2),
        "queries": len(captured),
        "slowest": [(float(query["time"]), query["sql"][:200]) for query in slowest[:SHOWN]],
        "counts": found.counts,
        "findings": [finding.name for finding in found.findings],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rankings", type=int, default=100_000)
    arguments = parser.parse_args()

    with empty_site():
        found = measure(*build_project(arguments.rankings))
    print(json.dumps(vars(arguments) | found))


if __name__ == "__main__":
    main()
