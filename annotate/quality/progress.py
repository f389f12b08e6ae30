"""How far the work of a project is, how quickly it goes, and what holds it up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import ceil

from django.db.models import Case, Count, F, OuterRef, Subquery, Sum, When
from django.db.models.functions import Coalesce, Least, TruncDate
from django.utils import timezone

from annotate.labels.kinds import KINDS
from annotate.labels.reviews import Review
from annotate.people.models import Project
from annotate.prompts.flags import PromptFlag
from annotate.prompts.models import Prompt
from annotate.work.assignments import Assignment, AssignmentQuerySet
from annotate.work.tasks import Task

State = Assignment.State
PACE_DAYS = 7
SHOWN_DAYS = 28
SHOWN_REMARKS = 20


@dataclass(frozen=True)
class Progress:
    """Of one kind of task. `pace`: answers a day, on those days of the last week on which anybody
    worked on it."""

    kind: str
    wanted: int
    answered: int
    pace: float

    @property
    def left(self) -> int:
        return max(self.wanted - self.answered, 0)

    @property
    def share(self) -> float:
        return min(self.answered / self.wanted, 1.0) if self.wanted else 0.0

    @property
    def days_left(self) -> int | None:
        """How many days of work it takes at this pace; None while nobody works or when nothing is
        left."""
        if not self.pace or not self.left or self.left / self.pace > 3650:
            return None
        return ceil(self.left / self.pace)

    @property
    def finish(self) -> datetime | None:
        """When it is done at the earliest, if people work every day."""
        return timezone.now() + timedelta(days=self.days_left) if self.days_left else None


def progress(project: Project) -> list[Progress]:
    # Of a task that is closed nobody wants more than it has.
    done = Case(When(closed_at=None, then=F("overlap")), default=Least("overlap", _answers()))
    due = project.tasks.ordinary().order_by().annotate(due=done)
    tasks = due.values("kind").annotate(wanted=Sum("due"))
    wanted = dict(tasks.values_list("kind", "wanted"))
    answers = Assignment.objects.of_project(project).ordinary().submitted().order_by()
    answered = _by_kind(answers)
    pace = _pace_by_kind(answers)
    return [
        Progress(kind, wanted[kind], answered.get(kind, 0), pace.get(kind, 0.0))
        for kind in Task.Kind.values
        if kind in wanted
    ]


def _answers() -> Coalesce:
    """How many were submitted to a task."""
    submitted = Assignment.objects.submitted().filter(task=OuterRef("pk")).order_by()
    counted = submitted.values("task").annotate(n=Count("pk")).values("n")
    return Coalesce(Subquery(counted), 0)


def _by_kind(answers: AssignmentQuerySet) -> dict[str, int]:
    counts = answers.values("task__kind").annotate(n=Count("pk"))
    return {row["task__kind"]: row["n"] for row in counts}


def _pace_by_kind(answers: AssignmentQuerySet) -> dict[str, float]:
    today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    lately = answers.submitted_since(today - timedelta(days=PACE_DAYS - 1))
    days = Count(TruncDate("ended_at"), distinct=True)
    counts = lately.values("task__kind").annotate(n=Count("pk"), days=days)
    return {row["task__kind"]: row["n"] / row["days"] for row in counts}


def throughput(project: Project) -> list[tuple[date, int]]:
    """(day, answers) of the last four weeks, days without any left out."""
    answers = Assignment.objects.of_project(project).ordinary().order_by()
    days = (
        answers.submitted_within(timedelta(days=SHOWN_DAYS))
        .annotate(day=TruncDate("ended_at"))
        .values("day")
        .annotate(n=Count("pk"))
    )
    return list(days.order_by("-day").values_list("day", "n"))


def queue_health(project: Project) -> dict[str, int]:
    """How many tasks are open, and how many assignments are leased, expired and skipped."""
    work = Assignment.objects.of_project(project).order_by()
    return {
        "open tasks": project.tasks.ordinary().open().count(),
        "in progress": work.leased().count(),
        "expired, open again": work.expired().count(),
        "skipped": work.filter(state=State.SKIPPED).count(),
        "reviews waiting": project.tasks.of_kind(Task.Kind.REVIEW).open().count(),
    }


def skip_reasons(project: Project) -> list[tuple[str, int]]:
    skipped = Assignment.objects.of_project(project).filter(state=State.SKIPPED).order_by()
    rows = skipped.values("skip_reason").annotate(n=Count("pk")).order_by("-n")
    names = dict(Assignment.SkipReason.choices)
    return [(str(names.get(row["skip_reason"], "no reason")), row["n"]) for row in rows]


def causes(project: Project) -> list[tuple[str, int]]:
    """What reviewers say disagreement came from, the most frequent first."""
    judged = Review.objects.filter(assignment__task__project=project).exclude(cause="").order_by()
    rows = judged.values("cause").annotate(n=Count("pk")).order_by("-n")
    return [(str(Review.Cause(row["cause"]).label), row["n"]) for row in rows]


@dataclass(frozen=True)
class Remark:
    """What a labeler has to say to the leads, beside the work."""

    when: datetime
    who: str
    about: str
    text: str
    prompt: Prompt


def remarks(project: Project) -> list[Remark]:
    """The newest comments on answers in force, notes on skipped tasks and flags on prompts, the
    newest first."""
    found = []
    for kind in KINDS.values():
        about = f"a {kind.words.one}"
        said = kind.labels.of_project(project).current().with_comment().order_by("-pk")
        for label in said.select_related("prompt", "labeler")[:SHOWN_REMARKS]:
            who, prompt = label.labeler.display_name, label.prompt
            found.append(Remark(label.created_at, who, about, label.comment, prompt))
    skipped = Assignment.objects.of_project(project).skipped_with_note().order_by("-ended_at")
    for work in skipped.select_related("task__prompt", "labeler")[:SHOWN_REMARKS]:
        assert work.ended_at
        about = f"a skip: {work.get_skip_reason_display()}"
        who, prompt = work.labeler.display_name, work.task.prompt
        found.append(Remark(work.ended_at, who, about, work.skip_note, prompt))
    flags = PromptFlag.objects.open().of_project(project).on_active_prompts().order_by("-pk")
    for flag in flags.select_related("prompt", "labeler")[:SHOWN_REMARKS]:
        about = f"a flag: {flag.get_reason_display()}"
        who = flag.labeler.display_name
        found.append(Remark(flag.flagged_at, who, about, flag.note, flag.prompt))
    return sorted(found, key=lambda each: each.when, reverse=True)[:SHOWN_REMARKS]
