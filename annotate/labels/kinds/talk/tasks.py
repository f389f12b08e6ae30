"""How talks are asked for."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now

from annotate.labels.kinds.talk.turns import TalkPlan
from annotate.people.models import Membership
from annotate.prompts.models import GOAL, Prompt
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task

MOST_TALKS = 500


@transaction.atomic
def open_talks(plan: TalkPlan, *, count: int) -> list[Task]:
    """Saves the plan and makes so many tasks of it, each for one labeler. Raises ValidationError
    for policies that cannot be asked."""
    mute = [policy.name for policy in plan.speakers if not policy.can_be_asked]
    if mute:
        raise ValidationError(f"{mute[0]} has no model that could answer. Choose another policy.")
    plan.save()
    return [_open(plan, number) for number in range(1, min(count, MOST_TALKS) + 1)]


@transaction.atomic
def open_own_talk(plan: TalkPlan, membership: Membership) -> Assignment:
    """One talk, held by whoever asks for it."""
    [task] = open_talks(plan, count=1)
    return Assignment.objects.create(
        task=task,
        labeler=membership.user,
        leased_until=Now() + task.lease,
        guideline_version=getattr(membership, "guideline_version", None),
    )


def _open(plan: TalkPlan, number: int) -> Task:
    # A task is about a prompt, and what a talk is about is its goal. It asks no model anything:
    # out of use from the first, it is in no list and in no data.
    about = {"role": "system", "content": f"{plan.batch}, number {number}"}
    goal = Prompt(
        project=plan.project,
        messages=[about, {"role": "user", "content": plan.goal}],
        source=GOAL,
        archived_at=Now(),
    )
    goal.save()
    return Task.objects.create(
        project=plan.project, prompt=goal, kind=Task.Kind.TALK, batch=plan.batch
    )
