"""How long the page of a playground grid takes, with 200 rows and 4 columns of answers.

Builds it in a PostgreSQL of its own and asks the page, sorted, searched and compared too, through
Django's test client. One line of JSON comes out: the slowest of ten, by the clock and by the time
this process worked (the rest is PostgreSQL's, and whoever else wants the cores), bytes and
queries.

    .venv/bin/python -m benchmarks.grid_page [--rows 200] [--columns 4]
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from typing import Any

from benchmarks.empty_site import empty_site

ANSWER = "An egg is boiled for **eight** minutes in water. " * 16
CHECKS = "readable, length(1-500), contains(egg)"
SCORES = {"readable": 1.0, "length": 1.0, "contains": 1.0}


def build(rows: int, columns: int) -> Any:
    from annotate.models import Grid, Membership, Project
    from annotate.playground.grids import Column

    project = Project.objects.create(name="Large", slug="large")
    olga = project.admit(name="olga", role=Membership.Role.OPERATOR)
    base = project.policies.create(name="base", origin="base", folder="none")
    grid = Grid.lay_out(
        project=project,
        author=olga,
        prompts=[f"Prompt {number}: " + "why " * 60 for number in range(rows)],
        columns=[Column(base.pk, system_prompt=f"{number}") for number in range(columns)],
        checks=CHECKS,
    )
    grid.cells.update(
        state="answered",
        text=ANSWER,
        scores=SCORES,
        completion_tokens=150,
        total_ms=900,
        first_ms=90,
    )
    return grid


def measure(grid: Any) -> dict[str, float]:
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext
    from django.urls import reverse

    browser = Client()
    browser.force_login(grid.author)
    place = [grid.project.slug, grid.pk]
    page = reverse("playground_grid", args=place)
    found: dict[str, float] = {}
    for name, address in (
        ("page", page),
        ("sorted", f"{page}?sort=contains&down=on&page=3"),
        ("found", f"{page}?words=minutes"),
        ("diff", reverse("playground_diff", args=place)),
    ):
        taken, worked = [], []
        for _ in range(11):
            with CaptureQueriesContext(connection) as queries:
                began, began_working = time.perf_counter(), time.process_time()
                answer = browser.get(address)
                worked.append(time.process_time() - began_working)
                taken.append(time.perf_counter() - began)
        assert answer.status_code == 200, answer.status_code
        found |= {
            f"{name}_ms": 1000 * max(taken[1:]),
            f"{name}_cpu_ms": 1000 * max(worked[1:]),
            f"{name}_kb": len(answer.content) / 1000,
            f"{name}_gzip_kb": len(gzip.compress(answer.content)) / 1000,
            f"{name}_queries": len(queries),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--columns", type=int, default=4)
    arguments = parser.parse_args()

    with empty_site():
        found = measure(build(arguments.rows, arguments.columns))
    print(json.dumps(vars(arguments) | {name: round(value, 1) for name, value in found.items()}))


if __name__ == "__main__":
    main()
