"""How long the page of a round takes whose run wrote millions of rows of metrics.

Builds a project in a PostgreSQL of its own and asks, through Django's test client, the page, its
charts, the numbers that these fetch of the whole run, and those of windows of several widths. JSON
comes out: the median time of each and the slowest, and the bytes.

    .venv/bin/python -m benchmarks.round_page [--rows 2000000]
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.empty_site import empty_site

WIDTHS = (100, 300, 10_000, 1_000_000)  # steps; up to 300 every one is sent
VALUES = ("objective/scores", "objective/kl", "policy/entropy", "response/length", "lr")


def build(rows: int) -> Any:
    """A round whose PPO has written `rows` rows of training, and a tenth as many held-out ones."""
    from django.db import connection
    from django.utils import timezone

    from annotate.models import Membership, Project
    from rlhf.models import Round, Run

    project = Project.objects.create(name="Long", slug="long")
    olga = project.admit(name="olga", role=Membership.Role.OPERATOR)
    base = project.policies.create(name="base", origin="base", folder="none")
    made = Round.objects.create(
        project=project, number=1, base=base, recipe="large", launched_by=olga
    )
    run = Run.objects.create(
        project=project, round=made, kind=Run.Kind.PPO, position=1, total_steps=rows, step=rows
    )
    pairs = ", ".join(f"'{name}', random() * 10" for name in VALUES)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE rlhf_metric DISABLE TRIGGER USER")  # nobody holds a lease here
        for split, every in (("train", 1), ("test", 10)):
            cursor.execute(
                "INSERT INTO rlhf_metric (lease_token, run_id, step, split, values, time)"  # noqa: S608
                f" SELECT 0, %s, n, %s, jsonb_build_object({pairs}), %s"
                " FROM generate_series(1, %s, %s) AS n",
                [run.pk, split, timezone.now(), rows, every],
            )
        cursor.execute("ANALYZE rlhf_metric")
    return run


def measure(run: Any, repeats: int) -> dict[str, Any]:
    from django.test import Client
    from django.urls import reverse

    browser = Client()
    browser.force_login(run.round.launched_by)
    of_round = [run.project.slug, run.round.number]
    numbers = reverse("rounds_metrics", args=[run.project.slug, run.pk])
    asked = {
        "page": [reverse("rounds_show", args=of_round)],
        "charts": [reverse("rounds_charts", args=of_round)],
        "metrics": [numbers],
        **{f"zoom_{width}": list(windows(numbers, run.step, width)) for width in WIDTHS},
    }
    found: dict[str, Any] = {}
    for name, addresses in asked.items():
        browser.get(addresses[0])  # the first request of a process loads its templates
        taken, sizes = [], []
        for turn in range(repeats):
            began = time.perf_counter()
            answer = browser.get(addresses[turn % len(addresses)])
            taken.append(1000 * (time.perf_counter() - began))
            sizes.append(len(answer.content) / 1000)
            assert answer.status_code == 200, answer.status_code
        taken.sort()
        found[name] = {
            "median_ms": round(taken[len(taken) // 2], 1),
            "slowest_ms": round(taken[-1], 1),
            "kb": round(max(sizes), 1),
            "gzip_kb": round(len(gzip.compress(answer.content)) / 1000, 1),
        }
    return found


def windows(address: str, steps: int, width: int) -> Iterator[str]:
    """Addresses of the numbers of so many steps, at several places of a run."""
    for tenth in range(1, 10):
        after = max(steps * tenth // 10 - width, 0)
        yield f"{address}?after={after}&last={after + width}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()

    with empty_site():
        found = measure(build(arguments.rows), arguments.repeats)
    print(json.dumps(vars(arguments) | found, indent=1))


if __name__ == "__main__":
    main()
