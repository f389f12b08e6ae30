"""Pieces of human work, and who holds them now. Who gets which is decided in `labelling.queue`."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from django.contrib.postgres.fields import ArrayField
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from annotate.people.models import Project, User
from annotate.prompts.models import Prompt
from annotate.prompts.policies import Completion
from annotate.work.letters import letters_in, letters_of
from annotate.work.querysets import AssignmentQuerySet, TaskQuerySet
from feedback_site.prepared import prepared, prepared_update

if TYPE_CHECKING:
    from annotate.labels.kinds.demonstration import Demonstration
    from annotate.labels.kinds.ranking import Ranking
    from annotate.labels.reviews import Review

UNDO_WINDOW = timedelta(seconds=30)
SENT_BACK_LEASE = timedelta(days=3)


class Task(models.Model):
    class Kind(models.TextChoices):
        WRITE = "write"
        RANK = "rank"
        REVIEW = "review"

    class Doubt(models.TextChoices):
        """Why the answers to a task are to be reviewed."""

        LOW_AGREEMENT = "low_agreement", "low agreement"
        GOLD_FAILED = "gold_failed", "gold failed"
        FLAGGED = "flagged"
        ALL_BAD = "all_bad", "all bad"
        TOO_FAST = "too_fast", "too fast"
        NEW_WRITER = "new_writer", "new writer"
        CORRECTED = "corrected", "corrected after being sent back"
        RANDOM = "random", "random sample"

    project = models.ForeignKey(Project, models.CASCADE, related_name="tasks")
    prompt = models.ForeignKey(Prompt, models.CASCADE, related_name="tasks")
    kind = models.CharField(max_length=10, choices=Kind)
    completions = models.ManyToManyField(Completion, related_name="tasks", blank=True)
    overlap = models.PositiveSmallIntegerField(default=1)
    priority = models.SmallIntegerField(default=0, help_text="Higher comes first.")
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
                "kind",
                F("priority").desc(),
                "id",
                condition=Q(closed_at=None),
                name="open_tasks_in_order",
            )
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
    def lease(self) -> timedelta:
        """How long one person may hold this task."""
        if self.kind == self.Kind.WRITE:
            return timedelta(minutes=self.project.write_lease_minutes)
        return timedelta(minutes=self.project.rank_lease_minutes)

    def close_if_answered(self) -> None:
        """Closes the task once the wanted answers are in."""
        now = timezone.now()
        if self.closed_at is None and _close_answered(task=self.pk, now=now):
            self.closed_at = now

    def reopen_if_wanting(self) -> None:
        """Opens the task again when an answer was taken back, unless somebody has closed it for
        good: a gold task that was retired, or one about an archived prompt."""
        mine = Task.objects.filter(pk=self.pk, gold=None, prompt__archived_at=None).closed()
        if self.closed_at and mine.exists() and not mine.answered().exists():
            Task.objects.filter(pk=self.pk).update(closed_at=None)
            self.closed_at = None

    def retire(self) -> None:
        """Hands the task out no more. What was answered stays."""
        Task.objects.filter(pk=self.pk).open().update(closed_at=Now())

    def use(self, is_practice: bool) -> None:
        """Hands a gold task out, for practice or to measure people by."""
        Task.objects.filter(pk=self.pk).update(closed_at=None, is_practice=is_practice)

    def ask_for_review(self, doubts: Collection[str]) -> None:
        """Opens a review of the answers to this task, or adds to the doubts of the open one.
        Call it under the lock of this task's row."""
        review = self.reviews.open().first()
        if review is None:
            review = Task.objects.create(
                project_id=self.project_id,
                prompt_id=self.prompt_id,
                kind=self.Kind.REVIEW,
                subject=self,
                doubts=sorted(doubts),
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


class Assignment(models.Model):
    """A task leased to one labeler. Expiry frees the place; the draft stays."""

    class State(models.TextChoices):
        LEASED = "leased"
        SUBMITTED = "submitted"
        SKIPPED = "skipped"

    class SkipReason(models.TextChoices):
        UNCLEAR = "unclear", "The prompt is unclear"
        KNOWLEDGE = "knowledge", "Outside my knowledge"
        UNSAFE = "unsafe", "Unsafe to answer"
        PERSONAL = "personal", "Contains personal data"
        CANNOT_JUDGE = "cannot_judge", "I cannot judge these"
        OTHER = "other", "Something else"

    class Trial(models.TextChoices):
        """What an answer to a gold task is for."""

        PRACTICE = "practice"
        QUALIFICATION = "qualification"
        HIDDEN = "hidden"

    task = models.ForeignKey(Task, models.CASCADE, related_name="assignments")
    labeler = models.ForeignKey(User, models.PROTECT, related_name="assignments")
    state = models.CharField(max_length=10, choices=State, default=State.LEASED)
    leased_until = models.DateTimeField()
    shown_order = models.JSONField(
        default=list, help_text="Completion ids in the order this labeler sees them."
    )
    letter_order = models.JSONField(
        null=True,
        help_text="Completion ids in the order of their letters, where this labeler sees others "
        "than everybody.",
    )
    guideline_version = models.PositiveIntegerField(null=True)
    draft = models.JSONField(default=dict)
    drafted_at = models.DateTimeField(null=True)
    trial = models.CharField(max_length=15, choices=Trial, blank=True, db_default="")
    sent_back = models.ForeignKey(
        "annotate.Review",
        models.PROTECT,
        null=True,
        related_name="+",
        help_text="Who wants the answer done anew, while it is not.",
    )
    active_seconds = models.PositiveIntegerField(default=0)
    skip_reason = models.CharField(max_length=20, choices=SkipReason, blank=True)
    skip_note = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)

    objects = AssignmentQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["task", "labeler"], name="one_assignment_a_labeler")
        ]
        indexes = [
            models.Index(fields=["labeler", "state", "leased_until"]),
            models.Index(fields=["labeler", "-id"]),
        ]

    def __str__(self) -> str:
        return f"{self.task} for {self.labeler}"

    @property
    def is_submitted(self) -> bool:
        return self.state == self.State.SUBMITTED

    @property
    def is_final(self) -> bool:
        """Whether the first answer stands: it shows what the labeler could do unaided."""
        return self.trial in (self.Trial.PRACTICE, self.Trial.QUALIFICATION)

    @property
    def letters(self) -> dict[int, str]:
        """Completion id → the letter under which this labeler sees it."""
        return letters_in(self.letter_order) if self.letter_order else letters_of(self.shown_order)

    @property
    def undo_until(self) -> datetime | None:
        return self.ended_at + UNDO_WINDOW if self.ended_at else None

    @property
    def label(self) -> Demonstration | Ranking | None:
        """The newest revision of the answer, a retracted one included."""
        revisions = self._revisions
        return revisions[-1] if revisions else None

    @property
    def measured(self) -> Demonstration | Ranking | None:
        """The answer a trial is measured by: the first one, whatever was made of it later; of one
        taken back within the seconds for it, the one given instead."""
        since_taken_back = list(takewhile(lambda each: not each.retracted, self._revisions[::-1]))
        return since_taken_back[-1] if since_taken_back else None

    @property
    def _revisions(self) -> list[Demonstration | Ranking]:
        return [*self.demonstrations.all(), *self.rankings.all()]

    def lock(self) -> None:
        """Holds the task's row till the transaction ends, and rereads this assignment under it.

        Whoever takes a place must hold that row: two people never take the same one."""
        [held] = _held_with_task(pk=self.pk)
        self.task = held.task
        for name in ("state", "leased_until", "draft", "ended_at"):
            setattr(self, name, getattr(held, name))

    def has_place(self) -> bool:
        """Whether an answer now counts as one of the wanted ones. Call it under the lock."""
        mine = Assignment.objects.filter(pk=self.pk)
        places = Task.objects.filter(pk=self.task_id)
        return mine.leased().exists() or places.with_a_place_for(self.labeler).exists()

    @transaction.atomic
    def save_draft(self, *, draft: dict[str, Any], active_seconds: int) -> bool:
        """Keeps unfinished work and renews the lease. False: the place has gone to somebody else,
        though the draft is kept; a finished assignment stays as it is."""
        self.lock()
        if self.state != self.State.LEASED:
            return False
        has_place = self.has_place()
        fields: dict[str, Any] = {"leased_until": Now() + self.task.lease} if has_place else {}
        self._change(draft=draft, drafted_at=Now(), active_seconds=active_seconds, **fields)
        return has_place

    def submit(self, *, active_seconds: int) -> bool:
        """Ends the lease with an answer. True: the answer comes in time; False: it is an extra
        one, because the place has gone. Call it under the lock, with the label in the same
        transaction."""
        in_time = bool(_submit_leased(pk=self.pk, active_seconds=active_seconds))
        if not in_time:
            in_time = self.has_place()
            Assignment.objects.filter(pk=self.pk).update(**_answered(active_seconds))
        self._take_over(_answered(active_seconds))
        self.task.close_if_answered()
        return in_time

    def take_back(self, *, draft: dict[str, Any], sent_back: Review | None = None) -> None:
        """Makes an answered assignment this labeler's open work again: with a lease, unless the
        answer was an extra one and has no place to hold. Call it under the lock."""
        lease = SENT_BACK_LEASE if sent_back else self.task.lease
        place = Task.objects.filter(pk=self.task_id).with_a_place_for(self.labeler)
        self._change(
            state=self.State.LEASED,
            leased_until=Now() + lease if place.exists() else Now(),
            draft=draft,
            drafted_at=None if sent_back else Now(),
            ended_at=None,
            sent_back=sent_back,
        )
        self.task.reopen_if_wanting()

    def skip(self, *, reason: str, note: str = "") -> bool:
        """Gives the place back for good. False: the answer had already been submitted."""
        left = Assignment.objects.filter(pk=self.pk).exclude(state=self.State.SUBMITTED)
        return bool(
            left.update(
                state=self.State.SKIPPED, skip_reason=reason, skip_note=note, ended_at=Now()
            )
        )

    def _change(self, **fields: Any) -> None:
        Assignment.objects.filter(pk=self.pk).update(**fields)
        self._take_over(fields)

    def _take_over(self, fields: dict[str, Any]) -> None:
        for name, value in fields.items():
            if hasattr(value, "resolve_expression"):
                self.__dict__.pop(name, None)  # Django reads it when somebody asks for it
            else:
                setattr(self, name, value)


def _answered(active_seconds: Any) -> dict[str, Any]:
    return {
        "state": Assignment.State.SUBMITTED,
        "ended_at": Now(),
        "active_seconds": active_seconds,
        "draft": {},
        "sent_back": None,
    }


@prepared_update
def _submit_leased(pk: Any, active_seconds: Any) -> tuple[AssignmentQuerySet, dict[str, Any]]:
    return Assignment.objects.leased().filter(pk=pk), _answered(active_seconds)


@prepared_update
def _close_answered(task: Any, now: Any) -> tuple[TaskQuerySet, dict[str, Any]]:
    return Task.objects.answered().filter(pk=task), {"closed_at": now}


@prepared
def _held_with_task(pk: Any) -> models.QuerySet[Assignment]:
    # Its own row too: of the rows it does not lock, a statement that waited returns old ones.
    assignments = Assignment.objects.select_related("task__project", "task__gold")
    return assignments.select_for_update(no_key=True, of=("task", "self")).filter(pk=pk)
