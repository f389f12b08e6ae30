"""What all kinds of label have in common.

Append-only: nobody updates or deletes a label. A correction is a new revision that `supersedes`
the old one; a revision can be superseded once only, so the slower of two editors gets a conflict.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from typing import Any, ClassVar, Self, TypedDict
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import IntegrityError, models, transaction
from django.db.models import Exists, OuterRef, Q, Subquery

from annotate.labels.review_triggers import open_review_if_needed, withdraw_review
from annotate.people.models import Membership, Project, User
from annotate.prompts.models import Prompt
from annotate.prompts.withdrawals import prompts_of, withdrawn_from
from annotate.webhooks.models import Event, announce
from annotate.work.assignments import UNDO_WINDOW, Answer, Assignment, Held
from annotate.work.tasks import Task
from feedback_site.prepared import prepared

# Of the length of a long article; it bounds what one row can cost a page, a diff or a trainer.
LONGEST_ANSWER = 50_000  # characters, be it written here or in a file
FROM_GUEST = "guest"  # the source of what guests of the chat said
FINAL = "in practice and qualification the first answer counts"


GUESTS_ARE_NOT_ASKED = (
    "A guest wrote this in the chat and can't be asked to change it. Use your own edit, or"
    " exclude it."
)


class Effort(TypedDict, total=False):
    """What comes with every label: which page sent it, how long it took, how much of it was pasted
    (0 to 1), and what its author has to say to the lead."""

    idempotency_key: UUID
    active_seconds: int
    pasted_share: float
    comment: str


class Conflict(Exception):
    """What was sent contradicts what is stored; `stored` is the label in force, nothing changed."""

    def __init__(self, message: str, stored: Label | None):
        super().__init__(message)
        self.stored = stored


class LabelQuerySet(models.QuerySet[Any]):
    def newest(self, at: datetime | None = None) -> Self:
        """The last revision of each label, retracted or not; now, or as it was at that moment."""
        newer = self.model._default_manager.filter(supersedes=OuterRef("pk"))
        # Not `superseded_by=None`: the planner takes that join for one row, and then loops over it.
        return (
            self.filter(~Exists(newer.filter(created_at__lte=at)), created_at__lte=at)
            if at
            else self.filter(~Exists(newer))
        )

    def current(self, at: datetime | None = None) -> Self:
        """The newest revision of each label, without the retracted ones."""
        return self.newest(at).filter(retracted=False)

    def of_no_other_kind(self) -> Self:
        """Without the rows on which a row of another table builds."""
        links = [each for each in self.model._meta.related_objects if each.parent_link]
        return self.filter(**{each.get_accessor_name(): None for each in links})

    def of_project(self, project: Project) -> Self:
        return self.filter(prompt__project=project)

    def state(self) -> str:
        """A text that changes with every label: rows are added, and guests' may go."""
        found = self.order_by().aggregate(n=models.Count("pk"), last=models.Max("pk"))
        return f"{found['n']} until {found['last']}"

    def on_active_prompts(self, at: datetime | None = None) -> Self:
        """Without those of prompts that were archived; now, or as it was at that moment."""
        in_use = Q(prompt__archived_at=None)
        return self.filter(in_use | Q(prompt__archived_at__gt=at) if at else in_use)

    def by(self, labeler: User) -> Self:
        return self.filter(labeler=labeler)

    def not_by(self, labeler: User) -> Self:
        return self.exclude(labeler=labeler)

    def in_split(self, *splits: str) -> Self:
        return self.filter(prompt__split__in=splits)

    def of_prompts(self, prompts: models.QuerySet[Prompt]) -> Self:
        return self.filter(prompt__in=prompts)

    def about(self, prompts: Iterable[int]) -> Self:
        return self.filter(prompt__in=list(prompts))

    def of_task(self, task: Task) -> Self:
        return self.filter(assignment__task=task)

    def ordinary(self) -> Self:
        """Without the answers to tasks whose right answer is known: they measure the labeler."""
        return self.filter(Q(assignment=None) | Q(assignment__trial=""))

    def of_trusted(self, at: datetime | None = None) -> Self:
        """Without labelers excluded from snapshots; now, or at that moment."""
        excluded = Membership.objects.filter(
            project=OuterRef("prompt__project"), user=OuterRef("labeler")
        ).exclude(excluded_at=None)
        if at:
            excluded = excluded.filter(excluded_at__lte=at)
        return self.exclude(Exists(excluded))

    def in_force(self, project: Project, at: datetime | None = None) -> Self:
        """What the project may learn from, now, or as it was at that moment: nothing retracted, of
        archived prompts, of excluded labelers, excluded or sent back by a reviewer, or said to
        measure the labeler. What was withdrawn is out at once, whatever the moment.

        Adds `last_verdict`, of the newest review."""
        withdrawn = withdrawn_from(project)
        # Sent back counts as refused until the labeler has answered anew: that is a revision of
        # its own, without a verdict.
        verdicts = self._review_model().Verdict
        refused = (verdicts.EXCLUDED, verdicts.SENT_BACK)
        return (
            self.of_project(project)
            .exclude(labeler__in=withdrawn)
            .exclude(prompt__in=prompts_of(withdrawn).values("pk"))
            .current(at)
            .on_active_prompts(at)
            .ordinary()
            .of_trusted(at)
            .with_last_verdict(at)
            .filter(Q(last_verdict=None) | ~Q(last_verdict__in=refused))
            .without_unchecked_guests(at)
        )

    def with_last_verdict(self, at: datetime | None = None) -> Self:
        """Adds `last_verdict`, of the newest review; now, or at that moment."""
        table = next(iter(self.model._meta.parents), self.model)  # one may build on another's
        reviews = self._review_model().objects.filter(**{table._meta.model_name: OuterRef("pk")})
        if at:
            reviews = reviews.filter(created_at__lte=at)
        return self.annotate(last_verdict=Subquery(reviews.order_by("-pk").values("verdict")[:1]))

    def without_unchecked_guests(self, at: datetime | None = None) -> Self:
        """Without what guests of the chat said that may not train, as `guests_that_count` has it;
        of labels `with_last_verdict`."""
        return self.filter(~Q(source=FROM_GUEST) | self.model.guests_that_count(at))

    def _review_model(self) -> Any:
        return self.model._meta.get_field("reviews").related_model

    def of_guests(self) -> Self:
        """What guests of the chat said."""
        return self.filter(source=FROM_GUEST)

    def of_staff(self) -> Self:
        return self.exclude(source=FROM_GUEST)

    def scores(self) -> models.QuerySet[Any, int]:
        """The scores reviewers gave, the newest first."""
        scored = self.exclude(reviews__score=None).order_by("-reviews__id")
        return scored.values_list("reviews__score", flat=True)

    def with_comment(self) -> Self:
        return self.exclude(comment="")

    def unreviewed(self) -> Self:
        return self.filter(reviews=None)

    def with_placements(self) -> Self:
        """With what rankings consist of, at one query more."""
        return self.prefetch_related("placements") if hasattr(self.model, "placements") else self


@cache
def _revisions_of(kind: type[Label]) -> prepared[..., Any]:
    def build(assignment: int) -> models.QuerySet[Any]:
        return LabelQuerySet(kind).filter(assignment=assignment).order_by("revision_no")

    return prepared(build)


def check_values(row: models.Model) -> None:
    """Holds what is set on the row against its fields: ranges, choices, no empty text."""
    fields = row._meta.concrete_fields
    row.clean_fields({f.name for f in fields if f.is_relation or getattr(row, f.attname) is None})


def _refuse_if_final(assignment: Assignment) -> None:
    if assignment.is_final:
        raise ValidationError(f"This answer cannot be changed: {FINAL}.")


@contextmanager
def _one_submit_a_key() -> Iterator[None]:
    """Around a transaction that stores a label: its key may be another assignment's."""
    try:
        yield
    except IntegrityError as error:
        if "idempotency_key" not in str(error):
            raise
        raise Conflict("This page was already submitted for another task.", None) from error


class Label(Answer):
    """What every revision of every kind of label carries."""

    prompt = models.ForeignKey(Prompt, models.PROTECT, related_name="%(class)ss")
    labeler = models.ForeignKey(User, models.PROTECT, related_name="%(class)ss")
    # One to one: a revision is replaced once. The slower of two editors meets the constraint, which
    # is all there is of an optimistic lock.
    supersedes = models.OneToOneField(
        "self", models.PROTECT, null=True, related_name="superseded_by"
    )
    revision_no = models.PositiveIntegerField(default=1)
    retracted = models.BooleanField(default=False)
    guideline_version = models.PositiveIntegerField(null=True)
    active_seconds = models.PositiveIntegerField(default=0)
    pasted_share = models.FloatField(
        default=0.0, validators=[MinValueValidator(0.0), MaxValueValidator(1.0)]
    )
    idempotency_key = models.UUIDField(
        null=True, unique=True, help_text="Made by the page: one submit, however often it is sent."
    )
    late = models.BooleanField(default=False, help_text="Came after the place had gone.")
    comment = models.TextField(blank=True, help_text="For the lead.")
    source = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    template: ClassVar[str]  # shows the label as a whole

    # The frozen sets this label is in, rlhf's side of the relation, and what reviewers said of it.
    snapshots: Any
    reviews: Any

    objects = LabelQuerySet.as_manager()

    class Meta:
        abstract = True
        ordering = ["id"]
        indexes = [models.Index(fields=["labeler", "-created_at"])]
        constraints = [
            models.UniqueConstraint(
                fields=["assignment"],
                condition=Q(supersedes=None),
                name="one_%(class)s_an_assignment",
            )
        ]

    @property
    def content(self) -> dict[str, Any]:
        """What the person said, without when and how."""
        return {"comment": self.comment}

    @property
    def in_short(self) -> str:
        """What the person said, in a line of a list."""
        raise NotImplementedError

    @property
    def parts(self) -> list[Label]:
        """Labels in no task that stand and fall with this one, as verdicts on it say."""
        return []

    @property
    def is_editable(self) -> bool:
        """For a while after the submit, as the project has it, until it is settled."""
        if self.assignment is None or self.assignment.is_final:
            return False
        window = self.assignment.task.project.edit_window
        return self._submitted_within(window) and not self.is_settled

    @property
    def is_settled(self) -> bool:
        """A snapshot froze it, or a reviewer judged it."""
        return self.snapshots.exists() or self.reviews.exists()

    def doubts(self, project: Project) -> Iterator[str]:
        """Why a reviewer should see it, by what it says: of `Task.Doubt`."""
        yield from ()

    @classmethod
    def guests_that_count(cls, at: datetime | None) -> Q:
        """Of labels by guests, those that may train: not of new guests whom nobody has vouched for;
        now, or at that moment."""
        new = Membership.objects.newcomers(at).filter(
            project=OuterRef("prompt__project"), user=OuterRef("labeler")
        )
        return ~Q(Exists(new))

    def send_back(self, review: Any) -> None:
        """Gives the work back to its labeler, to be done better. Call it in a transaction."""
        if self.source == FROM_GUEST:
            raise ValidationError(GUESTS_ARE_NOT_ASKED)
        held = self._lock()
        _refuse_if_final(held.assignment)
        held.take_back(draft={}, sent_back=review)

    def record_as_answer(self, assignment: Assignment) -> Self:
        """Saves this new label as the answer of `assignment`, or returns the one the same submit
        has saved before."""
        check_values(self)
        with _one_submit_a_key(), transaction.atomic():
            # Locks are taken in one order everywhere, the task's row before any row of its
            # answers, so that two writers never wait for each other.
            ask = (_revisions_of(type(self)), {"assignment": assignment.pk})
            held, [revisions] = assignment.lock_and_ask(ask)
            if sent := self._sent_before(revisions):
                return sent
            last = revisions[-1] if revisions else None
            if assignment.is_submitted:
                raise Conflict("You have already submitted an answer to this task.", last)
            # Skipped in a trial is answered in it: else one could look at the task and come back
            # wiser.
            if assignment.is_final and assignment.state == Assignment.State.SKIPPED:
                raise ValidationError(f"You have skipped this task, and {FINAL}.")
            # An answer is never thrown away for being late; it is one more than was asked for.
            self.late = not held.submit(active_seconds=self.active_seconds)
            self._insert(assignment, after=last)
            open_review_if_needed(assignment, self)
        return self

    def record_as_guests(self, assignment: Assignment) -> Self:
        """Saves this new label as what a guest says now, over what they said before."""
        check_values(self)
        with transaction.atomic():
            assignment.lock()
            revisions = self._revisions(assignment)
            self.source = FROM_GUEST
            self._insert(assignment, after=revisions[-1] if revisions else None)
            open_review_if_needed(assignment, self)
        return self

    def _revise(self, revision: Self, revision_no: int) -> Self:
        """Saves `revision` over this label, if this is still the version its author has seen."""
        check_values(revision)
        with _one_submit_a_key(), transaction.atomic():
            assignment = self._lock().assignment
            revisions = self._revisions(assignment)
            if sent := revision._sent_before(revisions):
                return sent
            current = revisions[-1]
            if current.pk != self.pk or current.revision_no != revision_no or current.retracted:
                raise Conflict("This label has changed since you opened it.", current)
            _refuse_if_final(assignment)
            if not self.is_editable:
                raise ValidationError(
                    "This label can no longer be changed: the time for corrections is over, "
                    "a round has used it, or a reviewer has judged it."
                )
            # Whether the place was there was settled by the first answer; an edit changes nothing
            # in that.
            revision.late = self.late
            revision._insert(assignment, after=self)
            open_review_if_needed(assignment, revision)
        return revision

    def retract(self, *, draft: dict[str, Any]) -> None:
        """Takes a submit back within 30 seconds; the work is open again, with `draft` in it."""
        with transaction.atomic():
            held = self._lock()
            if self.retracted or self._rows().filter(supersedes=self).exists():
                raise Conflict("This label has changed since you opened it.", self)
            _refuse_if_final(held.assignment)
            if not self._submitted_within(UNDO_WINDOW) or self.is_settled:
                raise ValidationError(
                    "The 30 seconds for undo are over. You can still edit the label in My work."
                )
            # Labelers may have been told already, and rounds may have counted.
            if held.task.kind == Task.Kind.REVIEW:
                raise ValidationError("A review cannot be undone: its verdicts already apply.")
            retraction = self._copy()
            retraction.retracted = True
            retraction._insert(held.assignment, after=self)
            held.take_back(draft=draft)
            withdraw_review(held.assignment, type(self))

    def _lock(self) -> Held:
        if self.assignment is None:
            raise ValidationError("An imported label is changed by a new import.")
        return self.assignment.lock()

    def _submitted_within(self, window: timedelta) -> bool:
        mine = Assignment.objects.filter(pk=self.assignment_id or 0)
        return mine.submitted_within(window).exists()

    def _rows(self) -> LabelQuerySet:
        return LabelQuerySet(type(self))

    def _revisions(self, assignment: Assignment) -> list[Self]:
        """All that was ever answered to this assignment, the version in force last."""
        return _revisions_of(type(self))(assignment=assignment.pk)

    def _sent_before(self, revisions: list[Self]) -> Self | None:
        """The label this very submit has already made: a repeated click, or a lost reply."""
        if self.idempotency_key is None:
            return None
        for sent in revisions:
            if sent.idempotency_key == self.idempotency_key:
                if sent.content != self.content:
                    message = "This page was already submitted with different content."
                    raise Conflict(message, sent)
                return sent
        return None

    def _copy(self) -> Self:
        return type(self)(
            comment=self.comment,
            active_seconds=self.active_seconds,
            pasted_share=self.pasted_share,
            late=self.late,
            source=self.source,
        )

    def _insert(self, assignment: Assignment, *, after: Self | None) -> None:
        self.assignment = assignment
        self.prompt_id = assignment.task.prompt_id
        self.labeler_id = assignment.labeler_id
        self.guideline_version = assignment.guideline_version
        self.add_revision(after=after)
        about = f"assignment {assignment.pk}"
        announce(assignment.task.project_id, Event.LABEL, subject=about, data=self._told)

    def add_revision(self, *, after: Self | None) -> Self:
        """Saves this new label over the one that it corrects, if there is one."""
        self.supersedes = after
        self.revision_no = after.revision_no + 1 if after else 1
        # Never an update: a revision is a row of its own, and `supersedes` is unique, so the
        # slower of two editors gets an IntegrityError instead of overwriting.
        self.save(force_insert=True)
        return self

    def _told(self) -> dict[str, Any]:
        """What webhooks are told of it."""
        return {
            "id": self.pk,
            "kind": self._meta.model_name,
            "assignment": self.assignment_id,
            "prompt": self.prompt_id,
            "labeler": self.labeler.username,
            "revision": self.revision_no,
            "retracted": self.retracted,
        }
