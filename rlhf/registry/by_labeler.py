"""How often a reward model is right, labeler by labeler, with their names."""

from __future__ import annotations

from dataclasses import dataclass

from annotate.labels.agreement import Share, agreement
from annotate.models import User
from annotate.quality.labelers import newest_doubly_ranked
from rlhf.data.snapshot import pseudonym
from rlhf.models.metrics import Metric
from rlhf.models.outcomes import snapshot_of
from rlhf.models.runs import Run

ACCURACY = "reward/accuracy/labeler/"
ENDS = ("reward/accuracy_low/labeler/", "reward/accuracy_high/labeler/")


@dataclass(frozen=True)
class OfLabeler:
    """The share of somebody's held-out comparisons that the model puts the same way, with its 95 %
    interval where there is one."""

    person: User
    accuracy: float
    low: float | None
    high: float | None


def by_labeler(run: Run) -> list[OfLabeler]:
    """Lists those whose rankings were held out from a reward model's training, the least well met
    first. The trainer knows them by pseudonyms."""
    if run.kind != Run.Kind.REWARD:
        return []
    final = Metric.objects.of(run).in_split("final").last()
    values = final.values if final else {}
    if not any(name.startswith(ACCURACY) for name in values):
        return []
    people = User.objects.filter(rankings__prompt__project=run.project).distinct()
    found = [
        OfLabeler(person, values[ACCURACY + name], *(values.get(end + name) for end in ENDS))
        for person in people
        if ACCURACY + (name := pseudonym(person)) in values
    ]
    return sorted(found, key=lambda each: each.accuracy)


def agreement_behind(run: Run) -> Share | None:
    """How far the people agree with each other whose rankings a reward model has learnt from, where
    several ranked the same; of the newest of them."""
    snapshot = snapshot_of(run)
    if snapshot is None:
        return None
    return agreement(newest_doubly_ranked(snapshot.rankings.all())).share
