"""What a person would have said: the model, the forms, and how it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Self, Unpack

from django import forms
from django.db import models, transaction
from django.db.models import Exists, OuterRef, Q

from annotate.labels.forms import Text, WorkForm
from annotate.labels.kinds.kind import LabelKind, Words
from annotate.labels.label import FROM_GUEST, LONGEST_ANSWER, Effort, Label
from annotate.labels.review_forms import Decision, ReviewForm
from annotate.labels.verdicts import Verdict
from annotate.people.models import Project
from annotate.prompts.models import PromptQuerySet
from annotate.prompts.policies import CompletionQuerySet, Policy
from annotate.text.diff import changes
from annotate.work.assignments import Assignment
from annotate.work.tasks import TASKS_AT_ONCE, Task
from feedback_site.answer_checks.languages import language_of

PASSING_SCORE = 6
UNUSED_EDIT = (
    "You changed the answer, and this decision does not use your version. Use your edit, or check "
    "“Leave my version out” and decide again."
)


class Writing(Effort, total=False):
    """All that the form of a demonstration sends."""

    text: str


class Demonstration(Label):
    text = models.TextField()
    distilled_from = models.ForeignKey(
        Policy,
        models.PROTECT,
        null=True,
        related_name="distillations",
        help_text="The policy whose answer this is: it owes something to all who taught that one.",
    )

    template = "annotate/_demonstration.html"

    class Meta(Label.Meta):
        abstract = False

    def __str__(self) -> str:
        return self.text[:60]

    @property
    def content(self) -> dict[str, Any]:
        return {**super().content, "text": self.text}

    @property
    def in_short(self) -> str:
        return self.text

    @property
    def changes(self) -> list[tuple[str, str]]:
        """What it changed in a text it began from, as `text.diff` has it; nothing if in none."""
        return []

    def doubts(self, project: Project) -> Iterator[str]:
        if self.source == FROM_GUEST:
            yield Task.Doubt.GUEST
        elif self._is_of_a_new_writer(project):
            yield Task.Doubt.NEW_WRITER

    def _is_of_a_new_writer(self, project: Project) -> bool:
        """Until enough demonstrations score 6 or more on average (InstructGPT, appendix B.1)."""
        wanted = project.new_writer_reviews
        scores = self.labeler.demonstrations.of_project(project).scores()[:wanted]
        return len(scores) < wanted or sum(scores) < PASSING_SCORE * wanted

    @classmethod
    def guests_that_count(cls, at: datetime | None) -> Q:
        """What a guest wrote trains once a reviewer has accepted it; of an import, at once."""
        return Q(last_verdict=Verdict.ACCEPTED) | Q(assignment=None)

    @classmethod
    def record(
        cls, *, assignment: Assignment, text: str, **effort: Unpack[Effort]
    ) -> Demonstration:
        """Answers a writing task, once."""
        return cls(text=text, **effort).record_as_answer(assignment)

    def revise(self, *, revision_no: int, text: str, **effort: Unpack[Effort]) -> Demonstration:
        """Stores a correction over the revision `revision_no` that its author has seen. Raises
        Conflict, ValidationError."""
        return self._revise(type(self)(text=text, **effort), revision_no)

    def _copy(self) -> Self:
        copy = super()._copy()
        copy.text = self.text
        return copy


class WriteForm(WorkForm):
    text = Text(
        rows=16,
        attrs={"autofocus": True},
        label="Your answer",
        max_length=LONGEST_ANSWER,
        error_messages={"required": "Write an answer first, or skip the task."},
    )

    def __init__(self, assignment: Assignment, *args: Any, **kwargs: Any) -> None:
        super().__init__(assignment, *args, **kwargs)
        asked = language_of(assignment.task.prompt.text)
        self.fields["text"].widget.attrs |= {"lang": asked, "spellcheck": "true"}

    @staticmethod
    def initial_of(label: Any) -> dict[str, Any]:
        return {"text": label.text, "comment": label.comment}

    def as_kwargs(self) -> Writing:
        return {**super().as_kwargs(), "text": self.cleaned_data["text"]}


class Score(forms.TypedChoiceField):
    def __init__(self, **options: Any) -> None:
        choices = [(n, str(n)) for n in range(1, 8)]
        options |= {"choices": choices, "coerce": int, "empty_value": None}
        super().__init__(required=False, widget=forms.RadioSelect, **options)


class DemonstrationReviewForm(ReviewForm):
    """With the text to edit, and a score for each answer: `score`, or `score_1`, `score_2`, … of
    several."""

    text = Text(
        rows=12,
        required=False,
        max_length=LONGEST_ANSWER,
        label="Your version of the answer",
    )
    leave_out = forms.BooleanField(required=False, label="Leave my version out")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.labels:
            self.initial.setdefault("text", self.labels[0].text)
        for slot in range(1, len(self.labels) + 1):
            # Each answer has one of its own: scores say which new writers are trusted.
            label = f"Score of L{slot}" if self._of_several else "Score"
            self.fields[self._score_of(slot)] = Score(label=label)

    @property
    def _of_several(self) -> bool:
        return len(self.labels) > 1

    def _score_of(self, slot: int) -> str:
        """The field with the score of L2, and so on."""
        return f"score_{slot}" if self._of_several else "score"

    @property
    def scored(self) -> list[tuple[Any, forms.BoundField]]:
        """Each label with the field of its score."""
        return [(label, self[self._score_of(n)]) for n, label in enumerate(self.labels, start=1)]

    def _wants_score(self, slot: int) -> bool:
        """What is accepted is scored; of one answer, whatever else becomes of it but sent back."""
        verdict = self._verdict_on(slot)
        return verdict == Verdict.ACCEPTED if self._of_several else verdict != Verdict.SENT_BACK

    def clean(self) -> dict[str, Any]:
        said = super().clean()
        act = self._act()[0]
        for slot in range(1, len(self.labels) + 1) if act else ():
            if said.get(self._score_of(slot)) is None and self._wants_score(slot):
                self.add_error(self._score_of(slot), "Score the answer, from 1 to 7.")
        if act == "own" and not said.get("text", "").strip():
            self.add_error("text", "Write your version of the answer.")
        if act not in ("", "own") and self._is_changed() and not said.get("leave_out"):
            self.add_error("leave_out", UNUSED_EDIT)
        return said

    def _is_changed(self) -> bool:
        """Whether the reviewer has written another version; a text that was not sent is none."""
        text = self.cleaned_data.get("text", "")
        return bool(text and self.labels) and text != self.labels[0].text.strip()

    def own(self) -> Label | None:
        """The reviewer's version as a label not saved yet; None where the decision is another."""
        if self._act()[0] != "own":
            return None
        return Demonstration(text=self.cleaned_data["text"])

    def page(self) -> dict[str, Any]:
        if not self.labels:
            return {}
        label, shown = self.labels[0], {}
        if label.supersedes:
            shown["correction"] = changes(label.supersedes.text, label.text)
            shown["asked"] = label.supersedes.reviews.last()
        if self.is_bound:
            shown["edit"] = changes(label.text, self["text"].value() or "")
        return shown

    def decision(self) -> Decision:
        scores = {pk: self.cleaned_data.get(self._score_of(slot)) for slot, pk in self._seen()}
        return {**super().decision(), "scores": {pk: n for pk, n in scores.items() if n}}


@transaction.atomic
def open_write_tasks(project: Project, prompts: PromptQuerySet, overlap: int, batch: str) -> int:
    """Makes a writing task for each prompt that has no demonstration, no open writing task and
    none in this batch yet. Returns how many were made."""
    project.hold()
    writing = Task.objects.of_kind(Task.Kind.WRITE).filter(prompt=OuterRef("pk"))
    written = Demonstration.objects.current().filter(prompt=OuterRef("pk"))
    bare = prompts.filter(
        ~Exists(written), ~Exists(writing.open()), ~Exists(writing.of_batch(batch)), project=project
    )
    tasks = [
        Task(project=project, prompt_id=pk, kind=Task.Kind.WRITE, overlap=overlap, batch=batch)
        for pk in bare.order_by("pk").values_list("pk", flat=True)
    ]
    Task.objects.bulk_create(tasks, batch_size=TASKS_AT_ONCE)
    return len(tasks)


class DemonstrationKind(LabelKind):
    task = Task.Kind.WRITE
    model = Demonstration
    template = "annotate/write.html"
    review_form = DemonstrationReviewForm
    review_template = "annotate/review_demonstration.html"
    words = Words(
        one="demonstration",
        many="demonstrations",
        done="written",
        doing="writing",
        to_do="Write answers",
        to_do_detail="Show the model what a good answer is.",
        ask="Ask for demonstrations",
        icon="pencil",
        lacking="each of these prompts already has a demonstration or an open writing task",
    )

    def form_class(self, assignment: Assignment) -> type[WorkForm]:
        return WriteForm

    def open_tasks(
        self,
        project: Project,
        prompts: PromptQuerySet,
        batch: str,
        among: CompletionQuerySet | None = None,
    ) -> int:
        return open_write_tasks(project, prompts, project.overlap, batch)
