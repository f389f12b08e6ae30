"""What workers do. Enqueued by name; nobody imports this."""

from __future__ import annotations

import logging
from threading import Event

from django.db import close_old_connections, connection

from rlhf.models.leases import DATABASE_AWAY, Lease, claim, worker_name
from rlhf.models.machines import Machine
from rlhf.runs.machine_figures import machine_figures
from rlhf.runs.supervisor import supervise
from rlhf.trackers.telling import tell_soon

logger = logging.getLogger(__name__)

REPORT_EVERY = 5.0  # seconds

# Set when the worker was asked to leave: the trainer saves itself, and the run goes back in line.
leaving = Event()
paused = Event()  # while somebody has paused this machine: as if it left, but it stays


class Stop(Event):
    """Set as long as one of the two is."""

    def is_set(self) -> bool:
        return leaving.is_set() or paused.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        leaving.wait(timeout)
        return self.is_set()


stop = Stop()
slot = ""


def work_on(place: str) -> None:
    """Sets the host, or host/gpu, that this worker trains on."""
    global slot
    slot = place


def keep_reporting() -> None:
    """Says what the machine has and uses until the worker leaves; hears whether it is paused."""
    while not leaving.is_set():
        report()
        leaving.wait(REPORT_EVERY)
    connection.close()


def report() -> None:
    """Says what the machine has and uses now, and hears whether it is paused."""
    try:
        figures = machine_figures(slot.partition("/")[2])
        machine = Machine.report(slot, worker=worker_name(), figures=figures)
        (paused.set if machine.takes == Machine.Takes.NOTHING else paused.clear)()
    except DATABASE_AWAY as error:
        logger.warning("the machine cannot report: %s", error)
    except Exception:
        logger.exception("the machine cannot report")
    close_old_connections()


def train(run_id: int) -> None:
    """Sees this run through, if it still waits: it may long be done, or somebody else's."""
    lease = claim(run_id, slot=slot)
    if lease:
        _see_through(lease)


def look() -> bool:
    """Takes a run that waits in PostgreSQL, bell or no bell. Was there one?"""
    lease = None if stop.is_set() else claim(slot=slot)
    if lease:
        _see_through(lease)
    return lease is not None


def _see_through(lease: Lease) -> None:
    try:
        supervise(lease, stop)
    finally:
        tell_soon(lease.run.pk)
