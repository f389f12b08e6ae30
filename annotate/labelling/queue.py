"""Who gets which work next.

An open task has `overlap` places. An answer takes one for good, a lease till it expires. Whoever
takes a place holds the task's row while doing so, and counts the places *after* getting hold of it:
a count made in the statement that locks could be older than the lock."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet, Window
from django.db.models.functions import Now, RowNumber

from annotate.access import MAY_ACT_AS
from annotate.labels.gold import qualification_of, unseen_gold, unseen_practice
from annotate.labels.kinds.demonstration import Demonstration
from annotate.people.models import Membership, Project, User
from annotate.playground.grids import Grid
from annotate.prompts.models import PromptQuerySet
from annotate.prompts.policies import Completion, CompletionQuerySet
from annotate.work.assignments import Assignment
from annotate.work.letters import letters_of
from annotate.work.tasks import Task, TaskQuerySet
from feedback_site.prepared import prepared

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
            member = _held_member.first(labeler=labeler.pk, project=project.pk)
            if member is None:
                return None
            kinds = tuple(k for k in _kinds_of(member.role) if only in (None, k))
            if not kinds:
                return None
            if own := _begun(kinds).first(labeler=labeler.pk, project=project.pk):
                return own
            if trial := _entrance(member):
                return trial.lease
            task = _held_first(kinds, True).first(labeler=labeler.pk, project=project.pk)
            # A locked queue is not an empty one: finding all locked, wait for the first.
            task = task or _held_first(kinds, False).first(labeler=labeler.pk, project=project.pk)
            if task is None:
                return None
            if hidden := _hidden_gold_before(task, member):
                return _lease(hidden, member, Trial.HIDDEN)
            if _still_waiting(kinds)(labeler=labeler.pk, project=project.pk, task=task.pk):
                return _lease(task, member)
        time.sleep(random.uniform(0, 0.02))  # others were quicker


def tasks_for(labeler: User, project: Project, kinds: Iterable[str]) -> TaskQuerySet:
    """Open tasks with a place for this labeler, in the order in which they are handed out."""
    tasks = Task.objects.of_project(project).open().ordinary().of_kind(*kinds)
    tasks = tasks.new_to(labeler).with_a_place_for(labeler)
    if Kind.REVIEW in kinds:
        tasks = tasks.not_reviewing(labeler)
    # rank < review < write: the alphabet happens to be the order of work, and of the index.
    return tasks.order_by("kind", F("priority").desc(), "id")


def count_waiting(membership: Membership, *, at_most: int) -> dict[str, int]:
    """How many tasks of each kind wait for this member, counted up to `at_most`."""
    labeler, project = membership.user, membership.project
    return {
        kind: tasks_for(labeler, project, [kind]).order_by()[:at_most].count()
        for kind in _kinds_of(membership.role)
    }


@prepared
def _held_member(labeler: Any, project: Any) -> QuerySet[Membership]:
    members = Membership.objects.select_related("project", "user").active().with_guideline()
    mine = members.filter(user=labeler, project=project)
    return mine.select_for_update(no_key=True, of=("self",))


@dataclass(frozen=True)
class Entrance:
    """Before ordinary work: the next task of it, or None for whoever did not pass."""

    lease: Assignment | None


def _entrance(member: Membership) -> Entrance | None:
    """Practice, then qualification. None: the way to ordinary work is free."""
    qualification = qualification_of(member)
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
    is_due = every and random.Random(f"gold/{member.pk}/{task.pk}").random() < 1 / every
    if not is_due or task.kind != Kind.RANK or member.role != Role.LABELER:
        return None
    own = Assignment.objects.by(member.user).of_project(member.project)
    last = own.order_by("-id").first()
    return None if last and last.trial == Trial.HIDDEN else unseen_gold(member).first()


def _kinds_of(role: str) -> list[str]:
    if role in MAY_ACT_AS[Role.REVIEWER]:
        return [Kind.RANK, Kind.REVIEW, Kind.WRITE]
    return [Kind.RANK, Kind.WRITE] if role in MAY_ACT_AS[Role.LABELER] else []


@cache
def _begun(kinds: tuple[str, ...]) -> prepared[Assignment]:
    def build(labeler: Any, project: Any) -> QuerySet[Assignment]:
        own = Assignment.objects.by(labeler).of_project(project).leased()
        return own.filter(task__kind__in=kinds).select_related("task")[:1]

    return prepared(build)


@cache
def _held_first(kinds: tuple[str, ...], skip_locked: bool) -> prepared[Task]:
    def build(labeler: Any, project: Any) -> QuerySet[Task]:
        waiting = tasks_for(labeler, project, kinds).select_related("project")
        of = ("self",)
        return waiting.select_for_update(no_key=True, skip_locked=skip_locked, of=of)[:1]

    return prepared(build)


@cache
def _still_waiting(kinds: tuple[str, ...]) -> prepared[Task]:
    def build(labeler: Any, project: Any, task: Any) -> QuerySet[Task]:
        return tasks_for(labeler, project, kinds).filter(pk=task)

    return prepared(build)


def _lease(task: Task, member: Any, trial: str = "") -> Assignment:
    """Gives the place to this member; an own lease that had expired goes on with its draft."""
    shown_order = _different_texts(task)
    if task.kind == Kind.REVIEW:
        shown_order = list(letters_of(shown_order))  # several answers are found best by their names
    else:
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
    return sorted(dict(_said_in(task=task.pk)).values())


@prepared
def _said_in(task: Any) -> QuerySet[Completion, tuple[str, int]]:
    return Completion.objects.filter(tasks=task).order_by("-pk").values_list("text_hash", "pk")


@transaction.atomic
def open_rank_tasks(
    project: Project,
    prompts: PromptQuerySet,
    k: int,
    overlap: int,
    batch: str,
    among: CompletionQuerySet | None = None,
    at_most: int | None = None,
    priority: int = 0,
) -> int:
    """Makes a ranking task of up to `k` different completions, `among` these if given, for each
    prompt that has two or more, and none in this batch yet. Returns how many were made."""
    _one_at_a_time(project)
    ranked = Task.objects.of_kind(Kind.RANK).of_batch(batch).filter(prompt=OuterRef("pk"))
    fresh = prompts.filter(~Exists(ranked), project=project)
    candidates = _different_completions(fresh, k, among)
    return _open_ranking(project, candidates, overlap, batch, at_most=at_most, priority=priority)


@transaction.atomic
def rank_grid(grid: Grid) -> int:
    """Has people rank the answers of a playground grid. Returns how many tasks were made: of the
    prompts with answers that nobody was asked to rank before, together with those that were there
    then. Raises ValidationError for a grid that cannot be ranked yet."""
    _one_at_a_time(grid.project)
    batch = f"grid {grid.pk}"
    asked: dict[int, dict[Task, set[int]]] = {}
    for task in grid.project.tasks.of_batch(batch).prefetch_related("completions"):
        shown = {completion.pk for completion in task.completions.all()}
        asked.setdefault(task.prompt_id, {})[task] = shown
    fresh = []
    for prompt, completions in grid.store_completions():
        earlier = asked.get(prompt, {})
        if any(shown.issuperset(completions) for shown in earlier.values()):
            continue
        fresh.append((prompt, completions))
        for task, shown in earlier.items():
            if shown.issubset(completions):
                task.retire()  # the larger one asks the same, and more
    return _open_ranking(grid.project, fresh, grid.project.overlap, batch)


def _open_ranking(
    project: Project,
    candidates: Iterable[tuple[int, list[int]]],
    overlap: int,
    batch: str,
    *,
    at_most: int | None = None,
    priority: int = 0,
) -> int:
    """A task for each (prompt, completions) with at least two completions."""
    tasks: list[Task] = []
    shown: list[list[int]] = []
    for prompt_id, completions in candidates:
        if len(tasks) == at_most:
            break
        if len(completions) >= 2:
            task = Task(project=project, prompt_id=prompt_id, kind=Kind.RANK, batch=batch)
            task.overlap, task.priority = overlap, priority
            tasks.append(task)
            shown.append(completions)
    Task.objects.bulk_create(tasks, batch_size=BATCH_SIZE)
    link = Task.completions.through
    link.objects.bulk_create(
        (
            link(task_id=task.pk, completion_id=completion)
            for task, completions in zip(tasks, shown, strict=True)
            for completion in completions
        ),
        batch_size=BATCH_SIZE,
    )
    return len(tasks)


@transaction.atomic
def open_write_tasks(project: Project, prompts: PromptQuerySet, overlap: int, batch: str) -> int:
    """Makes a writing task for each prompt that has no demonstration, no open writing task and
    none in this batch yet. Returns how many were made."""
    _one_at_a_time(project)
    writing = Task.objects.of_kind(Kind.WRITE).filter(prompt=OuterRef("pk"))
    written = Demonstration.objects.current().filter(prompt=OuterRef("pk"))
    bare = prompts.filter(
        ~Exists(written), ~Exists(writing.open()), ~Exists(writing.of_batch(batch)), project=project
    )
    tasks = [
        Task(project=project, prompt_id=pk, kind=Kind.WRITE, overlap=overlap, batch=batch)
        for pk in bare.order_by("pk").values_list("pk", flat=True)
    ]
    Task.objects.bulk_create(tasks, batch_size=BATCH_SIZE)
    return len(tasks)


def _one_at_a_time(project: Project) -> None:
    """Two people who open the same batch at once do not open it twice."""
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)


def _different_completions(
    prompts: PromptQuerySet, k: int, among: CompletionQuerySet | None
) -> Iterator[tuple[int, list[int]]]:
    """Up to `k` completions of each prompt: identical texts once, policies taking turns, the newest
    of each first."""
    turn = Window(RowNumber(), partition_by=["prompt_id", "policy_id"], order_by=F("id").desc())
    rows = (
        (Completion.objects.all() if among is None else among)
        .filter(prompt__in=prompts)
        .annotate(turn=turn)
        .order_by("prompt_id", "turn", "-id")
        .values_list("prompt_id", "text_hash", "pk")
    )
    for prompt_id, group in groupby(rows.iterator(), key=lambda row: row[0]):
        different: dict[str, int] = {}
        for _, text_hash, pk in group:
            different.setdefault(text_hash, pk)
        yield prompt_id, list(different.values())[:k]
