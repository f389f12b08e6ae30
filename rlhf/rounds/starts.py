"""When the runs in the queue will start, by what runs alike took."""

from __future__ import annotations

from rlhf.models.machines import Machine
from rlhf.models.metrics import Metric
from rlhf.models.runs import Run
from rlhf.rounds.estimate import seconds_as_before
from rlhf.runs.queue import Queue

Starts = dict[int, float]  # run → seconds from now


def starts_of(queue: Queue) -> Starts:
    """Plays the queue through: whatever waits goes to the machine that is free first. A run has no
    entry where no machine may take it, or where it follows one of which nothing is known. Stages
    of the same round that come later are not in the queue, and make the others wait longer."""
    free: dict[str, float | None] = {
        place.machine.slot: seconds_left_of(place.run) if place.run else 0.0
        for place in queue.places
        if place.is_here and place.machine.takes == Machine.Takes.ANY
    }
    starts: Starts = {}
    for run in queue.waiting:
        fitting = [slot for slot in free if _fits(run, slot)]
        known = [(seconds, slot) for slot in fitting if (seconds := free[slot]) is not None]
        if not known or len(known) < len(fitting):
            continue  # whichever is not known may be the first
        start, slot = min(known)
        starts[run.pk] = start
        took = seconds_as_before(run)
        free[slot] = None if took is None else start + took
    return starts


def seconds_left_of(run: Run) -> float | None:
    """Of a run that works, by its own pace; None while it has none."""
    pace = Metric.objects.seconds_a_step(run) if run.taken_at else None
    return None if pace is None else pace * max(run.total_steps - run.step, 0)


def _fits(run: Run, slot: str) -> bool:
    return run.pinned_to in ("", slot) or slot.startswith(f"{run.pinned_to}/")
