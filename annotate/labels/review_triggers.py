"""Which answers a reviewer should look at, decided when they come in or are taken back."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from functools import cache
from statistics import median
from typing import Any

from django.db.models import QuerySet

from annotate.labels.agreement import share_agreed
from annotate.labels.gold import failed_while_hidden, settle_trial
from annotate.work.assignments import Answer, Assignment
from annotate.work.tasks import Task
from feedback_site.prepared import prepared

Doubt = Task.Doubt
# Fewer give no median to trust; more would hold today's pace against that of months ago.
FEWEST_TIMES, MOST_TIMES = 20, 200
TIMES_LAST = 60  # seconds: of so many, those of the last minute hardly move the median
# (project, kind) → the median of that many, and until when it is taken for the newest.
_usual_times: dict[tuple[int, str], tuple[float, float]] = {}


def open_review_if_needed(answered: Assignment, given: Answer) -> None:
    """Opens a review if what was answered, by the label just `given`, raises doubts: of an ordinary
    task once all wanted answers are in. Call it under the lock of the task's row."""
    task = answered.task
    if answered.trial:
        if settle_trial(answered):
            task.ask_for_review([Doubt.GOLD_FAILED])
        return
    # Half of the answers would raise doubts that the other half settles.
    if task.kind == Task.Kind.REVIEW or task.closed_at is None:
        return
    # The one just given is at hand, with its placements.
    new: list[Any] = [given, *_unreviewed(type(given))(task=task.pk, besides=given.pk)]
    too_fast = _too_fast_for(task) if any(label.active_seconds for label in new) else 0.0
    about_each = (doubt for label in new for doubt in _about(task, label, too_fast))
    if doubts := {*_about_all(task, new), *about_each}:
        task.ask_for_review(doubts)


def withdraw_review(taken_back: Assignment, kind: type[Answer]) -> None:
    """Takes the review of the task away if an undo has left it without what it was opened for, and
    nobody has opened it yet. The answer given anew is looked over anew. Call it under the lock of
    the task's row."""
    task = taken_back.task
    if task.gold_id or task.closed_at:
        left = kind.objects.current().of_task(task).unreviewed()
        if failed_while_hidden(left) if task.gold_id else left.exists():
            return
    task.withdraw_review()


@cache
def _unreviewed(kind: type[Answer]) -> prepared[..., Any]:
    def build(task: int, besides: int) -> QuerySet[Any]:
        others = kind.objects.exclude(pk=besides).current()
        return others.of_task(task).unreviewed().with_placements()

    return prepared(build)


def _about_all(task: Task, labels: Sequence[Any]) -> Iterator[str]:
    # Drawn from the task's number: asking again, after an edit or an undo, gives the same lot.
    if random.Random(f"review/{task.pk}").random() * 100 < task.project.random_review_percent:
        yield Doubt.RANDOM
    share = share_agreed([label.places for label in labels])
    if share is not None and share * 100 < task.project.low_agreement_percent:
        yield Doubt.LOW_AGREEMENT


def _about(task: Task, label: Any, too_fast: float) -> Iterator[str]:
    if label.supersedes_id and label.supersedes.reviews.exists():
        yield Doubt.CORRECTED
    if 0 < label.active_seconds < too_fast:
        yield Doubt.TOO_FAST
    yield from label.doubts(task.project)


def _too_fast_for(task: Task) -> float:
    """Seconds under which an answer is too fast: a share of the median active time of the project's
    latest answers of this kind; 0 while they are few. Zero is not a time: a browser without
    JavaScript measures none."""
    key = task.project_id, task.kind
    usual, till = _usual_times.get(key, (0.0, 0.0))
    if time.monotonic() > till:
        times = _latest_times(project=task.project_id, kind=task.kind)
        if len(times) < FEWEST_TIMES:
            return 0.0
        usual = median(times)
        if len(times) == MOST_TIMES:
            _usual_times[key] = usual, time.monotonic() + TIMES_LAST
    return usual * task.project.too_fast_percent / 100


@prepared
def _latest_times(project: int, kind: str) -> QuerySet[Assignment, int]:
    timed = Assignment.objects.of_project(project).of_kind(kind).timed()
    return timed.order_by("-id").values_list("active_seconds", flat=True)[:MOST_TIMES]
