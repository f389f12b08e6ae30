"""What workers do. Enqueued by name; nobody imports this."""

from __future__ import annotations

from threading import Event

from rlhf.leases import claim
from rlhf.supervisor import supervise

# Set when the worker was asked to leave: the trainer saves itself, and the run goes back in line.
leaving = Event()


def train(run_id: int) -> None:
    """The bell rang for this run. It may long be done, or somebody else's."""
    lease = claim(run_id)
    if lease:
        supervise(lease, leaving)


def look() -> bool:
    """Takes a run that waits in PostgreSQL, bell or no bell. Was there one?"""
    lease = None if leaving.is_set() else claim()
    if lease:
        supervise(lease, leaving)
    return lease is not None
