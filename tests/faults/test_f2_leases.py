"""F2: workers that freeze at any moment and wake up late never write over their successor."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from rlhf.models import Run
from tests.faults.conftest import IS_LONG, sized
from tests.rlhf.conftest import beside_the_test, wait_for

pytestmark = pytest.mark.django_db(transaction=True)

CONTENDER = Path(__file__).with_name("contender.py")
LEASE_SECONDS = 0.3
WRITES, REFUSALS = sized(short=300, long=10_000), sized(short=3, long=100)


def contend(
    run: Run, data_dir: Path, chance: random.Random, *, writes: int = WRITES, takeovers: int
) -> dict[str, int]:
    """Three workers on one run, the holder frozen until the lease has changed hands so many times
    and so much is written; their counts together."""
    env = {**beside_the_test(data_dir), "LEASE_SECONDS": str(LEASE_SECONDS)}
    command = [sys.executable, str(CONTENDER), str(run.pk)]
    pythonpath = {"PYTHONPATH": str(settings.BASE_DIR)}
    workers = [
        subprocess.Popen(command, env={**env, **pythonpath}, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    by_pid = {worker.pid: worker for worker in workers}
    freezes = 0
    try:
        wait_for(run.metrics.exists)
        while run.lease_token <= takeovers or run.metrics.count() < writes:
            time.sleep(chance.uniform(0, LEASE_SECONDS))
            run.refresh_from_db()
            holder = by_pid[int(run.worker.rsplit(":", 1)[1])]
            holder.send_signal(signal.SIGSTOP)
            # Mostly long enough to lose the lease; now and then just not.
            time.sleep(chance.uniform(0.8, 2) * LEASE_SECONDS)
            holder.send_signal(signal.SIGCONT)
            freezes += 1
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGCONT)
            worker.terminate()
        said = [worker.communicate(timeout=240)[0] for worker in workers]
    counts = [json.loads(each) for each in said]
    tried, refused = (sum(each[name] for each in counts) for name in ("tried", "refused"))
    return {"tried": tried, "refused": refused, "freezes": freezes}


def inversions(run: Run) -> int:
    """Rows of an older lease that came after one of a newer lease."""
    tokens = run.metrics.order_by("pk").values_list("lease_token", flat=True)
    newest, found = 0, 0
    for token in tokens.iterator():
        found += token < newest
        newest = max(newest, token)
    return found


@pytest.fixture
def run(project) -> Run:
    return Run.objects.create(project=project, kind=Run.Kind.SFT)


@pytest.mark.timeout(1800)
def test_f2_a_frozen_worker_writes_nothing_after_its_successor(run, data_dir, chance, report):
    # Whoever lost the lease last may be told to end before trying to write.
    counts = contend(run, data_dir, chance, takeovers=REFUSALS + 2)
    report(**counts, inversions=inversions(run), leases=Run.objects.get().lease_token)
    assert inversions(run) == 0
    assert counts["tried"] >= WRITES and counts["refused"] >= REFUSALS


@pytest.mark.skipif(IS_LONG, reason="the short form is enough to see the teeth")
def test_f2_without_the_trigger_it_would(run, data_dir, chance):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE rlhf_metric DISABLE TRIGGER require_lease")
    try:
        contend(run, data_dir, chance, writes=100, takeovers=2)  # each worker loses it once
        assert inversions(run) > 0
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE rlhf_metric ENABLE TRIGGER require_lease")
