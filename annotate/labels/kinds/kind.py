"""What the rest of the house asks of a kind of label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from annotate.labels.forms import WorkForm
from annotate.labels.label import LabelQuerySet
from annotate.labels.review_forms import ReviewForm
from annotate.people.models import Project
from annotate.prompts.models import PromptQuerySet
from annotate.prompts.policies import CompletionQuerySet
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task


@dataclass(frozen=True)
class Words:
    """How people are told of a kind of label."""

    one: str  # demonstration
    many: str  # demonstrations
    done: str  # written: in the list of one's own work
    doing: str  # writing: “Continue writing”
    to_do: str  # Write answers
    to_do_detail: str
    ask: str  # Ask for demonstrations
    icon: str
    lacking: str  # why no task was opened, after “No task was opened:”


class LabelKind:
    """One kind of label: its table, the page on which it is given, and how it is reviewed."""

    task: ClassVar[Task.Kind]
    model: ClassVar[type[Any]]  # of Label, with `record` and `revise` for what its form says
    words: ClassVar[Words]
    template: ClassVar[str]
    review_form: ClassVar[type[ReviewForm]]
    review_template: ClassVar[str]
    is_about_prompts: ClassVar[bool] = True  # operators ask for it about prompts they have
    compares: ClassVar[bool] = False  # an answer puts all completions of its task in an order
    # Of a kind whose text says that it is better than a given completion: the field that holds that
    # completion. Such a pair teaches like a ranking of two, and a file calls it by the same name.
    beats: ClassVar[str] = ""

    @property
    def labels(self) -> LabelQuerySet:
        """Those of this kind alone: a table may build on that of another kind."""
        return LabelQuerySet(self.model).of_no_other_kind()

    def form_class(self, assignment: Assignment) -> type[WorkForm]:
        """The form of the page on which the assignment is answered."""
        raise NotImplementedError

    def open_tasks(
        self,
        project: Project,
        prompts: PromptQuerySet,
        batch: str,
        among: CompletionQuerySet | None = None,
    ) -> int:
        """Asks for labels on these prompts, about these completions `among` theirs if any are
        given, where there is something to ask. Returns how many tasks were made."""
        raise NotImplementedError
