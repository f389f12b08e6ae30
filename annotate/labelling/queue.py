"""Who gets which work next.

An open task has `overlap` places. An answer takes one for good, a lease till it expires. Whoever
takes a place holds the task's row while doing so, and counts the places *after* getting hold of it:
a count made in the statement that locks could be older than the lock."""

from __future__ import annotations

import random
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from annotate.access import MAY_ACT_AS
from annotate.labelling.hot_queries import (
    begun,
    held_first,
    held_member,
    said_in,
    still_waiting,
    tasks_for,
)
from annotate.labels.gold import qualification_of, some_gold, unseen_gold, unseen_practice
from annotate.labels.kinds import KINDS
from annotate.labels.kinds.ranking.tasks import open_ranking
from annotate.people.models import Membership, Project, User
from annotate.playground.grids import Grid
from annotate.work.assignments import Assignment
from annotate.work.letters import letters_of
from annotate.work.tasks import Task
from feedback_site.prepared import at_once

Kind = Task.Kind
Trial = Assignment.Trial
Role = Membership.Role
BATCH_SIZE = 2000


def next_assignment(labeler: User, project: Project, only: str | None = None) -> Assignment | None:
    """What this labeler does next: the work already begun, or else a free place, leased now; of one
    kind `only`, if asked for.

    None: there is nothing for this labeler, rather than nothing at this instant."""
    while True:
        with transaction.atomic():
            # Two tabs of one person that ask at the same time get the same assignment.
            # What else is asked in the same round trip is asked once that row is held.
            here = {"labeler": labeler.pk, "project": project.pk}
            about = (some_gold, {"project": project.pk})
            members, in_hand, gold = at_once((held_member, here), (begun, here), about)
            if not members:
                return None
            member: Membership = members[0]
            kinds = tuple(k for k in _kinds_of(member.role) if only in (None, k))
            if not kinds:
                return None
            # What was begun comes first, or a reload would lease a second task and leave the
            # first to run out.
            if own := [each for each in in_hand if each.task.kind in kinds]:
                return own[0]
            if trial := _entrance(member, gold):
                return trial.lease
            # Many ask at once: each takes the first task that nobody holds, instead of queueing
            # for one row.
            task = held_first(kinds, True).first(labeler=labeler.pk, project=project.pk)
            # A locked queue is not an empty one: finding all locked, wait for the first.
            task = task or held_first(kinds, False).first(labeler=labeler.pk, project=project.pk)
            if task is None:
                return None
            if hidden := _hidden_gold_before(task, member):
                return _lease(hidden, member, Trial.HIDDEN)
            found: Any = still_waiting(kinds).first(**here, task=task.pk)
            if found:
                return _lease(task, member, shown=sorted(found.shown))
        # Outside the transaction, and uneven, so that those who collided do not do so again.
        time.sleep(random.uniform(0, 0.02))  # others were quicker


def open_review(reviewer: User, project: Project, review: int) -> Assignment | None:
    """Leases this very review, one that the reviewer has skipped as well. None: it is settled,
    somebody else has it open, or it is about the reviewer's own answer."""
    with transaction.atomic():
        member = held_member.first(labeler=reviewer.pk, project=project.pk)
        if member is None or Kind.REVIEW not in _kinds_of(member.role):
            return None
        waiting = Task.objects.of_project(project).of_kind(Kind.REVIEW).open()
        waiting = waiting.not_reviewing(reviewer).select_related("project")
        task = waiting.select_for_update(no_key=True, of=("self",)).filter(pk=review).first()
        # Asked once the row is held: whoever takes a place holds it too.
        mine = Task.objects.with_a_place_for(reviewer).filter(pk=review)
        if task is None or not mine.exists():
            return None
        own = Assignment.objects.by(reviewer).filter(task=task).first()
        if own and own.is_skipped:
            own.lock().take_back(draft={})
            return own
        return own if own and own.is_leased else _lease(task, member)


def count_waiting(membership: Membership, *, at_most: int) -> dict[str, int]:
    """How many tasks of each kind wait for this member, counted up to `at_most`."""
    labeler, project = membership.user, membership.project
    return {
        kind: tasks_for(labeler, project, [kind]).order_by()[:at_most].count()
        for kind in _kinds_of(membership.role)
    }


def next_due(membership: Membership, kind: str) -> datetime | None:
    """The deadline of the next task of this kind, if it has one."""
    waiting = tasks_for(membership.user, membership.project, [kind])
    return waiting.values_list("due_at", flat=True).first()


@dataclass(frozen=True)
class Entrance:
    """Before ordinary work: the next task of it, or None for whoever did not pass."""

    lease: Assignment | None


def _entrance(member: Membership, gold: list[int]) -> Entrance | None:
    """Practice, then qualification. None: the way to ordinary work is free."""
    qualification = qualification_of(member, gold)
    if qualification is None:
        return None
    if not qualification.answered and (task := unseen_practice(member).first()):
        return Entrance(_lease(task, member, Trial.PRACTICE))
    task = None if qualification.is_over else unseen_gold(member).first()
    return Entrance(_lease(task, member, Trial.QUALIFICATION) if task else None)


def _hidden_gold_before(task: Task, member: Membership) -> Task | None:
    """A gold task to hide before this one: before one ranking in `gold_every`, never twice in a
    row, and chosen by lot so that nobody can count on it."""
    every = member.project.gold_every
    # By the member and the task: a reload draws the same lot and cannot be used to look for gold.
    is_due = every and random.Random(f"gold/{member.pk}/{task.pk}").random() < 1 / every
    is_ranking = task.kind in KINDS and KINDS[task.kind].compares
    if not is_due or not is_ranking or member.role != Role.LABELER:
        return None
    own = Assignment.objects.by(member.user).of_project(member.project)
    last = own.order_by("-id").first()
    return None if last and last.trial == Trial.HIDDEN else unseen_gold(member).first()


def _kinds_of(role: str) -> list[str]:
    reviewing = [Kind.REVIEW] if role in MAY_ACT_AS[Role.REVIEWER] else []
    labelling = list(KINDS) if role in MAY_ACT_AS[Role.LABELER] else []
    return [*labelling, *reviewing]


def _lease(task: Task, member: Any, trial: str = "", shown: list[int] | None = None) -> Assignment:
    """Gives the place to this member; an own lease that had expired goes on with its draft.
    `shown`: the different completions, where they are known."""
    shown_order = _different_texts(task) if shown is None else shown
    if task.kind == Kind.REVIEW:
        shown_order = list(letters_of(shown_order))  # several answers are found best by their names
    else:
        # Shuffled by the labeler: in one order for all, everybody would lean towards the first
        # alike. By number, so that an expired lease comes back as it was.
        random.Random(f"{task.pk}/{member.user_id}").shuffle(shown_order)
    [assignment] = Assignment.objects.bulk_create(
        [
            Assignment(
                task=task,
                labeler=member.user,
                leased_until=Now() + task.lease,
                shown_order=shown_order,
                trial=trial,
                guideline_version=member.guideline_version,
            )
        ],
        # The row of an expired lease is taken over with its draft; one statement, whatever came
        # between.
        update_conflicts=True,
        unique_fields=["task", "labeler"],
        update_fields=["leased_until", "guideline_version"],
    )
    names, values = ["id", "task_id", "labeler_id"], [assignment.pk, task.pk, member.user_id]
    leased = Assignment.from_db("default", names, values)  # the rest is read when asked for
    leased.task = task
    return leased


def _different_texts(task: Task) -> list[int]:
    """The completions to show: of those that say the same, the oldest speaks for all."""
    return sorted(dict(said_in(task=task.pk)).values())


@transaction.atomic
def rank_grid(grid: Grid, rows: Collection[int] | None = None) -> int:
    """Has people rank the answers of a playground grid, to these rows or to all. Returns how many
    tasks were made: of the prompts with answers that nobody was asked to rank before, together with
    those that were there then. Raises ValidationError for a grid that cannot be ranked yet."""
    grid.project.hold()
    batch = f"grid {grid.pk}"
    asked: dict[int, dict[Task, set[int]]] = {}
    for task in grid.project.tasks.of_batch(batch).prefetch_related("completions"):
        shown = {completion.pk for completion in task.completions.all()}
        asked.setdefault(task.prompt_id, {})[task] = shown
    fresh = []
    for prompt, completions in grid.store_completions(rows):
        earlier = asked.get(prompt, {})
        if any(shown.issuperset(completions) for shown in earlier.values()):
            continue
        fresh.append((prompt, completions))
        for task, shown in earlier.items():
            if shown.issubset(completions):
                task.retire()  # the larger one asks the same, and more
    return open_ranking(grid.project, fresh, grid.project.overlap, batch)
