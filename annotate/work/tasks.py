"""Pieces of human work. Who holds them is said in `assignments`, who gets which in
`labelling.queue`."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime, timedelta
from typing import Any, Self

from django.apps import apps
from django.contrib.postgres.fields import ArrayField
from django.db import connection, models, transaction
from django.db.models import Count, Exists, F, Func, OuterRef, Prefetch, Q, Subquery
from django.db.models.functions import Coalesce, Now
from django.urls import reverse
from django.utils import timezone
from django.utils.timezone import localdate

from annotate.notices.models import News
from annotate.people.models import Membership, Project, User
from annotate.prompts.models import GOAL, Prompt
from annotate.prompts.policies import Completion
from annotate.webhooks.models import Event, announce
from feedback_site.prepared import at_once, prepared, prepared_update

# With so many open tasks, those that are closed at this very moment are not the last ones.
CROWD = 100
# What is handed out before what, whatever its priority.
WORK_ORDER = ("rank", "review", "edit", "talk", "write")
# The place of a task's kind in that order. The constants stand in the statement itself: as values
# sent apart from it they would hide from the planner that the index below has this very order.
TURN = Func(
    F("kind"),
    template="CASE %(expressions)s "
    + " ".join(f"WHEN '{kind}' THEN {turn}" for turn, kind in enumerate(WORK_ORDER))
    + " END",
    output_field=models.SmallIntegerField(),
)
TASKS_AT_ONCE = 2000  # rows in a statement


def last_day(due_at: datetime | None) -> date | None:
    """The day that ends with this deadline, where the viewer is."""
    return localdate(due_at - timedelta(seconds=1)) if due_at else None


class Unnest(Func):
    """A row for each element of an array."""

    function = "unnest"
    set_returning = True
    output_field = models.CharField()


class TaskQuerySet(models.QuerySet["Task"]):
    @property
    def _assignments(self) -> Any:
        # By name: an assignment knows its task, and this module not the assignments.
        return apps.get_model("annotate", "Assignment").objects.all()

    def of_project(self, project: Project | int) -> Self:
        return self.filter(project=project)

    def open(self) -> Self:
        return self.filter(closed_at=None)

    def closed(self) -> Self:
        return self.exclude(closed_at=None)

    def with_answers(self) -> Self:
        """Adds `answers`: how many have come in."""
        state = self._assignments.model.State.SUBMITTED
        return self.annotate(answers=Count("assignments", filter=Q(assignments__state=state)))

    def with_subjects(self) -> Self:
        """Reviews with the prompt, and `answers`: how many answers they are of."""
        answers = Count(
            "subject__assignments",
            filter=Q(subject__assignments__state=self._assignments.model.State.SUBMITTED),
        )
        return self.select_related("prompt", "subject").annotate(answers=answers)

    def doubted(self, doubt: str) -> Self:
        """Reviews that were asked for this reason, among others."""
        return self.filter(doubts__contains=[doubt])

    def of_subjects_of_kind(self, kind: str) -> Self:
        return self.filter(subject__kind=kind)

    def of_answers_by(self, labeler: User) -> Self:
        """Reviews of something that this labeler answered."""
        theirs = self._assignments.filter(task=OuterRef("subject"), labeler=labeler).submitted()
        return self.filter(Exists(theirs))

    def older_than(self, age: timedelta) -> Self:
        return self.filter(created_at__lt=Now() - age)

    def with_decisions(self) -> Self:
        """Reviews with `decisions`: how they were ended, by whom, with what verdicts."""
        ended = self._assignments.submitted().select_related("labeler")
        ended = ended.prefetch_related("reviews")
        return self.prefetch_related(Prefetch("assignments", ended, to_attr="decisions"))

    def in_working_order(self, *kinds: str) -> Self:
        """Those of these kinds, as the queue reads them."""
        turns = [WORK_ORDER.index(kind) for kind in kinds]
        ordered = self.alias(turn=TURN).filter(turn__in=turns)
        return ordered.order_by(TURN, F("priority").desc(), F("due_at").asc(), "id")

    def suited_to(self, labeler: User | int, project: Project | int) -> Self:
        """Without those that ask for a language or a skill which this member does not have."""
        known = Membership.objects.filter(user=labeler, project=project)
        language = Q(language="") | Q(language__in=known.values(one=Unnest("languages")))
        return self.filter(language, Q(skill="") | Q(skill__in=known.values(one=Unnest("skills"))))

    def of_kind(self, *kinds: str) -> Self:
        return self.filter(kind__in=kinds)

    def of_batch(self, batch: str) -> Self:
        return self.filter(batch=batch)

    def with_a_place_for(self, labeler: User | int) -> Self:
        """Tasks that want one answer more than the others have given or hold a lease to give."""
        taken = (
            self._assignments.filter(task=OuterRef("pk"))
            .exclude(labeler=labeler)
            .holding_a_place()
            .order_by()
            .values("task")
            .annotate(n=Count("pk"))
            .values("n")
        )
        # No row, no count: a task that nobody has met yet has every place free.
        return self.alias(taken=Coalesce(Subquery(taken), 0)).filter(taken__lt=F("overlap"))

    def answered(self) -> Self:
        """Tasks that have all the answers they want."""
        answers = self._assignments.filter(task=OuterRef("pk")).submitted().order_by()
        counted = answers.values("task").annotate(n=Count("pk")).values("n")
        return self.alias(answers_in=Subquery(counted)).filter(answers_in__gte=F("overlap"))

    def ordinary(self) -> Self:
        return self.filter(gold=None)

    def gold(self) -> Self:
        """Open tasks with a known answer that people are measured by."""
        return self.open().filter(gold__isnull=False, is_practice=False)

    def practice(self) -> Self:
        return self.open().filter(gold__isnull=False, is_practice=True)

    def without_labels_by(self, labeler: User | int) -> Self:
        """Without the prompts to which this labeler gave a label."""
        return self.exclude(Exists(_prompts_labelled_by(labeler)))

    def new_to(self, labeler: User | int) -> Self:
        """Without what this labeler answered, skipped or holds; an expired lease may come back."""
        # Whoever let a lease run out may have the task again, draft and all; who skipped it said
        # no.
        met = self._assignments.filter(task=OuterRef("pk"), labeler=labeler).without_expired()
        return self.filter(~Exists(met))

    def held_by(self, labeler: User | int) -> Self:
        """What this labeler has a lease on."""
        held = self._assignments.filter(task=OuterRef("pk"), labeler=labeler).leased()
        return self.filter(Exists(held))

    def not_reviewing(self, labeler: User | int) -> Self:
        """Without the reviews of prompts to which this labeler gave a label."""
        return self.exclude(Q(kind=self.model.Kind.REVIEW) & Exists(_prompts_labelled_by(labeler)))


def _prompts_labelled_by(labeler: User | int) -> models.QuerySet[Prompt]:
    has_label = Q(demonstrations__labeler=labeler) | Q(rankings__labeler=labeler)
    has_label |= Q(talks__labeler=labeler)
    return Prompt.objects.filter(has_label, pk=OuterRef("prompt"))


class Task(models.Model):
    class Kind(models.TextChoices):
        WRITE = "write"
        RANK = "rank"
        REVIEW = "review"
        EDIT = "edit"
        TALK = "talk"

    class Doubt(models.TextChoices):
        """Why the answers to a task are to be reviewed."""

        LOW_AGREEMENT = "low_agreement", "low agreement"
        GOLD_FAILED = "gold_failed", "gold failed"
        FLAGGED = "flagged"
        ALL_BAD = "all_bad", "all bad"
        TOO_FAST = "too_fast", "too fast"
        NEW_WRITER = "new_writer", "new writer"
        GUEST = "guest", "from a guest"
        CORRECTED = "corrected", "corrected after being sent back"
        RANDOM = "random", "random sample"

    project = models.ForeignKey(Project, models.CASCADE, related_name="tasks")
    prompt = models.ForeignKey(Prompt, models.CASCADE, related_name="tasks")
    kind = models.CharField(max_length=10, choices=Kind)
    completions = models.ManyToManyField(Completion, related_name="tasks", blank=True)
    overlap = models.PositiveSmallIntegerField(default=1)
    priority = models.SmallIntegerField(default=0, help_text="Higher comes first.")
    due_at = models.DateTimeField(null=True, help_text="Of the same priority, the earlier first.")
    language = models.CharField(
        max_length=3, blank=True, default="", db_default="", help_text="That one has to know."
    )
    skill = models.CharField(max_length=50, blank=True, default="", db_default="")
    batch = models.CharField(
        max_length=50, blank=True, db_index=True, help_text="What the task was made for."
    )
    subject = models.ForeignKey(
        "self",
        models.CASCADE,
        null=True,
        related_name="reviews",
        help_text="The task whose answers a review is of.",
    )
    doubts = ArrayField(
        models.CharField(max_length=20, choices=Doubt), default=list, db_default=[], blank=True
    )
    gold = models.ForeignKey(
        "annotate.Ranking",
        models.PROTECT,
        null=True,
        related_name="gold_tasks",
        help_text="The right answer, where it is known.",
    )
    is_practice = models.BooleanField(
        default=False, db_default=False, help_text="Shows the right answer afterwards."
    )
    closed_at = models.DateTimeField(null=True, help_text="When the last wanted answer came in.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TaskQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        indexes = [
            # The queue reads open tasks in exactly this order.
            models.Index(
                "project",
                TURN,
                F("priority").desc(),
                F("due_at").asc(),
                "id",
                condition=Q(closed_at=None),
                name="open_tasks_in_order",
            ),
            models.Index(
                fields=["project", "batch", "id"],
                condition=Q(closed_at=None),
                name="open_tasks_of_a_batch",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["subject"], condition=Q(closed_at=None), name="one_open_review_a_task"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    @property
    def doubt_labels(self) -> list[str]:
        return [str(self.Doubt(doubt).label).lower() for doubt in self.doubts]

    @property
    def last_day(self) -> date | None:
        return last_day(self.due_at)

    @property
    def is_overdue(self) -> bool:
        return self.due_at is not None and self.due_at < timezone.now()

    @property
    def lease(self) -> timedelta:
        """How long one person may hold this task."""
        setting = LEASE_OF[self.Kind(self.kind)]
        return timedelta(minutes=getattr(self.project, setting))

    def close_if_answered(self, *before: tuple[Any, dict[str, Any]]) -> int:
        """Closes the task once the wanted answers are in. Returns how many rows the prepared update
        `before` has changed, if there is one."""
        asked, now = [*before], timezone.now()
        if self.closed_at is None:
            asked.append((_close_answered, {"task": self.pk, "now": now}))
            asked.append((_open_of_batch, {"project": self.project_id, "batch": self.batch}))
        found = at_once(*asked) if asked else []
        if self.closed_at is None and found[-2]:
            self.closed_at = now
            if self.batch and len(found[-1]) < CROWD:
                self._tell_of_batch()
        return found[0] if before else 0

    def _tell_of_batch(self) -> None:
        mine = Task.objects.filter(project=self.project_id, batch=self.batch)
        # One after the other, or each of two last tasks would see the other one open.
        with connection.cursor() as cursor:
            name = f"batch {self.project_id} {self.batch}"
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])
        if not _open_of_batch(project=self.project_id, batch=self.batch):
            told = {"batch": self.batch, "tasks": mine.count()}
            about = f"batch {self.batch}"
            news = News(
                f"All tasks of batch “{self.batch}” are done",
                reverse("progress", args=[self.project.slug]),
            )
            announce(self.project_id, Event.BATCH, subject=about, data=lambda: told, news=news)

    def reopen_if_wanting(self) -> None:
        """Opens the task again when an answer was taken back, unless somebody has closed it for
        good: a gold task that was retired, or one about an archived prompt."""
        # Asked of the database, not of this object: an operator may have archived the prompt
        # since it was read.
        in_use = Q(prompt__archived_at=None) | Q(prompt__source=GOAL)
        mine = Task.objects.filter(in_use, pk=self.pk, gold=None).closed()
        if self.closed_at and mine.exists() and not mine.answered().exists():
            Task.objects.filter(pk=self.pk).update(closed_at=None)
            self.closed_at = None

    @transaction.atomic
    def ask_another(self) -> bool:
        """Hands an answered task out to one more person. Returns whether it did: not what is still
        out, nor a task with a known answer or about an archived prompt."""
        ordinary = Task.objects.ordinary().closed().select_for_update(of=("self",))
        mine = ordinary.filter(pk=self.pk, prompt__archived_at=None).first()
        if mine is None:
            return False
        answers = mine.assignments.submitted().count()
        Task.objects.filter(pk=self.pk).update(closed_at=None, overlap=answers + 1)
        return True

    def retire(self) -> None:
        """Hands the task out no more. What was answered stays."""
        Task.objects.filter(pk=self.pk).open().update(closed_at=Now())

    def use(self, is_practice: bool) -> None:
        """Hands a gold task out, for practice or to measure people by."""
        Task.objects.filter(pk=self.pk).update(closed_at=None, is_practice=is_practice)

    def ask_for_review(self, doubts: Collection[str]) -> None:
        """Opens a review of the answers to this task, or adds to the doubts of the open one.
        Call it under the lock of this task's row."""
        # `one_open_review_a_task` would refuse a second one; the row's lock keeps it from being
        # tried.
        review = self.reviews.open().first()
        if review is None:
            review = Task.objects.create(
                project_id=self.project_id,
                prompt_id=self.prompt_id,
                kind=self.Kind.REVIEW,
                subject=self,
                doubts=sorted(doubts),
                # As urgent as what it is of, and for those who can read it.
                priority=self.priority,
                due_at=self.due_at,
                language=self.language,
                skill=self.skill,
            )
            review.completions.add(*self.completions.values_list("pk", flat=True))
        elif new := set(doubts) - set(review.doubts):
            Task.objects.filter(pk=review.pk).update(doubts=sorted({*review.doubts, *new}))

    def withdraw_review(self) -> None:
        """Takes the open review away, unless somebody has opened it: then it is theirs to end.
        Call it under the lock of this task's row."""
        review = self.reviews.open().select_for_update().first()
        # Asked once its row is held: whoever opens it holds that row too.
        if review and not review.assignments.exists():
            review.delete()


@prepared
def _open_of_batch(project: int, batch: str) -> models.QuerySet[Task, int]:
    mine = Task.objects.open().filter(project=project, batch=batch).order_by("-pk")
    return mine.values_list("pk", flat=True)[:CROWD]


@prepared_update
def _close_answered(task: int, now: datetime) -> tuple[TaskQuerySet, dict[str, Any]]:
    return Task.objects.answered().filter(pk=task), {"closed_at": now}


# The setting of the project that says for how long.
LEASE_OF = {
    Task.Kind.WRITE: "write_lease_minutes",
    Task.Kind.RANK: "rank_lease_minutes",
    Task.Kind.REVIEW: "rank_lease_minutes",
    Task.Kind.EDIT: "write_lease_minutes",
    Task.Kind.TALK: "write_lease_minutes",
}
