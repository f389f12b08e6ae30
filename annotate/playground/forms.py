"""What one fills in for a grid: rows, how often they are asked and with which checks."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from annotate.documents.embedding import NOT_CHOSEN, embedder_of
from annotate.labels.forms import Text
from annotate.people.models import Project
from annotate.playground.column_forms import LONGEST_WORDS
from annotate.playground.grids import MOST_COLUMNS, MOST_PROMPTS, MOST_SAMPLES, MOST_TURNS, Grid
from annotate.playground.rows import (
    Row,
    as_games,
    as_typed,
    chosen,
    filled_in,
    lines_in,
    names_in,
    names_of,
    typed,
)
from annotate.prompts.policies import Policy
from annotate.prompts.search import alternatives
from feedback_site.answer_checks.check import CheckError
from feedback_site.answer_checks.exact import Means
from feedback_site.answer_checks.hangman import Hangman
from feedback_site.answer_checks.judge import Judged
from feedback_site.answer_checks.written import read_checks

LONGEST_TABLE = 2**20  # bytes


class RowsForm(forms.Form):
    """The rows from everywhere they may come from, and how they are asked."""

    prompts = Text(
        rows=8,
        required=False,
        max_length=MOST_PROMPTS * LONGEST_WORDS,
        help_text="A line of --- begins the next prompt. A line of +++ marks where the model "
        "answers and the user continues. A last line that begins with == is the right answer.",
    )
    table = forms.FileField(
        required=False,
        label="Table of variables (CSV)",
        help_text="Each prompt is asked once for every line, with {name} replaced by the column "
        "“name”. A column “reference” is the right answer, for checks.",
    )
    words = forms.CharField(
        required=False,
        max_length=200,
        label="Prompts of this project",
        help_text="Those that contain these words; * for any.",
    )
    most = forms.IntegerField(
        required=False, min_value=1, max_value=MOST_PROMPTS, initial=20, label="At most"
    )
    rows_of = forms.BooleanField(required=False, initial=True)
    checks = Text(
        rows=2,
        required=False,
        max_length=LONGEST_WORDS,
        initial="readable",
        help_text="Separated by commas or lines, such as contains(egg|eggs), length(5-50).",
    )
    samples = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MOST_SAMPLES,
        initial=1,
        label="Answers in each cell",
    )
    seed = forms.IntegerField(required=False, min_value=0, max_value=2**31 - 100, initial=0)
    partner = forms.ChoiceField(
        required=False,
        label="The user's next turns",
        help_text="A policy that plays the user is told who it is by its system prompt, and ends "
        "the conversation with END.",
    )
    turns = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MOST_TURNS,
        initial=3,
        label="Maximum turns",
    )

    def __init__(
        self,
        project: Project,
        *args: Any,
        again: Grid | None,
        may_choose: bool = True,
        **kwargs: Any,
    ) -> None:
        """`again`: a grid whose rows may be asked once more. `may_choose`: among the prompts of the
        project."""
        super().__init__(*args, **kwargs)
        self.project, self.again = project, again
        self.players = {str(each.pk): each for each in project.policies.sampleable()}
        partner = self.fields["partner"]
        assert isinstance(partner, forms.ChoiceField)
        partner.choices = [
            *((each, each.label) for each in (Grid.Partner.SCRIPT, Grid.Partner.HANGMAN)),
            *((pk, f"{policy} plays the user") for pk, policy in self.players.items()),
        ]
        if not may_choose:
            del self.fields["words"], self.fields["most"]
        if again is None:
            del self.fields["rows_of"]
        else:
            self.fields["rows_of"].label = f"The {len(again.asked)} rows of “{again}”"

    def variables(self) -> set[str]:
        """The names of the columns of the table."""
        return names_of(self.cleaned_data.get("table", ""))

    @property
    def rows_fields(self) -> list[forms.BoundField]:
        names = ("rows_of", "prompts", "table", "words", "most")
        return [self[name] for name in names if name in self.fields]

    @property
    def asking_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in ("checks", "samples", "seed", "partner", "turns")]

    def clean_checks(self) -> str:
        written: str = self.cleaned_data["checks"]
        try:
            checks = [each.check for each in read_checks(written)]
        except CheckError as error:
            raise ValidationError(f"{error}.".replace("..", ".")) from None
        judges = self.project.judges.in_use()
        for check in checks:
            if isinstance(check, Judged) and not judges.named(check.judge).exists():
                known = ", ".join(judges.values_list("name", flat=True)) or "none yet"
                raise ValidationError(
                    f"There is no judge “{check.judge}”. The judges are: {known}."
                )
        if any(isinstance(check, Means) for check in checks) and not embedder_of(self.project):
            raise ValidationError(NOT_CHOSEN)
        return written

    def clean_prompts(self) -> list[Row]:
        return typed(self.cleaned_data["prompts"])

    def clean_words(self) -> str:
        words: str = self.cleaned_data["words"].strip()
        if words not in ("", "*") and not alternatives(words):
            raise ValidationError("There is nothing to search for. Type a word, or part of one.")
        return words

    def clean_table(self) -> str:
        """The table that was chosen; where none was, the one before."""
        file = self.cleaned_data["table"]
        if not file:
            return str(self.data.get("kept", "")) if "uses_kept" in self.data else ""
        if file.size > LONGEST_TABLE:
            raise ValidationError("The table is larger than 1 MB. Take fewer lines.")
        try:
            file.seek(0)
            return str(file.read().decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise ValidationError("The table is not UTF-8. Save it as “CSV UTF-8”.") from None

    @property
    def kept_table(self) -> str:
        """A browser does not choose a file again by itself: its text goes along instead."""
        self.is_valid()
        return self.cleaned_data.get("table", "") if self.is_bound else ""

    @property
    def kept_lines(self) -> int:
        return lines_in(self.kept_table)

    def clean(self) -> dict[str, Any]:
        """Adds `rows`."""
        given = super().clean() or {}
        if self.errors:
            return given
        rows = [*given["prompts"]]
        if given["table"]:
            try:
                rows = filled_in(rows, given["table"], at_most=MOST_PROMPTS)
            except ValidationError as error:
                self.add_error("table", error)
                return given
        else:
            given["as_they_are"] = sorted(names_in(rows))
        if given.get("rows_of") and self.again:
            rows += self.again.rows
        rows += self._found()
        if not rows and not self.errors:
            self.add_error("prompts", "Write at least one prompt.")
        if len(rows) > MOST_PROMPTS:
            said = f"That is {len(rows)} prompts. Use at most {MOST_PROMPTS}."
            self.add_error("prompts", said)
        return {**given, "rows": rows, **self._partner(given, rows)}

    def _partner(self, given: dict[str, Any], rows: list[Row]) -> dict[str, Any]:
        """Who says the user's turns, and the rows and checks that go with it."""
        chosen = given["partner"]
        if player := self.players.get(chosen):
            turns = given["turns"] or self.fields["turns"].initial
            return {"partner": Grid.Partner.POLICY, "player": player, "turns": turns}
        if chosen != Grid.Partner.HANGMAN:
            return {"partner": Grid.Partner.SCRIPT}
        checks = {each.check.name for each in read_checks(given["checks"])}
        if Hangman.name not in checks:
            given["checks"] = ", ".join(filter(None, [Hangman.name, given["checks"]]))
        try:
            games = as_games(rows)
        except ValidationError as error:
            self.add_error("prompts", error)
            games = rows
        return {"partner": chosen, "rows": games, "checks": given["checks"]}

    def asked(self) -> dict[str, Any]:
        """What `Grid.lay_out` takes of it."""
        given = self.cleaned_data
        return {
            "prompts": given["rows"],
            "checks": given["checks"],
            "samples": given["samples"] or 1,
            "seed": given["seed"] or 0,
            "partner": given["partner"],
            "player": given.get("player"),
            "turns": given["turns"] if given.get("player") else 0,
        }

    def _found(self) -> list[Row]:
        words = self.cleaned_data.get("words")
        if not words:
            return []
        found = self.project.prompts.active().matching("" if words == "*" else words)
        rows = chosen(found.order_by("-pk")[: self.cleaned_data["most"] or MOST_PROMPTS])
        if not rows:
            self.add_error("words", "No prompt of this project contains that.")
        return rows


def initial_rows(grid: Grid | None) -> dict[str, Any]:
    """What one begins with: a grid that is asked again, its rows as text where they are plain."""
    if grid is None:
        return {}
    plain = all(row.is_plain for row in grid.rows)
    return {
        "prompts": as_typed(grid.rows) if plain else "",
        "rows_of": not plain,
        "checks": grid.checks,
        "samples": grid.samples,
        "seed": grid.seed,
        "partner": str(grid.player_id or grid.partner),
        "turns": grid.turns or 3,
    }


class RulesForm(forms.Form):
    """Which models the rules are tried on."""

    policies = forms.ModelMultipleChoiceField(
        Policy.objects.none(),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one model."},
    )
    samples = forms.IntegerField(
        required=False, min_value=1, max_value=MOST_SAMPLES, initial=1, label="Answers to each"
    )

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        policies = self.fields["policies"]
        assert isinstance(policies, forms.ModelMultipleChoiceField)
        policies.queryset = project.policies.sampleable()

    def clean_policies(self) -> list[Policy]:
        chosen_ones = list(self.cleaned_data["policies"])
        if len(chosen_ones) > MOST_COLUMNS // 2:
            raise ValidationError(f"Choose at most {MOST_COLUMNS // 2} models at once.")
        return chosen_ones
