"""S9: kills leave neither a change without its audit entry nor a gap in the chain."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from annotate.audit.chain import verify
from annotate.models import AuditEntry, Project
from tests.faults.conftest import sized
from tests.rlhf.conftest import beside_the_test, wait_for

pytestmark = pytest.mark.django_db(transaction=True)
KILLS = sized(short=4, long=60)
WRITERS = 3
AUDITOR = Path(__file__).with_name("auditor.py")


def entries_after(earlier: int) -> None:
    """Waits till somebody has written again."""
    wait_for(lambda: AuditEntry.objects.count() > earlier, seconds=120)


def nothing_is_under_way() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND state <> 'idle'"
        )
        return cursor.fetchone() == (0,)


def test_kills_leave_no_gap_and_no_change_without_an_entry(
    chance: random.Random, report, tmp_path: Path
):
    env = beside_the_test(tmp_path) | {"PYTHONPATH": str(settings.BASE_DIR)}
    started = 0

    def start() -> subprocess.Popen[bytes]:
        nonlocal started
        started += 1
        command = [sys.executable, str(AUDITOR), f"writer-{started}"]
        return subprocess.Popen(command, cwd=settings.BASE_DIR, env=env)

    writers = [start() for _ in range(WRITERS)]
    try:
        for _ in range(KILLS):
            entries_after(AuditEntry.objects.count() + chance.randrange(20))
            time.sleep(chance.random() / 50)
            killed = writers.pop(chance.randrange(len(writers)))
            killed.send_signal(signal.SIGKILL)
            killed.wait()
            writers.append(start())
    finally:
        for each in writers:
            each.send_signal(signal.SIGKILL)
            each.wait()
    wait_for(nothing_is_under_way)  # what was sent before the kill may still be under way
    entries = verify().number
    names = set(Project.objects.values_list("name", flat=True))
    assert names == set(AuditEntry.objects.values_list("action", flat=True))
    assert len(names) == entries > KILLS
    report(kills=KILLS + WRITERS, entries=entries)
