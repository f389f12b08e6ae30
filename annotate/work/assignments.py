"""Who holds which piece of work, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import takewhile
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now

from annotate.people.models import Project, User
from annotate.work.letters import letters_in, letters_of
from annotate.work.tasks import Task, TaskQuerySet
from feedback_site.prepared import at_once, prepared, prepared_update

# A slip of the finger is seen at once; later than that, an edit says that the mind was changed.
UNDO_WINDOW = timedelta(seconds=30)
# Longer than any lease of the queue: its labeler may be away today, and nobody else can mend it.
SENT_BACK_LEASE = timedelta(days=3)


class AssignmentQuerySet(models.QuerySet["Assignment"]):
    def by(self, labeler: User | int) -> Self:
        return self.filter(labeler=labeler)

    def of_project(self, project: Project | int) -> Self:
        return self.filter(task__project=project)

    def of_kind(self, *kinds: str) -> Self:
        return self.filter(task__kind__in=kinds)

    def about(self, prompts: Iterable[int]) -> Self:
        return self.filter(task__prompt__in=list(prompts))

    def leased(self) -> Self:
        return self.filter(state=self.model.State.LEASED, leased_until__gt=Now())

    def expired(self) -> Self:
        return self.filter(state=self.model.State.LEASED, leased_until__lte=Now())

    def without_expired(self) -> Self:
        return self.exclude(state=self.model.State.LEASED, leased_until__lte=Now())

    def submitted(self) -> Self:
        return self.filter(state=self.model.State.SUBMITTED)

    def ended(self) -> Self:
        return self.exclude(ended_at=None)

    def ordinary(self) -> Self:
        return self.filter(trial="")

    def of_trial(self, trial: str) -> Self:
        return self.filter(trial=trial)

    def leased_after(self, moment: datetime) -> Self:
        return self.filter(created_at__gt=moment)

    def with_gold(self) -> Self:
        with_task = self.select_related("task__gold", "task__project")
        return with_task.prefetch_related("task__gold__placements", *_in_answers())

    def timed(self) -> Self:
        return self.filter(state=self.model.State.SUBMITTED, active_seconds__gt=0)

    def sent_back(self) -> Self:
        """What a reviewer wants done anew."""
        return self.filter(state=self.model.State.LEASED).exclude(sent_back=None)

    def skipped_with_note(self) -> Self:
        return self.filter(state=self.model.State.SKIPPED).exclude(skip_note="")

    def with_draft(self) -> Self:
        return self.exclude(drafted_at=None)

    def with_draft_left_before(self, moment: datetime) -> Self:
        """Those that nobody works on nor has submitted, with a draft of before then."""
        left = self.filter(drafted_at__lt=moment).exclude(state=self.model.State.SUBMITTED)
        return left.exclude(state=self.model.State.LEASED, leased_until__gt=Now())

    def forget_drafts(self) -> int:
        """Deletes what was filled in so far, and nothing that was submitted."""
        return self.update(draft={}, drafted_at=None)

    def holding_a_place(self) -> Self:
        return self.filter(
            Q(state=self.model.State.SUBMITTED)
            | Q(state=self.model.State.LEASED, leased_until__gt=Now())
        )

    def submitted_within(self, window: timedelta) -> Self:
        return self.filter(state=self.model.State.SUBMITTED, ended_at__gt=Now() - window)

    def ended_within(self, window: timedelta) -> Self:
        """Answered or skipped so lately."""
        return self.filter(ended_at__gt=Now() - window)

    def submitted_since(self, moment: datetime) -> Self:
        return self.submitted().filter(ended_at__gte=moment)

    def with_answers(self, edit_window: timedelta) -> Self:
        """Everything a list of one's work shows, at a constant number of queries. Adds
        `is_expired`, and `is_recent`: submitted so lately that it may be edited."""
        return (
            self.select_related("task__prompt", "sent_back")
            .prefetch_related(*_in_answers("snapshots", "reviews"))
            .annotate(
                is_expired=Q(leased_until__lte=Now()),
                is_recent=Q(ended_at__gt=Now() - edit_window),
            )
        )


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
            # A lease that comes back is the same row, so a draft is never lost to a second one.
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
    def is_leased(self) -> bool:
        return Assignment.objects.filter(pk=self.pk).leased().exists()

    @property
    def is_skipped(self) -> bool:
        return self.state == self.State.SKIPPED

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
    def label(self) -> Any:
        """The newest revision of the answer, a retracted one included; None before there is one."""
        revisions = self._revisions
        return revisions[-1].specific if revisions else None

    @property
    def measured(self) -> Any:
        """The answer a trial is measured by: the first one, whatever was made of it later; of one
        taken back within the seconds for it, the one given instead."""
        since_taken_back = list(takewhile(lambda each: not each.retracted, self._revisions[::-1]))
        return since_taken_back[-1].specific if since_taken_back else None

    @property
    def _revisions(self) -> list[Any]:
        return [each for name in answers_by_name() for each in getattr(self, name).all()]

    def lock(self) -> Held:
        """Holds the task's row till the transaction ends, and rereads this assignment under it.

        Whoever takes a place must hold that row: two people never take the same one."""
        return self.lock_and_ask()[0]

    def lock_and_ask(self, *asked: tuple[Any, dict[str, Any]]) -> tuple[Held, list[Any]]:
        """As `lock`, with what these prepared queries find once the row is held."""
        [row], *found = at_once((_held_with_task, {"pk": self.pk}), *asked)
        self.task = row.task
        # What was read before the wait for the lock may be older than what the lock let through.
        for name in ("state", "leased_until", "draft", "ended_at"):
            setattr(self, name, getattr(row, name))
        return Held(self), found

    @transaction.atomic
    def save_draft(self, *, draft: dict[str, Any], active_seconds: int) -> bool:
        """Keeps unfinished work and renews the lease. False: the place has gone to somebody else,
        though the draft is kept; a finished assignment stays as it is."""
        held = self.lock()
        if self.state != self.State.LEASED:
            return False
        has_place = held.has_place()
        # Work that is being saved is being done: only silence ends a lease.
        fields: dict[str, Any] = {"leased_until": Now() + self.task.lease} if has_place else {}
        self._change(draft=draft, drafted_at=Now(), active_seconds=active_seconds, **fields)
        return has_place

    @transaction.atomic
    def keep_alive(self, *, draft: dict[str, Any], active_seconds: int) -> None:
        """Renews the lease of work that goes on, where it still has a place, and keeps what is not
        done yet."""
        self.save_draft(draft=draft, active_seconds=max(active_seconds, self.active_seconds))

    @property
    def draft_version(self) -> str:
        """Another after each time the draft is kept."""
        return self.drafted_at.isoformat() if self.drafted_at else ""

    def skip(self, *, reason: str, note: str = "", draft: dict[str, Any] | None = None) -> bool:
        """Gives the place back. False: the answer had already been submitted. `draft`: what was
        filled in so far, for the case that the skip is taken back."""
        # One statement and no lock: skipping takes no place, so nobody else's count can go wrong.
        left = Assignment.objects.filter(pk=self.pk).exclude(state=self.State.SUBMITTED)
        kept = {} if draft is None else {"draft": draft}
        return bool(
            left.update(
                state=self.State.SKIPPED, skip_reason=reason, skip_note=note, ended_at=Now(), **kept
            )
        )

    @transaction.atomic
    def take_back_skip(self) -> None:
        """Opens the task again within 30 seconds, with the draft as it was. Raises ValidationError
        where it is too late, or nothing was skipped."""
        held = self.lock()
        mine = Assignment.objects.filter(pk=self.pk, state=self.State.SKIPPED)
        if self.is_final or not mine.ended_within(UNDO_WINDOW).exists():
            raise ValidationError("The 30 seconds for undo are over.")
        held.take_back(draft=self.draft, sent_back=self.sent_back)
        self._change(skip_reason="", skip_note="")

    def _change(self, **fields: Any) -> None:
        Assignment.objects.filter(pk=self.pk).update(**fields)
        self._take_over(fields)

    def _take_over(self, fields: dict[str, Any]) -> None:
        for name, value in fields.items():
            if hasattr(value, "resolve_expression"):
                self.__dict__.pop(name, None)  # Django reads it when somebody asks for it
            else:
                setattr(self, name, value)


@dataclass(frozen=True)
class Held:
    """An assignment whose task's row this transaction holds, from `Assignment.lock`: what takes a
    place or gives one back can be done to nothing else."""

    assignment: Assignment

    @property
    def task(self) -> Task:
        return self.assignment.task

    def has_place(self) -> bool:
        """Whether an answer now counts as one of the wanted ones."""
        mine = Assignment.objects.filter(pk=self.assignment.pk)
        return mine.leased().exists() or self._free_place().exists()

    def submit(self, *, active_seconds: int) -> bool:
        """Ends the lease with an answer, stored in the same transaction. True: the answer comes in
        time; False: it is an extra one, because the place has gone."""
        pk = self.assignment.pk
        # The usual case is one round trip; only a lease that has run out asks whether the place is
        # free.
        submit = (_submit_leased, {"pk": pk, "active_seconds": active_seconds})
        in_time = self.task.close_if_answered(submit)
        if not in_time:
            in_time = self.has_place()
            Assignment.objects.filter(pk=pk).update(**_answered(active_seconds))
            self.task.close_if_answered()
        self.assignment._take_over(_answered(active_seconds))
        return bool(in_time)

    def take_back(self, *, draft: dict[str, Any], sent_back: Any = None) -> None:
        """Makes an answered assignment its labeler's open work again: with a lease, unless the
        answer was an extra one and has no place to hold. `sent_back`: the review that asks for
        it."""
        lease = SENT_BACK_LEASE if sent_back else self.task.lease
        self.assignment._change(
            state=Assignment.State.LEASED,
            # An extra answer holds no place; a lease of now has run out, and leaves the place to
            # others.
            leased_until=Now() + lease if self._free_place().exists() else Now(),
            draft=draft,
            drafted_at=None if sent_back else Now(),
            ended_at=None,
            sent_back=sent_back,
        )
        self.task.reopen_if_wanting()

    def _free_place(self) -> TaskQuerySet:
        tasks = Task.objects.filter(pk=self.assignment.task_id)
        return tasks.with_a_place_for(self.assignment.labeler)


class Answer(models.Model):
    """What an assignment is answered with. Each kind of label is a table of them."""

    assignment = models.ForeignKey(
        Assignment,
        models.PROTECT,
        null=True,
        related_name="%(class)ss",
        help_text="Null: imported.",
    )

    PARTS: ClassVar[tuple[str, ...]] = ()  # relations to rows that are a part of it
    objects: Any

    class Meta:
        abstract = True

    @property
    def specific(self) -> Any:
        """Itself as what it is most of all: a row of a table that builds on this one, if any."""
        links = [each.get_accessor_name() for each in _built_on(type(self))]
        return next((getattr(self, name) for name in links if name and hasattr(self, name)), self)

    @property
    def places(self) -> dict[int, int]:
        """Completion id → place, the best first; empty where it puts nothing in an order."""
        return {}


@cache
def answers_by_name() -> dict[str, type[Answer]]:
    """The relations from an assignment to its answers, one for each table: demonstrations, …"""
    related = {r.get_accessor_name(): r.related_model for r in Assignment._meta.related_objects}
    return {
        name: model
        for name, model in related.items()
        if name and isinstance(model, type) and issubclass(model, Answer)
    }


@cache
def _built_on(model: type[models.Model]) -> list[Any]:
    """The one-to-one relations by which tables inherit from that of `model`."""
    return [each for each in model._meta.related_objects if each.parent_link]


def _in_answers(*relations: str) -> Iterator[str]:
    """What to prefetch to read all answers, their parts and these relations of theirs."""
    for name, model in answers_by_name().items():
        children = [f"{name}__{each.get_accessor_name()}" for each in _built_on(model)]
        for path in (name, *children):
            yield path
            there = [each for each in relations if each in _relations_to(model)]
            yield from (f"{path}__{relation}" for relation in (*model.PARTS, *there))


@cache
def _relations_to(model: type[models.Model]) -> frozenset[str | None]:
    return frozenset(each.get_accessor_name() for each in model._meta.related_objects)


def _answered(active_seconds: int) -> dict[str, Any]:
    return {
        "state": Assignment.State.SUBMITTED,
        "ended_at": Now(),
        "active_seconds": active_seconds,
        "draft": {},
        "sent_back": None,
    }


@prepared_update
def _submit_leased(pk: int, active_seconds: int) -> tuple[AssignmentQuerySet, dict[str, Any]]:
    return Assignment.objects.leased().filter(pk=pk), _answered(active_seconds)


@prepared
def _held_with_task(pk: int) -> models.QuerySet[Assignment]:
    # Its own row too: of the rows it does not lock, a statement that waited returns old ones.
    assignments = Assignment.objects.select_related("task__project", "task__gold")
    return assignments.select_for_update(no_key=True, of=("task", "self")).filter(pk=pk)
