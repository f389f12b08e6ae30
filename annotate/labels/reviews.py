"""What reviewers thought of labels; apart from the labeler's own state. Append-only."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Q

from annotate.labels import verdicts
from annotate.labels.gold import failed_while_hidden, make_gold
from annotate.labels.kinds import kind_of
from annotate.labels.kinds.demonstration import Demonstration
from annotate.labels.kinds.ranking.answer import Ranking
from annotate.labels.kinds.talk.answer import Talk
from annotate.labels.label import Conflict, Label, check_values
from annotate.people.models import User
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task

NO_SCORES: Mapping[int, int] = MappingProxyType({})


class Review(models.Model):
    Verdict = verdicts.Verdict
    Cause = verdicts.Cause

    assignment = models.ForeignKey(Assignment, models.PROTECT, null=True, related_name="reviews")
    demonstration = models.ForeignKey(
        Demonstration, models.PROTECT, null=True, related_name="reviews"
    )
    ranking = models.ForeignKey(Ranking, models.PROTECT, null=True, related_name="reviews")
    talk = models.ForeignKey(Talk, models.PROTECT, null=True, related_name="reviews")
    reviewer = models.ForeignKey(User, models.PROTECT, related_name="reviews")
    verdict = models.CharField(max_length=10, choices=Verdict)
    cause = models.CharField(max_length=20, choices=Cause, blank=True)
    score = models.PositiveSmallIntegerField(
        null=True, validators=[MinValueValidator(1), MaxValueValidator(7)]
    )
    comment = models.TextField(blank=True, help_text="For the labeler.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(demonstration=None, ranking=None, talk__isnull=False)
                | Q(demonstration=None, ranking__isnull=False, talk=None)
                | Q(demonstration__isnull=False, ranking=None, talk=None),
                name="reviews_one_label",
            )
        ]

    def __str__(self) -> str:
        return f"{self.verdict} by {self.reviewer}"

    @classmethod
    @transaction.atomic
    def record(
        cls,
        *,
        assignment: Assignment,
        verdicts: Mapping[int, str],
        own: Label | None = None,
        as_gold: bool = False,
        cause: str = "",
        comment: str = "",
        scores: Mapping[int, int] = NO_SCORES,
        active_seconds: int = 0,
    ) -> list[Review]:
        """Ends a review: stores a row for each label under review, by its id; all of them must be
        in `verdicts`. `own` is what the reviewer would have answered, saved as a label; `as_gold`:
        and labelers are measured by that ranking; `cause` and `comment`: why, of the answers that
        are not accepted and to their labelers; of all, where all are; `scores`: 1 to 7, of
        demonstrations, by their ids; `active_seconds`: what the review took.

        Raises Conflict where the answers or the review have changed meanwhile, ValidationError
        where what is said does not fit."""
        # Whoever answers a task holds its row before that of its review: so must we.
        assert assignment.task.subject_id
        # `no_key`: rows that merely point to the task may still be inserted meanwhile.
        Task.objects.select_for_update(no_key=True).get(pk=assignment.task.subject_id)
        held = assignment.lock()
        if assignment.is_submitted:
            raise Conflict("You have already finished this review.", None)
        labels = {label.pk: label for label in labels_under_review(assignment.task)}
        # An edit or an undo since the page was shown: no verdict falls on a text that was not
        # read.
        if labels.keys() != verdicts.keys():
            raise Conflict("The answers have changed since you opened this review.", None)
        if own:
            own.active_seconds = active_seconds
            own.record_as_answer(assignment)
            # Only if asked for: an own ranking settles one disagreement, perhaps in a hurry; as
            # gold it measures everybody who comes later.
            if as_gold:
                make_gold(own)
        # Nothing to keep as an extra: verdicts of two reviewers on the same answers would
        # contradict.
        elif not held.submit(active_seconds=active_seconds):
            raise Conflict("Your time ran out, and somebody else is reviewing this task now.", None)
        # What one labeler is told about an answer is no business of the others.
        refused = {pk for pk, said in verdicts.items() if said != cls.Verdict.ACCEPTED}
        concerned = refused or verdicts.keys()
        reviews = [
            cls(
                **{relation_to(type(label)): label},
                assignment=assignment,
                reviewer=assignment.labeler,
                verdict=verdicts[pk],
                cause=cause if pk in concerned else "",
                comment=comment if pk in concerned else "",
                score=scores.get(pk),
            )
            for pk, label in labels.items()
        ]
        for review in reviews:
            review._check()
        of_parts = [part for review in reviews for part in review._of_parts()]
        Review.objects.bulk_create([*reviews, *of_parts])
        for review in reviews:
            if review.verdict == cls.Verdict.SENT_BACK:
                review.label.send_back(review)
        return reviews

    def _of_parts(self) -> list[Review]:
        """The same verdict on each label that stands and falls with the one it is of. Nobody was
        asked about these, so they are of no review."""
        return [
            Review(
                **{relation_to(type(part)): part},
                reviewer=self.reviewer,
                verdict=self.verdict,
                cause=self.cause,
                comment=self.comment,
                score=None,
            )
            for part in self.label.parts
        ]

    def _check(self) -> None:
        check_values(self)
        if self.verdict == self.Verdict.SENT_BACK and not self.comment.strip():
            raise ValidationError("Tell the labeler in the comment what to change.")

    @classmethod
    def ending(cls, assignment: Assignment) -> list[Review]:
        """The verdicts with which a review was ended, with what they are of."""
        names = LABELS.values()
        parts = (f"{name}__{part}" for model, name in LABELS.items() for part in model.PARTS)
        reviews = assignment.reviews.select_related(*(f"{name}__labeler" for name in names))
        return list(reviews.prefetch_related(*parts))

    @property
    def label(self) -> Any:
        """What it is of."""
        given = (getattr(self, name) for name in LABELS.values())
        return next(label for label in given if label is not None)


# Table of labels → the field that points there, of which a review has exactly one.
LABELS: dict[type[Label], str] = {
    Demonstration: "demonstration",
    Ranking: "ranking",
    Talk: "talk",
}


def relation_to(model: type[Any]) -> str:
    """The field of a review that points to labels of this table."""
    return next(name for table, name in LABELS.items() if issubclass(model, table))


def labels_under_review(review: Task) -> list[Any]:
    """The answers a review is of: those in force that no reviewer has judged, the oldest first; of
    a gold task, those that failed it while it was hidden."""
    assert review.subject
    answers = kind_of(review).labels.current().of_task(review.subject).unreviewed().order_by("pk")
    shown = answers.select_related("labeler", "assignment__task__gold", "supersedes")
    return failed_while_hidden(shown) if review.subject.gold_id else list(shown)
