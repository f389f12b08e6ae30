"""What reviewers send: a verdict on each answer, why, and what they would have answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from annotate.ids import id_in
from annotate.labelling.forms import Text
from annotate.labels.kinds.demonstration import Demonstration
from annotate.labels.kinds.ranking import Placement, Ranking, arranged
from annotate.labels.label import LONGEST_ANSWER, Label
from annotate.labels.reviews import Review
from annotate.prompts.policies import Completion
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task

Verdict = Review.Verdict


class ReviewForm(forms.Form):
    """The button pressed says what is decided: accept, own, or pick:2, send_back:2, exclude:2,
    where 2 stands for L2. Without a number it is about all."""

    seen = forms.CharField(required=False, widget=forms.HiddenInput)
    cause = forms.ChoiceField(
        required=False,
        choices=[("", "none"), *Review.Cause.choices],
        label="Cause of the trouble",
    )
    comment = Text(
        rows=2,
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

    def clean(self) -> dict[str, Any]:
        said = self.cleaned_data
        act, number = self._act()
        if number > len(self.labels):
            raise ValidationError(f"There is no L{number} any more. Look at the answers again.")
        if act not in ("", "accept") and self.labels and not said.get("cause"):
            self.add_error("cause", "Say what the trouble was caused by.")
        if act == "send_back" and not said.get("comment", "").strip():
            self.add_error("comment", "Say what the labeler should change.")
        return said

    def _act(self) -> tuple[str, int]:
        act, _, number = self.cleaned_data.get("verdict", "").partition(":")
        return act, int(number or 0)

    def verdicts(self) -> dict[int, str]:
        """Label id → verdict, for the labels that the page has shown.

        Sending one back or excluding one accepts the others; picking one excludes them."""
        act, number = self._act()
        chosen = {"accept": Verdict.ACCEPTED, "own": Verdict.EXCLUDED, "pick": Verdict.ACCEPTED}
        chosen |= {"send_back": Verdict.SENT_BACK, "exclude": Verdict.EXCLUDED}
        others = Verdict.EXCLUDED if act == "pick" else Verdict.ACCEPTED
        seen = [pk for each in self.cleaned_data["seen"].split() if (pk := id_in(each))]
        return {
            pk: chosen[act] if number in (0, place) else others
            for place, pk in enumerate(seen, start=1)
        }

    def own(self) -> Label | None:
        """What the reviewer would have answered, if that is the decision."""
        return None

    def said(self) -> dict[str, Any]:
        return {
            "verdicts": self.verdicts(),
            "own": self.own(),
            "cause": self.cleaned_data["cause"],
            "comment": self.cleaned_data["comment"],
        }


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

    def clean(self) -> dict[str, Any]:
        said = super().clean()
        if self._act()[0] == "own":
            chosen = {pk: said.get(f"place_{pk}") for pk in self.assignment.shown_order}
            sent = [Placement(completion_id=pk, place=n) for pk, n in chosen.items() if n]
            said["placements"] = arranged(sent, self.assignment.letters, "ranked")
        elif self._act()[0] and said.get("as_gold"):
            self.add_error("as_gold", "Gold is your own ranking: use that, or uncheck this.")
        return said

    def own(self) -> Label | None:
        if "placements" not in self.cleaned_data:
            return None
        return Ranking.of_places(self.assignment.shown_order, self.cleaned_data["placements"])

    def said(self) -> dict[str, Any]:
        return {**super().said(), "as_gold": self.cleaned_data["as_gold"]}


class DemonstrationReviewForm(ReviewForm):
    """With the text to edit, and a score."""

    score = forms.TypedChoiceField(
        choices=[(n, str(n)) for n in range(1, 8)],
        coerce=int,
        empty_value=None,
        required=False,
        widget=forms.RadioSelect,
        label="Score",
    )
    text = Text(
        rows=12,
        required=False,
        max_length=LONGEST_ANSWER,
        label="The answer as you would have it",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.labels:
            self.initial.setdefault("text", self.labels[0].text)

    def clean(self) -> dict[str, Any]:
        said = super().clean()
        if self.labels and said.get("score") is None and "verdict" in said:
            self.add_error("score", "Score the answer, from 1 to 7.")
        if self._act()[0] == "own" and not said.get("text", "").strip():
            self.add_error("text", "Write the answer as you would have it.")
        return said

    def own(self) -> Label | None:
        if self._act()[0] != "own":
            return None
        return Demonstration(text=self.cleaned_data["text"])

    def said(self) -> dict[str, Any]:
        return {**super().said(), "score": self.cleaned_data["score"]}


def review_form_for(assignment: Assignment) -> type[ReviewForm]:
    assert assignment.task.subject
    is_writing = assignment.task.subject.kind == Task.Kind.WRITE
    return DemonstrationReviewForm if is_writing else RankingReviewForm
