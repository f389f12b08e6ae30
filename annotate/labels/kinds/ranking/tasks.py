"""How rankings are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Window
from django.db.models.functions import RowNumber

from annotate.people.models import Project
from annotate.prompts.models import PromptQuerySet
from annotate.prompts.policies import Completion, CompletionQuerySet
from annotate.work.tasks import TASKS_AT_ONCE, Task


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
    project.hold()
    ranked = Task.objects.of_kind(Task.Kind.RANK).of_batch(batch).filter(prompt=OuterRef("pk"))
    fresh = prompts.filter(~Exists(ranked), project=project)
    candidates = _different_completions(fresh, k, among)
    return open_ranking(project, candidates, overlap, batch, at_most=at_most, priority=priority)


def open_ranking(
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
            task = Task(project=project, prompt_id=prompt_id, kind=Task.Kind.RANK, batch=batch)
            task.overlap, task.priority = overlap, priority
            tasks.append(task)
            shown.append(completions)
    Task.objects.bulk_create(tasks, batch_size=TASKS_AT_ONCE)
    link = Task.completions.through
    link.objects.bulk_create(
        (
            link(task_id=task.pk, completion_id=completion)
            for task, completions in zip(tasks, shown, strict=True)
            for completion in completions
        ),
        batch_size=TASKS_AT_ONCE,
    )
    return len(tasks)


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
