"""What reviewers send: a verdict on each answer, why, and what they would have answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, TypedDict
from urllib.parse import urlencode

from django import forms
from django.core.exceptions import ValidationError

from annotate.ids import id_in
from annotate.labels.forms import Seconds, Text
from annotate.labels.label import Label
from annotate.labels.verdicts import Cause, Verdict
from annotate.people.models import Project, User
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task, TaskQuerySet

AGES = {"1": "for a day or more", "3": "for three days or more", "7": "for a week or more"}


class Who(forms.ModelChoiceField):
    def label_from_instance(self, person: Any) -> str:
        return str(person.display_name)


class ReviewFilter(forms.Form):
    """Which of the waiting reviews to see."""

    reason = forms.ChoiceField(required=False, choices=[("", "any"), *Task.Doubt.choices])
    labeler = Who(required=False, queryset=User.objects.none(), empty_label="anybody")
    kind = forms.ChoiceField(required=False)
    age = forms.ChoiceField(
        required=False, label="Waiting", choices=[("", "any time"), *AGES.items()]
    )

    def __init__(self, project: Project, kinds: Sequence[tuple[str, str]], data: Any) -> None:
        super().__init__(data, auto_id="filter-%s")
        people = User.objects.filter(memberships__project=project)
        self.fields["labeler"].queryset = people.order_by("username")  # type: ignore[attr-defined]
        self.fields["kind"].choices = [("", "any"), *kinds]  # type: ignore[attr-defined]

    @property
    def is_narrow(self) -> bool:
        return self.is_valid() and any(self.cleaned_data.values())

    @property
    def query(self) -> str:
        """As it stands behind the address of a page."""
        return urlencode({name: self.data[name] for name in self.fields if self.data.get(name)})

    def narrow(self, reviews: TaskQuerySet) -> TaskQuerySet:
        asked = self.cleaned_data if self.is_valid() else {}
        if reason := asked.get("reason"):
            reviews = reviews.doubted(reason)
        if labeler := asked.get("labeler"):
            reviews = reviews.of_answers_by(labeler)
        if kind := asked.get("kind"):
            reviews = reviews.of_subjects_of_kind(kind)
        if age := asked.get("age"):
            reviews = reviews.older_than(timedelta(days=int(age)))
        return reviews


class Decision(TypedDict, total=False):
    """What a reviewer decides, as `Review.record` takes it."""

    verdicts: dict[int, str]
    own: Label | None
    cause: str
    comment: str
    scores: dict[int, int]
    as_gold: bool
    active_seconds: int


class ReviewForm(forms.Form):
    """The button pressed says what is decided: accept, own, or pick:2, send_back:2, exclude:2,
    where 2 stands for L2. Without a number it is about all."""

    seen = forms.CharField(required=False, widget=forms.HiddenInput)
    active_seconds = Seconds()
    cause = forms.ChoiceField(
        required=False,
        choices=[("", "none"), *Cause.choices],
        label="Cause",
    )
    comment = Text(
        rows=1,
        required=False,
        max_length=2000,
        label="Comment to the labeler",
    )
    verdict = forms.RegexField(
        r"^(accept|own|(pick|send_back|exclude)(:\d{1,2})?)$",
        widget=forms.HiddenInput,
        error_messages={
            "required": "Press one of the buttons to decide.",
            "invalid": "Press one of the buttons to decide.",
        },
    )

    def __init__(
        self, assignment: Assignment, labels: Sequence[Any], *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.assignment, self.labels = assignment, labels
        self.initial.setdefault("seen", " ".join(str(label.pk) for label in labels))
        self.initial.setdefault("active_seconds", assignment.active_seconds)

    def clean(self) -> dict[str, Any]:
        said = self.cleaned_data
        act, number = self._act()
        if number > len(self.labels):
            raise ValidationError(f"There is no L{number} any more. Look at the answers again.")
        if act not in ("", "accept", "send_back") and self.labels and not said.get("cause"):
            self.add_error("cause", "Choose a cause.")
        if act == "send_back" and not said.get("comment", "").strip():
            self.add_error("comment", "Tell the labeler what to change.")
        return said

    def _act(self) -> tuple[str, int]:
        act, _, number = self.cleaned_data.get("verdict", "").partition(":")
        return act, int(number or 0)

    def verdicts(self) -> dict[int, str]:
        """Label id → verdict, for the labels that the page has shown.

        Sending one back or excluding one accepts the others; picking one excludes them."""
        return {pk: self._verdict_on(slot) for slot, pk in self._seen()}

    def _seen(self) -> Iterator[tuple[int, int]]:
        """(2, the id of L2), and so on, of the labels that the page has shown."""
        seen = [pk for each in self.cleaned_data["seen"].split() if (pk := id_in(each))]
        return enumerate(seen, start=1)

    def _verdict_on(self, slot: int) -> str:
        act, number = self._act()
        chosen = {"accept": Verdict.ACCEPTED, "own": Verdict.EXCLUDED, "pick": Verdict.ACCEPTED}
        chosen |= {"send_back": Verdict.SENT_BACK, "exclude": Verdict.EXCLUDED}
        others = Verdict.EXCLUDED if act == "pick" else Verdict.ACCEPTED
        return chosen[act] if number in (0, slot) else others

    def own(self) -> Label | None:
        """What the reviewer would have answered, if that is the decision."""
        return None

    def page(self) -> dict[str, Any]:
        """What the page shows beside the form and the labels."""
        return {}

    def decision(self) -> Decision:
        """What `Review.record` takes."""
        return {
            "verdicts": self.verdicts(),
            "own": self.own(),
            "cause": self.cleaned_data["cause"],
            "comment": self.cleaned_data["comment"],
            "active_seconds": self.cleaned_data["active_seconds"],
        }
