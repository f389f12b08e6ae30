"""How completions compare, as one person sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from annotate.labels.label import Label, check_values
from annotate.people.models import Project
from annotate.prompts.policies import Completion
from annotate.work.assignments import Assignment
from annotate.work.letters import letters_in, letters_of
from annotate.work.tasks import Task


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
        """Best first. Of a ranking not saved yet: those it will be saved with."""
        return list(self.placements.all()) if self.pk else self._unsaved

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

    def doubts(self, project: Project) -> Iterator[str]:
        if not project.review_flags:
            return
        if any(placement.flags for placement in self.placed):
            yield Task.Doubt.FLAGGED
        if self.outcome == self.Outcome.ALL_BAD:
            yield Task.Doubt.ALL_BAD

    @classmethod
    def record(
        cls, *, assignment: Assignment, placements: Sequence[Placement], **said: Any
    ) -> Ranking:
        """Answers a ranking task, once. `placements` are unsaved rows, one for each completion;
        `said`: outcome, strength, reason, and what `Demonstration.record` takes as effort."""
        return cls.of_places(assignment.shown_order, placements, **said).record_as_answer(
            assignment
        )

    def revise(self, *, revision_no: int, placements: Sequence[Placement], **said: Any) -> Ranking:
        return self._revise(self.of_places(self.shown_order, placements, **said), revision_no)

    @classmethod
    def of_places(
        cls, shown_order: list[int], placements: Sequence[Placement], **said: Any
    ) -> Ranking:
        """A ranking not saved yet. Raises ValidationError where the places do not make one."""
        ranking = cls(shown_order=shown_order, **said)
        ranking._unsaved = arranged(placements, letters_of(shown_order), ranking.outcome)
        if ranking.strength is not None and not ranking.is_clear_choice:
            raise ValidationError("A strength is said of two completions, one of them better.")
        return ranking

    @property
    def is_clear_choice(self) -> bool:
        """Two completions, one of them better: the only case in which a strength makes sense."""
        return self.outcome == self.Outcome.RANKED and sorted(self.places.values()) == [1, 2]

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
        placements = self._unsaved
        self.letter_order = assignment.letter_order
        super()._insert(assignment, after=after)
        for placement in placements:
            placement.ranking = self
        Placement.objects.bulk_create(placements)


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
