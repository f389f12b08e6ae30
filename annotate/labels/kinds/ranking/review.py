"""Rankings of one prompt side by side, and what a reviewer decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms

from annotate.labels.kinds.ranking.answer import Placement, Ranking, arranged
from annotate.labels.label import Label
from annotate.labels.review_forms import Decision, ReviewForm
from annotate.prompts.policies import Completion


class RankingReviewForm(ReviewForm):
    """With a tier of the reviewer's own for each completion."""

    as_gold = forms.BooleanField(required=False, label="Also use as gold")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        found = self.assignment.task.completions.in_bulk(self.assignment.shown_order)
        self.completions: list[Completion] = [found[pk] for pk in self.assignment.shown_order]
        tiers = [(n, f"Tier {n}") for n in range(1, len(self.completions) + 1)]
        for completion in self.completions:
            self.fields[f"place_{completion.pk}"] = forms.TypedChoiceField(
                choices=[("", "–"), *tiers], coerce=int, empty_value=None, required=False
            )
        if len(self.completions) == 2:
            self.fields["strength"] = forms.TypedChoiceField(
                choices=[("", "by how much?"), *Ranking.STRENGTHS],
                coerce=int,
                empty_value=None,
                required=False,
                label="How much better I find my first tier",
            )

    def clean(self) -> dict[str, Any]:
        said = super().clean()
        if self._act()[0] == "own":
            chosen = {pk: said.get(f"place_{pk}") for pk in self.assignment.shown_order}
            sent = [Placement(completion_id=pk, place=n) for pk, n in chosen.items() if n]
            said["placements"] = arranged(sent, self.assignment.letters, "ranked")
        elif self._act()[0] and said.get("as_gold"):
            self.add_error(
                "as_gold", "Only your own ranking can become gold: use that, or uncheck this."
            )
        return said

    def own(self) -> Label | None:
        if "placements" not in self.cleaned_data:
            return None
        said = self.cleaned_data
        shown, strength = self.assignment.shown_order, said.get("strength")
        return Ranking.of_places(shown, said["placements"], strength=strength)

    def decision(self) -> Decision:
        return {**super().decision(), "as_gold": self.cleaned_data["as_gold"]}

    def page(self) -> dict[str, Any]:
        subject = self.assignment.task.subject
        return {"rows": _matrix(self), "gold": subject and subject.gold}


@dataclass(frozen=True)
class Row:
    """One completion, and the place each labeler gave it."""

    letter: str
    completion: Completion
    placed: list[Placement]
    flags: list[list[str]]
    own: forms.BoundField
    gold: int | None
    spread: int  # 0 all agree … 4 first for one and last for another

    @property
    def mean_place(self) -> float:
        places = [each.place for each in self.placed] or [0]
        return sum(places) / len(places)

    @property
    def cells(self) -> list[tuple[Placement, list[str]]]:
        """(placement, its flags in words) of each labeler, in the order of the labels."""
        return list(zip(self.placed, self.flags, strict=True))


def _matrix(form: RankingReviewForm) -> list[Row]:
    """The completions, those first that labelers put first."""
    rankings: list[Ranking] = list(form.labels)
    places = [{placed.completion_id: placed for placed in ranking.placed} for ranking in rankings]
    subject = form.assignment.task.subject
    gold = subject.gold.places if subject and subject.gold else {}
    letters = form.assignment.letters
    rows = []
    for completion in form.completions:
        placed = [of_one[completion.pk] for of_one in places]
        flags = [each.flag_labels for each in placed]
        at_gold = gold.get(completion.pk)
        reach = [each.place for each in placed] + ([at_gold] if at_gold else []) or [1]
        apart = (max(reach) - min(reach)) / max(len(form.completions) - 1, 1)
        own = form[f"place_{completion.pk}"]
        spread = round(4 * apart)
        rows.append(Row(letters[completion.pk], completion, placed, flags, own, at_gold, spread))
    return sorted(rows, key=lambda row: (row.mean_place, row.letter))
