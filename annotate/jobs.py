"""Short background work, rung for by name on the queue “label”. Each job may run twice."""

from __future__ import annotations

from annotate.chat.feedback import Feedback

BATCH = 100


def harvest(feedback_id: int) -> None:
    """From thumb to label, or back. The thumb may be gone by now: its chat was deleted."""
    feedback = Feedback.objects.filter(pk=feedback_id).first()
    if feedback:
        feedback.harvest()


def harvest_waiting() -> int:
    """The thumbs whose bell was not heard. Workers call this from time to time."""
    waiting = list(Feedback.objects.unharvested()[:BATCH])
    for feedback in waiting:
        feedback.harvest()
    return len(waiting)
