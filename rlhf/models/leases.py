"""Who works on which run: claim, heartbeat, fence.

A claim grows the run's `lease_token` by one; a write counts only while the token is still the
writer's own. All times come from the database, so the workers' clocks do not matter."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import (
    InterfaceError,
    OperationalError,
    close_old_connections,
    connection,
    transaction,
)

from rlhf.models.runs import LeaseLost, Run

logger = logging.getLogger(__name__)

DATABASE_AWAY = (OperationalError, InterfaceError)

# Also how late a cancel may be heard, which is why it is short even under a long lease.
LONGEST_BEAT = 2.0

CLAIM = """
UPDATE rlhf_run SET
    state = 'running',
    lease_token = lease_token + 1,
    leased_until = clock_timestamp() + %(seconds)s * interval '1 second',
    worker = %(worker)s,
    slot = %(slot)s,
    attempts_without_progress = attempts_without_progress + 1,
    started_at = coalesce(started_at, clock_timestamp()),
    worked = worked + coalesce(leased_until - taken_at, interval '0'),
    taken_at = clock_timestamp()
WHERE id = (
    SELECT id FROM rlhf_run AS run
    WHERE (state = 'queued' OR (state = 'running' AND leased_until < clock_timestamp()))
      AND (%(run)s::bigint IS NULL OR id = %(run)s)
      AND pinned_to IN ('', %(slot)s, split_part(%(slot)s, '/', 1))
      AND NOT EXISTS (
          SELECT 1 FROM rlhf_run AS other
          WHERE other.slot = %(slot)s AND %(slot)s <> '' AND other.state = 'running'
            AND other.leased_until >= clock_timestamp())
      AND NOT EXISTS (
          SELECT 1 FROM rlhf_run AS earlier
          WHERE earlier.round_id = run.round_id AND earlier.position < run.position
            AND earlier.state <> 'succeeded')
    ORDER BY priority DESC, id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, lease_token
"""

BEAT = """
UPDATE rlhf_run SET leased_until = clock_timestamp() + %(seconds)s * interval '1 second'
WHERE id = %(run)s AND lease_token = %(token)s AND state = 'running'
RETURNING cancel_requested
"""


@dataclass(frozen=True)
class Lease:
    run: Run
    token: int

    @property
    def folder(self) -> str:
        """Names the folder where this attempt writes, relative to DATA_DIR. Files cannot be fenced:
        nobody else's attempt has this folder, and what lies in it counts once a row says so."""
        return f"{self.run.folder}/t{self.token}"

    @property
    def path(self) -> Path:
        """Gives the folder of this attempt."""
        return settings.DATA_DIR / self.folder

    @contextmanager
    def fenced(self) -> Iterator[Run]:
        """Opens a transaction in which nobody can take the run over, and gives its fresh row,
        locked. Raises LeaseLost."""
        with transaction.atomic():
            mine = Run.objects.filter(
                pk=self.run.pk, lease_token=self.token, state=Run.State.RUNNING
            )
            # With the key free, rows that refer to the run are still inserted meanwhile.
            run = mine.select_for_update(no_key=True).first()
            if run is None:
                raise LeaseLost(f"{self.run} belongs to another worker")
            yield run

    def beat(self) -> bool:
        """Prolongs the lease. Has somebody asked to cancel?"""
        values = {
            "seconds": settings.LEASE_SECONDS,
            "run": self.run.pk,
            "token": self.token,
        }
        with connection.cursor() as cursor:
            cursor.execute(BEAT, values)
            row = cursor.fetchone()
        if row is None:
            raise LeaseLost(f"{self.run} belongs to another worker")
        return row[0]


def worker_name() -> str:
    """Names this process as pages do: host:process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


def claim(run_id: int | None = None, *, slot: str = "") -> Lease | None:
    """Takes this run, or the first that waits; also one whose worker has gone silent.

    `slot`: the host, or host/gpu, that would do it. None while another run works there: two
    trainings would share one memory. Without a slot nothing is excluded."""
    values = {"seconds": settings.LEASE_SECONDS, "worker": worker_name(), "run": run_id}
    with transaction.atomic(), connection.cursor() as cursor:
        if slot:
            # Two workers of one slot that claimed at once would not see each other's row.
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [slot])
        cursor.execute(CLAIM, {**values, "slot": slot})
        row = cursor.fetchone()
        if row is None:
            return None
        run = Run.objects.select_related("project", "round__base").get(pk=row[0])
        run.tell()
    return Lease(run=run, token=row[1])


class Heart:
    """Beats from a thread, and so over a connection, of its own."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.lost = threading.Event()
        self.cancel_requested = threading.Event()
        self.when_lost: Callable[[], None] = lambda: None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease of {lease.run}")

    def _beat(self) -> None:
        while not self._stop.wait(min(settings.LEASE_SECONDS / 6, LONGEST_BEAT)):
            try:
                if self.lease.beat():
                    self.cancel_requested.set()
            except LeaseLost:
                self.lost.set()
                self.when_lost()
                break
            except DATABASE_AWAY as error:
                # Nobody can take the run over either. If somebody does once the database is back,
                # the next beat learns of it, and the fence refuses what was written until then.
                logger.warning("no heartbeat for %s: %s", self.lease.run, error)
            finally:
                close_old_connections()
        connection.close()


@contextmanager
def beating(lease: Lease) -> Iterator[Heart]:
    """Keeps the lease alive from a thread while the block runs."""
    heart = Heart(lease)
    heart._thread.start()
    try:
        yield heart
    finally:
        heart._stop.set()
        heart._thread.join()
