"""What a person would have said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import models

from annotate.labels.label import Label
from annotate.people.models import Project
from annotate.prompts.policies import Policy
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task

PASSING_SCORE = 6


class Demonstration(Label):
    text = models.TextField()
    distilled_from = models.ForeignKey(
        Policy,
        models.PROTECT,
        null=True,
        related_name="distillations",
        help_text="The policy whose answer this is: it owes something to all who taught that one.",
    )

    class Meta(Label.Meta):
        abstract = False

    def __str__(self) -> str:
        return self.text[:60]

    @property
    def content(self) -> dict[str, Any]:
        return {**super().content, "text": self.text}

    def doubts(self, project: Project) -> Iterator[str]:
        if self._is_of_a_new_writer(project):
            yield Task.Doubt.NEW_WRITER

    def _is_of_a_new_writer(self, project: Project) -> bool:
        """Until enough demonstrations score 6 or more on average (InstructGPT, appendix B.1)."""
        wanted = project.new_writer_reviews
        scores = self.labeler.demonstrations.of_project(project).scores()[:wanted]
        return len(scores) < wanted or sum(scores) < PASSING_SCORE * wanted

    @classmethod
    def record(cls, *, assignment: Assignment, text: str, **effort: Any) -> Demonstration:
        """Answers a writing task, once. `effort`: idempotency_key, comment, active_seconds,
        pasted_share."""
        return cls(text=text, **effort).record_as_answer(assignment)

    def revise(self, *, revision_no: int, text: str, **effort: Any) -> Demonstration:
        return self._revise(Demonstration(text=text, **effort), revision_no)

    def _copy(self) -> Demonstration:
        copy = super()._copy()
        copy.text = self.text
        return copy
