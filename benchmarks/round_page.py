"""How long the page of a round takes whose run wrote millions of rows of metrics.

Builds a project in a PostgreSQL of its own and asks the page, and the numbers its charts fetch,
through Django's test client. One line of JSON comes out: the slowest of ten, and the bytes of both.

    .venv/bin/python -m benchmarks.round_page [--rows 2000000]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import time
from typing import Any

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


def measure(run: Any) -> dict[str, float]:
    from django.test import Client
    from django.urls import reverse

    browser = Client()
    browser.force_login(run.round.launched_by)
    found: dict[str, float] = {}
    for name, address in (
        ("page", reverse("rounds_show", args=[run.project.slug, run.round.number])),
        ("metrics", reverse("rounds_metrics", args=[run.project.slug, run.pk])),
    ):
        taken = []
        for _ in range(11):
            began = time.perf_counter()
            answer = browser.get(address)
            taken.append(time.perf_counter() - began)
        assert answer.status_code == 200, answer.status_code
        found |= {
            f"{name}_ms": 1000 * max(taken[1:]),
            f"{name}_kb": len(answer.content) / 1000,
            f"{name}_gzip_kb": len(gzip.compress(answer.content)) / 1000,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    arguments = parser.parse_args()

    from feedback_site import embedded

    with embedded.throw_away() as environment:
        os.environ |= environment | {"DJANGO_SETTINGS_MODULE": "feedback_site.settings"}
        import django

        django.setup()
        from django.conf import settings
        from django.core.management import call_command
        from django.db import connection

        settings.ALLOWED_HOSTS.append("testserver")
        call_command("migrate", verbosity=0)
        found = measure(build(arguments.rows))
        connection.close()
        connection.close_pool()
    print(json.dumps(vars(arguments) | {name: round(value, 1) for name, value in found.items()}))


if __name__ == "__main__":
    main()
