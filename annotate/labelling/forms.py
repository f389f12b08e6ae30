"""What labelers send. A field's name is also the key under which a draft keeps its raw value."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, cast

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils.functional import cached_property

from annotate.ids import id_in
from annotate.labels.kinds.ranking import Placement, Ranking, arranged
from annotate.labels.label import LONGEST_ANSWER
from annotate.prompts.flags import PromptFlag
from annotate.prompts.policies import Completion
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task
from feedback_site.prepared import prepared

LONGEST_DAY = 24 * 3600
Flag = Placement.Flag
FLAG_GROUPS = {
    "Task": (
        Flag.FAILS_INSTRUCTION,
        Flag.HALLUCINATION,
        Flag.VIOLATES_CONSTRAINT,
        Flag.INAPPROPRIATE,
    ),
    "Harm": (
        Flag.SEXUAL,
        Flag.VIOLENT,
        Flag.ENCOURAGES_HARM,
        Flag.DENIGRATES,
        Flag.HARMFUL_ADVICE,
    ),
    "Tone": (Flag.OPINION, Flag.MORAL_JUDGEMENT),
}


class Text(forms.CharField):
    """Of several lines. A browser sends other line ends than it shows, and what people write is
    hashed, compared and learnt from."""

    def __init__(
        self, *, rows: int, attrs: dict[str, object] | None = None, **options: Any
    ) -> None:
        super().__init__(widget=forms.Textarea({"rows": rows, **(attrs or {})}), **options)

    def to_python(self, value: Any) -> str:
        return str(super().to_python(value)).replace("\r\n", "\n")


class WorkForm(forms.Form):
    """What every kind of work sends along."""

    idempotency_key = forms.UUIDField(widget=forms.HiddenInput)
    revision_no = forms.IntegerField(required=False, widget=forms.HiddenInput)
    active_seconds = forms.IntegerField(required=False, widget=forms.HiddenInput)
    pasted_share = forms.FloatField(required=False, widget=forms.HiddenInput)
    comment = Text(
        rows=2,
        required=False,
        max_length=2000,
        label="Comment to the lead",
    )

    # These belong to one page, not to the work.
    NOT_IN_A_DRAFT = frozenset({"idempotency_key", "revision_no", "active_seconds", "pasted_share"})

    def __init__(self, assignment: Assignment, *args: Any, **kwargs: Any):
        self.assignment = assignment
        super().__init__(*args, **kwargs)
        self.initial.setdefault("idempotency_key", uuid.uuid4())
        self.initial.setdefault("active_seconds", assignment.active_seconds)

    def clean_active_seconds(self) -> int:
        return min(max(self.cleaned_data["active_seconds"] or 0, 0), LONGEST_DAY)

    def clean_pasted_share(self) -> float:
        return min(max(self.cleaned_data["pasted_share"] or 0.0, 0.0), 1.0)

    def said(self) -> dict[str, Any]:
        """What the label's verbs take."""
        names = ("idempotency_key", "active_seconds", "pasted_share", "comment")
        return {name: self.cleaned_data[name] for name in names}

    def draft(self) -> dict[str, Any]:
        """The raw values, valid or not: unfinished work may be anything."""
        raw = {name: self[name].data for name in self.fields if name not in self.NOT_IN_A_DRAFT}
        return {name: without_nul(value) for name, value in raw.items() if value}


class WriteForm(WorkForm):
    text = Text(
        rows=16,
        attrs={"autofocus": True},
        label="Your answer",
        max_length=LONGEST_ANSWER,
        error_messages={"required": "Write an answer first, or skip the task."},
    )

    @staticmethod
    def initial_of(label: Any) -> dict[str, Any]:
        return {"text": label.text, "comment": label.comment}

    def said(self) -> dict[str, Any]:
        return {**super().said(), "text": self.cleaned_data["text"]}


class Option(NamedTuple):
    value: str
    label: str
    is_chosen: bool


@dataclass(frozen=True)
class Card:
    """One completion on the board, under the letter that hides where it comes from.

    Options instead of widgets: a page of nine cards has 250 of them, and each widget is a template
    of its own."""

    letter: str
    completion: Completion
    marks: list[Option]
    flags: list[tuple[str, list[Option]]]
    tiers: list[Option]

    @property
    def flag_count(self) -> int:
        return sum(option.is_chosen for _, options in self.flags for option in options)


# One field under many names: a field keeps nothing of the form it is in.
RATING = forms.TypedChoiceField(
    choices=[(n, str(n)) for n in range(1, 8)],
    coerce=int,
    empty_value=None,
    required=False,
    widget=forms.RadioSelect,
)
FLAGS = forms.MultipleChoiceField(
    choices=Flag.choices, required=False, widget=forms.CheckboxSelectMultiple
)


@cache
def _tiers(count: int) -> forms.ChoiceField:
    tiers = [(n, f"Tier {n}") for n in range(1, count + 1)]
    return forms.ChoiceField(choices=[("", "no tier yet"), *tiers], required=False)


class RatingForm(WorkForm):
    """What rankings of two and of many share: ratings, flags, the reason."""

    outcome = forms.ChoiceField(
        choices=Ranking.Outcome, required=False, initial=Ranking.Outcome.RANKED
    )
    reason = forms.CharField(
        required=False, max_length=500, label="Why this order? In one line, if you like"
    )

    def __init__(self, assignment: Assignment, *args: Any, **kwargs: Any):
        super().__init__(assignment, *args, **kwargs)
        for pk in assignment.shown_order:
            self._add_fields(pk)

    @cached_property
    def completions(self) -> list[Completion]:
        """In the order in which they are shown. A form that is sent needs only their ids."""
        completions = {each.pk: each for each in _completions_of(task=self.assignment.task_id)}
        return [completions[pk] for pk in self.assignment.shown_order]

    def _add_fields(self, pk: int) -> None:
        self.fields[f"rating_{pk}"] = RATING
        self.fields[f"flags_{pk}"] = FLAGS

    @property
    def cards(self) -> Iterator[Card]:
        letters = self.assignment.letters
        for completion in self.completions:
            pk = completion.pk
            tiers = self._options(f"place_{pk}") if f"place_{pk}" in self.fields else []
            flags = {option.value: option for option in self._options(f"flags_{pk}")}
            groups = [
                (name, [flags[each] for each in group]) for name, group in FLAG_GROUPS.items()
            ]
            yield Card(letters[pk], completion, self._options(f"rating_{pk}"), groups, tiers)

    def _options(self, name: str) -> list[Option]:
        """The choices of a field, with what is chosen now: sent, drafted or stored."""
        value = self[name].value()
        chosen = {str(each) for each in (value if isinstance(value, list) else [value])}
        field = cast(forms.ChoiceField, self.fields[name])
        choices = cast("list[tuple[Any, str]]", field.choices)
        return [Option(str(key), label, str(key) in chosen) for key, label in choices]

    def places(self) -> list[tuple[int, int]]:
        """(completion id, place) as it was sent, whole or not."""
        raise NotImplementedError

    def clean(self) -> dict[str, Any]:
        outcome = self.cleaned_data.get("outcome") or Ranking.Outcome.RANKED
        self.cleaned_data["outcome"] = outcome
        if not self.errors:
            sent = [Placement(completion_id=pk, place=place) for pk, place in self.places()]
            placements = arranged(sent, self.assignment.letters, outcome)
            for placement in placements:
                placement.rating = self.cleaned_data[f"rating_{placement.completion_id}"]
                placement.flags = self.cleaned_data[f"flags_{placement.completion_id}"]
            self.cleaned_data["placements"] = placements
        return self.cleaned_data

    def said(self) -> dict[str, Any]:
        names = ("placements", "outcome", "reason")
        return {**super().said(), **{name: self.cleaned_data[name] for name in names}}

    @staticmethod
    def initial_of(label: Any) -> dict[str, Any]:
        initial: dict[str, Any] = {"reason": label.reason, "comment": label.comment}
        for placement in label.placed:
            initial[f"rating_{placement.completion_id}"] = placement.rating
            initial[f"flags_{placement.completion_id}"] = placement.flags
        return initial


@prepared
def _completions_of(task: Any) -> QuerySet[Completion]:
    return Completion.objects.filter(tasks=task)


class RankForm(RatingForm):
    """Three to nine completions, each in a tier."""

    def _add_fields(self, pk: int) -> None:
        super()._add_fields(pk)
        self.fields[f"place_{pk}"] = _tiers(len(self.assignment.shown_order))

    def places(self) -> list[tuple[int, int]]:
        sent = cast(QueryDict, self.data)
        # Read from all that was sent, so that a completion sent twice or from elsewhere is refused.
        return [
            (_number(name.removeprefix("place_")), _number(value))
            for name, values in sent.lists()
            if name.startswith("place_")
            for value in values
            if value
        ]

    @staticmethod
    def initial_of(label: Any) -> dict[str, Any]:
        placed = {f"place_{pk}": place for pk, place in label.places.items()}
        return {**RatingForm.initial_of(label), **placed}


class PairForm(RatingForm):
    """Two completions: which is better, and by how much."""

    # The first shown and the second: their letters may stand the other way round.
    CHOICES = (("a", "{} is better"), ("tie", "Equally good"), ("b", "{} is better"))
    PLACES = {"a": (1, 2), "b": (2, 1), "tie": (1, 1)}
    STRENGTHS = ((4, "significantly"), (3, "clearly"), (2, "slightly"), (1, "negligibly"))

    choice = forms.ChoiceField(
        choices=CHOICES, required=False, widget=forms.RadioSelect, label="Which is better?"
    )
    strength = forms.TypedChoiceField(
        choices=STRENGTHS,
        coerce=int,
        empty_value=None,
        required=False,
        widget=forms.RadioSelect,
        label="How much better?",
    )

    def __init__(self, assignment: Assignment, *args: Any, **kwargs: Any):
        super().__init__(assignment, *args, **kwargs)
        first, second = (assignment.letters[pk] for pk in assignment.shown_order)
        names = {"a": first, "b": second}
        choice = cast(forms.ChoiceField, self.fields["choice"])
        choice.choices = [(key, text.format(names.get(key))) for key, text in self.CHOICES]

    def places(self) -> list[tuple[int, int]]:
        choice = self.cleaned_data.get("choice")
        if not choice and self.cleaned_data["outcome"] == Ranking.Outcome.RANKED:
            raise ValidationError("Choose which one is better, or that they are equally good.")
        return list(zip(self.assignment.shown_order, self.PLACES[choice or "tie"], strict=True))

    def said(self) -> dict[str, Any]:
        is_clear = (
            self.cleaned_data["choice"] in ("a", "b")
            and self.cleaned_data["outcome"] == Ranking.Outcome.RANKED
        )
        strength = self.cleaned_data["strength"] if is_clear else None
        return {**super().said(), "strength": strength}

    @staticmethod
    def initial_of(label: Any) -> dict[str, Any]:
        a, b = label.shown_order
        choices = {places: choice for choice, places in PairForm.PLACES.items()}
        pair = {"choice": choices[label.places[a], label.places[b]], "strength": label.strength}
        return {**RatingForm.initial_of(label), **pair}


class SkipForm(forms.Form):
    prefix = "skip"  # a ranking has a reason of its own
    reason = forms.ChoiceField(
        choices=Assignment.SkipReason,
        widget=forms.RadioSelect,
        error_messages={"required": "Say why you skip this task."},
    )
    note = forms.CharField(required=False, max_length=500, label="Note")


class FlagForm(forms.Form):
    """Stands beside the work form and is sent with it, so that nothing typed there is lost."""

    prefix = "flag"
    use_required_attribute = False  # or the browser would ask for a reason before each submit
    reason = forms.ChoiceField(
        choices=PromptFlag.Reason,
        widget=forms.RadioSelect(attrs={"form": "work"}),
        error_messages={"required": "Say what is wrong with the prompt."},
    )
    # Of two lines: Enter in a field of one would submit the work.
    note = Text(
        rows=2,
        attrs={"form": "work"},
        required=False,
        max_length=500,
        label="Note",
    )


def form_class_for(assignment: Assignment) -> type[WriteForm | RankForm | PairForm]:
    if assignment.task.kind == Task.Kind.WRITE:
        return WriteForm
    return PairForm if len(assignment.shown_order) == 2 else RankForm


def without_nul(value: Any) -> Any:
    """PostgreSQL stores no NUL characters; a draft is not the place to complain."""
    if isinstance(value, list):
        return [without_nul(item) for item in value]
    return value.replace("\x00", "") if isinstance(value, str) else value


def _number(text: str) -> int:
    number = id_in(text)
    if number is None:
        raise ValidationError(f"{text[:20]!r} is not a number.")
    return number
