"""What workers do. Enqueued by name; nobody imports this."""

from __future__ import annotations

from threading import Event

from rlhf.models.leases import claim
from rlhf.runs.supervisor import supervise

# Set when the worker was asked to leave: the trainer saves itself, and the run goes back in line.
leaving = Event()

slot = ""


def work_on(place: str) -> None:
    """Sets the host, or host/gpu, that this worker trains on."""
    global slot
    slot = place


def train(run_id: int) -> None:
    """Sees this run through, if it still waits: it may long be done, or somebody else's."""
    lease = claim(run_id, slot=slot)
    if lease:
        supervise(lease, leaving)


def look() -> bool:
    """Takes a run that waits in PostgreSQL, bell or no bell. Was there one?"""
    lease = None if leaving.is_set() else claim(slot=slot)
    if lease:
        supervise(lease, leaving)
    return lease is not None
