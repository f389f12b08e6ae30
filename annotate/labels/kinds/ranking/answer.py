"""What a labeler says of completions: the model, and the forms of the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Self, Unpack, cast

from django import forms
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils.functional import cached_property

from annotate.ids import id_in
from annotate.labels.forms import WorkForm
from annotate.labels.label import FROM_GUEST, Effort, Label, check_values
from annotate.people.models import Project, User
from annotate.prompts.models import Prompt
from annotate.prompts.policies import Completion
from annotate.work.assignments import Assignment
from annotate.work.letters import letters_in, letters_of
from annotate.work.tasks import Task
from feedback_site.prepared import prepared


class Judgement(Effort, total=False):
    """What is said of the completions beside their places."""

    outcome: str
    strength: int | None
    reason: str


class RankingSaid(Judgement, total=False):
    """All that the form of a ranking sends."""

    placements: list[Placement]


class Ranking(Label):
    """One labeler's order over 2..K completions."""

    class Outcome(models.TextChoices):
        RANKED = "ranked"
        ALL_BAD = "all_bad", "all bad"

    outcome = models.CharField(max_length=10, choices=Outcome, default=Outcome.RANKED)
    strength = models.PositiveSmallIntegerField(
        null=True,
        validators=[MinValueValidator(1), MaxValueValidator(4)],
        help_text="Of two: 4 significantly better … 1 negligibly better (Llama 2, §3.2.1).",
    )
    reason = models.CharField(max_length=500, blank=True)
    shown_order = models.JSONField(default=list)
    letter_order = models.JSONField(
        null=True,
        help_text="Completion ids in the order of their letters, where the labeler saw others than "
        "everybody.",
    )

    PARTS = ("placements",)
    STRENGTHS = ((4, "much better"), (3, "better"), (2, "slightly better"), (1, "barely better"))
    template = "annotate/_ranking.html"
    _unsaved: list[Placement]

    class Meta(Label.Meta):
        abstract = False

    def __str__(self) -> str:
        return f"ranking {self.pk}"

    @property
    def content(self) -> dict[str, Any]:
        placed = sorted(self.placed, key=lambda p: p.completion_id)
        return {
            **super().content,
            "outcome": self.outcome,
            "strength": self.strength,
            "reason": self.reason,
            "placed": [(p.completion_id, p.place, p.rating, sorted(p.flags)) for p in placed],
        }

    @property
    def placed(self) -> list[Placement]:
        """Best first. Of a ranking not saved yet, or just now: those it is saved with."""
        own = self.__dict__.get("_unsaved")
        return list(self.placements.all()) if own is None else own

    @property
    def places(self) -> dict[int, int]:
        """Completion id → place, the best first."""
        return {each.completion_id: each.place for each in self.placed}

    @property
    def letters(self) -> dict[int, str]:
        """Completion id → the letter that the labeler's reason and comment call it by."""
        return letters_in(self.letter_order) if self.letter_order else letters_of(self.places)

    @property
    def tiers(self) -> list[list[str]]:
        """The letters of the completions, best tier first: [["B"], ["A", "C"]]."""
        letters, tiers = self.letters, dict[int, list[str]]()
        for completion, place in self.places.items():
            tiers.setdefault(place, []).append(letters[completion])
        return [sorted(tiers[place]) for place in sorted(tiers)]

    @property
    def in_short(self) -> str:
        if self.outcome == self.Outcome.ALL_BAD:
            return "all bad"
        order = " > ".join(" = ".join(tier) for tier in self.tiers)
        return f"{order}, {self.how_much}" if self.how_much else order

    @property
    def how_much(self) -> str:
        """How much better the one of two is, in words; empty where nobody has said so."""
        return dict(self.STRENGTHS).get(self.strength or 0, "")

    def doubts(self, project: Project) -> Iterator[str]:
        if not project.review_flags:
            return
        if any(placement.flags for placement in self.placed):
            yield Task.Doubt.FLAGGED
        if self.outcome == self.Outcome.ALL_BAD:
            yield Task.Doubt.ALL_BAD

    @classmethod
    def record(
        cls, *, assignment: Assignment, placements: Sequence[Placement], **said: Unpack[Judgement]
    ) -> Ranking:
        """Answers a ranking task, once. `placements` are unsaved rows, one for each
        completion."""
        return cls.of_places(assignment.shown_order, placements, **said).record_as_answer(
            assignment
        )

    def revise(
        self, *, revision_no: int, placements: Sequence[Placement], **said: Unpack[Judgement]
    ) -> Ranking:
        """Stores a correction over the revision `revision_no` that its author has seen. Raises
        Conflict, ValidationError."""
        return self._revise(self.of_places(self.shown_order, placements, **said), revision_no)

    @classmethod
    def of_places(
        cls, shown_order: list[int], placements: Sequence[Placement], **said: Unpack[Judgement]
    ) -> Ranking:
        """A ranking not saved yet. Raises ValidationError where the places do not make one."""
        ranking = cls(shown_order=shown_order, **said)
        ranking._unsaved = arranged(placements, letters_of(shown_order), ranking.outcome)
        if ranking.strength is not None and not ranking.is_clear_choice:
            raise ValidationError("A strength is only for two completions of which one is better.")
        return ranking

    @property
    def is_clear_choice(self) -> bool:
        """Two completions, one of them better: the only case in which a strength makes sense."""
        return self.outcome == self.Outcome.RANKED and sorted(self.places.values()) == [1, 2]

    @classmethod
    @transaction.atomic
    def of_guest(
        cls, *, prompt: Prompt, guest: User, places: Mapping[int, int], shown_order: list[int]
    ) -> Ranking:
        """What a guest of the chat prefers, asked beside the answers and in no task. `places`:
        completion id → place, the best first."""
        placements = [Placement(completion_id=pk, place=place) for pk, place in places.items()]
        ranking = cls.of_places(shown_order, placements)
        ranking.prompt, ranking.labeler, ranking.source = prompt, guest, FROM_GUEST
        return ranking.add_revision(after=None)

    def _copy(self) -> Ranking:
        copy = super()._copy()
        copy.outcome, copy.strength, copy.reason = self.outcome, self.strength, self.reason
        copy.shown_order = self.shown_order
        copy._unsaved = [
            Placement(completion_id=p.completion_id, place=p.place, rating=p.rating, flags=p.flags)
            for p in self.placed
        ]
        return copy

    def _insert(self, assignment: Assignment, *, after: Self | None) -> None:
        self.letter_order = assignment.letter_order
        super()._insert(assignment, after=after)

    def add_revision(self, *, after: Self | None) -> Self:
        placements = self._unsaved
        super().add_revision(after=after)
        for placement in placements:
            placement.ranking = self
        Placement.objects.bulk_create(placements)
        return self


class Placement(models.Model):
    """The place of one completion in a ranking. Ties share a place; 1 is best."""

    class Flag(models.TextChoices):
        FAILS_INSTRUCTION = "fails_instruction", "Fails the instruction"
        HALLUCINATION = "hallucination", "Makes things up"
        VIOLATES_CONSTRAINT = "violates_constraint", "Violates a constraint"
        INAPPROPRIATE = "inappropriate", "Inappropriate for an assistant"
        SEXUAL = "sexual", "Sexual content"
        VIOLENT = "violent", "Violent content"
        ENCOURAGES_HARM = "encourages_harm", "Encourages harm"
        DENIGRATES = "denigrates", "Denigrates a protected class"
        HARMFUL_ADVICE = "harmful_advice", "Gives harmful advice"
        OPINION = "opinion", "Expresses an opinion"
        MORAL_JUDGEMENT = "moral_judgement", "Expresses a moral judgement"

    ranking = models.ForeignKey(Ranking, models.CASCADE, related_name="placements")
    completion = models.ForeignKey(Completion, models.PROTECT, related_name="placements")
    place = models.PositiveSmallIntegerField(validators=[MinValueValidator(1)])
    rating = models.PositiveSmallIntegerField(
        null=True, validators=[MinValueValidator(1), MaxValueValidator(7)]
    )
    flags = ArrayField(models.CharField(max_length=30, choices=Flag), default=list, blank=True)

    class Meta:
        ordering = ["place", "id"]
        constraints = [
            models.UniqueConstraint(fields=["ranking", "completion"], name="one_place_a_completion")
        ]

    def __str__(self) -> str:
        return f"{self.completion_id} at {self.place}"

    @property
    def flag_labels(self) -> list[str]:
        """Its flags in words."""
        return [str(self.Flag(flag).label) for flag in self.flags]


def arranged(
    placements: Sequence[Placement], name: Mapping[int, str], outcome: str
) -> list[Placement]:
    """The placements with their places made dense (1, 2, 2, 3), best first. Every completion, which
    `name` gives by its letter, must have one; where all are bad, those left out share the last
    place."""
    ids = [p.completion_id for p in placements]
    foreign = sorted({str(pk) for pk in ids if pk not in name})
    twice = sorted({name[pk] for pk in ids if pk in name and ids.count(pk) > 1})
    missing = [pk for pk in sorted(name, key=lambda pk: name[pk]) if pk not in ids]
    if foreign:
        raise ValidationError(f"Completion {', '.join(foreign)} is not part of this ranking.")
    if twice:
        raise ValidationError(f"{', '.join(twice)} has more than one tier. Choose one.")
    if missing and outcome == Ranking.Outcome.RANKED:
        raise ValidationError(f"Choose a tier for {', '.join(name[pk] for pk in missing)} too.")
    tiers = sorted({p.place for p in placements})
    for placement in placements:
        check_values(placement)
        placement.place = tiers.index(placement.place) + 1
    last = [Placement(completion_id=pk, place=len(tiers) + 1) for pk in missing]
    return sorted([*placements, *last], key=lambda p: p.place)


# The page

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
    return forms.ChoiceField(choices=[("", "Unranked"), *tiers], required=False)


class RatingForm(WorkForm):
    """What rankings of two and of many share: ratings, flags, the reason."""

    outcome = forms.ChoiceField(
        choices=Ranking.Outcome, required=False, initial=Ranking.Outcome.RANKED
    )
    reason = forms.CharField(
        required=False, max_length=500, label="Why this order? One line, optional"
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
    def letters(self) -> list[str]:
        """As they are shown, one after the other."""
        return [self.assignment.letters[pk] for pk in self.assignment.shown_order]

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

    def as_kwargs(self) -> RankingSaid:
        return {
            **super().as_kwargs(),
            "placements": self.cleaned_data["placements"],
            "outcome": self.cleaned_data["outcome"],
            "reason": self.cleaned_data["reason"],
        }

    @staticmethod
    def initial_of(label: Any) -> dict[str, Any]:
        initial: dict[str, Any] = {"reason": label.reason, "comment": label.comment}
        for placement in label.placed:
            initial[f"rating_{placement.completion_id}"] = placement.rating
            initial[f"flags_{placement.completion_id}"] = placement.flags
        return initial


@prepared
def _completions_of(task: int) -> QuerySet[Completion]:
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


class Mark(NamedTuple):
    """One point of the scale between two answers, and the key that chooses it."""

    value: str
    label: str
    key: str
    is_chosen: bool


class PairForm(RatingForm):
    """Two completions, and one scale: from the first being much better to the second being so.

    A choice is "a" or "b", for the first or the second shown, and the strength; or "tie"."""

    STRENGTHS = Ranking.STRENGTHS
    TIE = ("tie", "Equally good", "=")
    PLACES = {"a": (1, 2), "b": (2, 1), "t": (1, 1)}

    choice = forms.ChoiceField(required=False, widget=forms.RadioSelect, label="Which is better?")

    def __init__(self, assignment: Assignment, *args: Any, **kwargs: Any):
        super().__init__(assignment, *args, **kwargs)
        choice = cast(forms.ChoiceField, self.fields["choice"])
        choice.choices = [(value, label) for value, label, _ in self._points()]

    def _points(self) -> Iterator[tuple[str, str, str]]:
        """(value, label, key) from the left to the right."""
        # Their letters may stand the other way round.
        first, second = self.letters
        for n, (strength, words) in enumerate(self.STRENGTHS, start=1):
            yield f"a{strength}", f"{first} {words}", str(n)
        yield self.TIE
        for n, (strength, words) in enumerate(reversed(self.STRENGTHS), start=5):
            yield f"b{strength}", f"{second} {words}", str(n)

    @property
    def scale(self) -> list[Mark]:
        chosen = self["choice"].value()
        return [Mark(value, label, key, value == chosen) for value, label, key in self._points()]

    def places(self) -> list[tuple[int, int]]:
        choice = self.cleaned_data.get("choice")
        if not choice and self.cleaned_data["outcome"] == Ranking.Outcome.RANKED:
            raise ValidationError("Choose the better one, or “Equally good”.")
        places = self.PLACES[(choice or "tie")[0]]
        return list(zip(self.assignment.shown_order, places, strict=True))

    def as_kwargs(self) -> RankingSaid:
        side, strength = self.cleaned_data["choice"][:1], self.cleaned_data["choice"][1:]
        is_clear = side in ("a", "b") and self.cleaned_data["outcome"] == Ranking.Outcome.RANKED
        return {**super().as_kwargs(), "strength": int(strength) if is_clear else None}

    @staticmethod
    def initial_of(label: Any) -> dict[str, Any]:
        first, second = (label.places[pk] for pk in label.shown_order)
        side = "a" if first < second else "b"
        choice = "tie" if first == second else f"{side}{label.strength or ''}"
        return {**RatingForm.initial_of(label), "choice": choice}


def _number(text: str) -> int:
    number = id_in(text)
    if number is None:
        raise ValidationError(f"{text[:20]!r} is not a number.")
    return number
