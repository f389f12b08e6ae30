"""Answers of the cast, as tests of reviews want them."""

from annotate.labelling.queue import next_assignment
from annotate.models import Demonstration, Placement, Ranking, Task


def rank(labeler, project, order, **said):
    """The next task, ranked: `order` names the completions from the best to the worst; a list in it
    is a tie."""
    work = next_assignment(labeler, project)
    pks = sorted(work.shown_order)
    tiers = [tier if isinstance(tier, list) else [tier] for tier in order]
    placements = [
        Placement(completion_id=pks[index], place=place, flags=said.get("flags", []))
        for place, tier in enumerate(tiers, start=1)
        for index in tier
    ]
    said.pop("flags", None)
    return Ranking.record(assignment=work, placements=placements, **said)


def write(labeler, project, text="Boil it for six minutes.", **effort):
    work = next_assignment(labeler, project, only="write")
    return Demonstration.record(assignment=work, text=text, **effort)


def doubts():
    return [review.doubts for review in Task.objects.of_kind("review")]
