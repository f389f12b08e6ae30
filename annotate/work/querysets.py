"""Which tasks and which assignments: every filter with a meaning, by its name."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Self

from django.apps import apps
from django.db import models
from django.db.models import Count, Exists, F, OuterRef, Prefetch, Q, Subquery
from django.db.models.functions import Coalesce, Now

from annotate.people.models import Project, User
from annotate.prompts.models import Prompt

if TYPE_CHECKING:
    from annotate.work.tasks import Assignment, Task  # noqa: F401 - named in a string


class AssignmentQuerySet(models.QuerySet["Assignment"]):
    def by(self, labeler: User) -> Self:
        return self.filter(labeler=labeler)

    def of_project(self, project: Project) -> Self:
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
        return self.select_related("task__gold", "task__project").prefetch_related(
            "task__gold__placements", "rankings__placements", "demonstrations"
        )

    def timed(self) -> Self:
        return self.filter(state=self.model.State.SUBMITTED, active_seconds__gt=0)

    def sent_back(self) -> Self:
        """What a reviewer wants done anew."""
        return self.filter(state=self.model.State.LEASED).exclude(sent_back=None)

    def skipped_with_note(self) -> Self:
        return self.filter(state=self.model.State.SKIPPED).exclude(skip_note="")

    def with_draft(self) -> Self:
        return self.exclude(drafted_at=None)

    def holding_a_place(self) -> Self:
        return self.filter(
            Q(state=self.model.State.SUBMITTED)
            | Q(state=self.model.State.LEASED, leased_until__gt=Now())
        )

    def submitted_within(self, window: timedelta) -> Self:
        return self.filter(state=self.model.State.SUBMITTED, ended_at__gt=Now() - window)

    def submitted_since(self, moment: datetime) -> Self:
        return self.submitted().filter(ended_at__gte=moment)

    def with_answers(self, edit_window: timedelta) -> Self:
        """Everything a list of one's work shows, at a constant number of queries. Adds
        `is_expired`, and `is_recent`: submitted so lately that it may be edited."""
        return (
            self.select_related("task__prompt", "sent_back")
            .prefetch_related("demonstrations__snapshots", "rankings__snapshots")
            .prefetch_related(
                "rankings__placements", "demonstrations__reviews", "rankings__reviews"
            )
            .annotate(
                is_expired=Q(leased_until__lte=Now()),
                is_recent=Q(ended_at__gt=Now() - edit_window),
            )
        )


class TaskQuerySet(models.QuerySet["Task"]):
    @property
    def _assignments(self) -> AssignmentQuerySet:
        # By name: both models are made with these querysets, and come after them.
        model: type[Assignment] = apps.get_model("annotate", "Assignment")
        return model.objects.all()

    def of_project(self, project: Project) -> Self:
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

    def with_decisions(self) -> Self:
        """Reviews with `decisions`: how they were ended, by whom, with what verdicts."""
        ended = self._assignments.submitted().select_related("labeler")
        ended = ended.prefetch_related("reviews")
        return self.prefetch_related(Prefetch("assignments", ended, to_attr="decisions"))

    def of_kind(self, *kinds: str) -> Self:
        return self.filter(kind__in=kinds)

    def of_batch(self, batch: str) -> Self:
        return self.filter(batch=batch)

    def with_a_place_for(self, labeler: User) -> Self:
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

    def without_labels_by(self, labeler: User) -> Self:
        """Without the prompts to which this labeler gave a label."""
        return self.exclude(Exists(_prompts_labelled_by(labeler)))

    def new_to(self, labeler: User) -> Self:
        """Without what this labeler answered, skipped or holds; an expired lease may come back."""
        met = self._assignments.filter(task=OuterRef("pk"), labeler=labeler).without_expired()
        return self.filter(~Exists(met))

    def not_reviewing(self, labeler: User) -> Self:
        """Without the reviews of prompts to which this labeler gave a label."""
        return self.exclude(Q(kind=self.model.Kind.REVIEW) & Exists(_prompts_labelled_by(labeler)))


def _prompts_labelled_by(labeler: User) -> models.QuerySet[Prompt]:
    has_label = Q(demonstrations__labeler=labeler) | Q(rankings__labeler=labeler)
    return Prompt.objects.filter(has_label, pk=OuterRef("prompt"))
