"""What a completion should have said: a text that begins from it and corrects it.

An edit is a demonstration, and a pair as well: the corrected text is better than the completion."""

from __future__ import annotations

from typing import Any, ClassVar, Self, Unpack

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Exists, OuterRef
from django.utils.functional import cached_property

from annotate.labels.forms import WorkForm
from annotate.labels.kinds.demonstration import (
    Demonstration,
    DemonstrationKind,
    DemonstrationReviewForm,
    WriteForm,
)
from annotate.labels.kinds.kind import Words
from annotate.labels.label import Effort, Label
from annotate.people.models import Project
from annotate.prompts.models import PromptQuerySet
from annotate.prompts.policies import Completion, CompletionQuerySet
from annotate.text.diff import changes
from annotate.work.assignments import Assignment
from annotate.work.tasks import TASKS_AT_ONCE, Task

UNCHANGED = (
    "You haven't changed anything yet. Correct the answer, or skip the task if nothing is wrong."
)


class Edit(Demonstration):
    original = models.ForeignKey(Completion, models.PROTECT, related_name="edits")
    diff = models.JSONField(
        default=list,
        blank=True,
        help_text='The pieces of both texts: ["same" | "gone" | "new", piece].',
    )

    class Meta:
        ordering = ["id"]
        # Those of demonstrations hold already: an edit is a row of theirs too.
        indexes: ClassVar[list[models.Index]] = []
        constraints: ClassVar[list[models.BaseConstraint]] = []

    @property
    def changes(self) -> list[tuple[str, str]]:
        return [(what, piece) for what, piece in self.diff]

    @property
    def content(self) -> dict[str, Any]:
        return {**super().content, "original": self.original_id}

    @classmethod
    def record(cls, *, assignment: Assignment, text: str, **effort: Unpack[Effort]) -> Edit:
        """Answers an editing task, once. Raises ValidationError where nothing is changed."""
        return cls._of(original_of(assignment), text, **effort).record_as_answer(assignment)

    def revise(self, *, revision_no: int, text: str, **effort: Unpack[Effort]) -> Edit:
        """Stores a correction over the revision `revision_no` that its author has seen. Raises
        Conflict, and ValidationError where nothing is changed."""
        return self._revise(self._of(self.original, text, **effort), revision_no)

    @classmethod
    def _of(cls, original: Completion, text: str, **effort: Unpack[Effort]) -> Edit:
        if text.strip() == original.text.strip():
            raise ValidationError(UNCHANGED)
        return cls(original=original, text=text, **effort)

    def _copy(self) -> Self:
        copy = super()._copy()
        copy.original = self.original
        return copy

    def save(self, **options: Any) -> None:
        self.diff = changes(self.original.text, self.text)
        super().save(**options)


def original_of(assignment: Assignment) -> Completion:
    """The one completion that an editing task, or its review, shows."""
    [pk] = assignment.shown_order
    return Completion.objects.get(pk=pk)


class EditForm(WriteForm):
    def __init__(self, assignment: Assignment, *args: Any, **options: Any) -> None:
        super().__init__(assignment, *args, **options)
        self.initial.setdefault("text", self.original.text)
        self.fields["text"].label = "The answer, corrected"

    @cached_property
    def original(self) -> Completion:
        """The completion that is to be corrected."""
        return original_of(self.assignment)

    @property
    def changes(self) -> list[tuple[str, str]]:
        """What is changed so far, in what was sent or is prefilled."""
        return changes(self.original.text, (self["text"].value() or "").replace("\r\n", "\n"))


class EditReviewForm(DemonstrationReviewForm):
    def own(self) -> Label | None:
        if super().own() is None:
            return None
        return Edit(original=original_of(self.assignment), text=self.cleaned_data["text"])


@transaction.atomic
def open_edit_tasks(
    project: Project,
    prompts: PromptQuerySet,
    overlap: int,
    batch: str,
    among: CompletionQuerySet | None = None,
) -> int:
    """Makes an editing task of each completion `among` these, or else of the newest one of each
    prompt, that says something, has no edit and is not open for one. Returns how many were made."""
    project.hold()
    editing = Task.objects.of_kind(Task.Kind.EDIT).filter(completions=OuterRef("pk"))
    fresh = (Completion.objects.all() if among is None else among).filter(
        ~Exists(editing.open()),
        ~Exists(editing.of_batch(batch)),
        ~Exists(Edit.objects.current().filter(original=OuterRef("pk"))),
        prompt__in=prompts,
        prompt__project=project,
        text__regex=r"\S",
    )
    if among is None:
        fresh = fresh.order_by("prompt_id", "-pk").distinct("prompt_id")
    chosen = list(fresh)
    tasks = [
        Task(project=project, prompt_id=each.prompt_id, kind=Task.Kind.EDIT, batch=batch)
        for each in chosen
    ]
    for task in tasks:
        task.overlap = overlap
    Task.objects.bulk_create(tasks, batch_size=TASKS_AT_ONCE)
    link = Task.completions.through
    pairs = zip(tasks, chosen, strict=True)
    links = [link(task_id=task.pk, completion_id=each.pk) for task, each in pairs]
    link.objects.bulk_create(links, batch_size=TASKS_AT_ONCE)
    return len(tasks)


class EditKind(DemonstrationKind):
    task = Task.Kind.EDIT
    model = Edit
    template = "annotate/edit.html"
    review_form = EditReviewForm
    beats = "original"
    words = Words(
        one="edit",
        many="edits",
        done="edited",
        doing="editing",
        to_do="Correct answers",
        to_do_detail="Fix what is wrong in the model's answers, and nothing else.",
        ask="Ask for edits",
        icon="pencil",
        lacking="these prompts have no completion left to correct",
    )

    def form_class(self, assignment: Assignment) -> type[WorkForm]:
        return EditForm

    def open_tasks(
        self,
        project: Project,
        prompts: PromptQuerySet,
        batch: str,
        among: CompletionQuerySet | None = None,
    ) -> int:
        return open_edit_tasks(project, prompts, project.overlap, batch, among)
