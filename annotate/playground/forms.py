"""What one fills in for a grid: rows, columns, how often and with which checks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from annotate.labels.forms import Text
from annotate.people.models import Project
from annotate.playground.grids import (
    MOST_COLUMNS,
    MOST_PROMPTS,
    MOST_SAMPLES,
    MOST_TURNS,
    Column,
    Grid,
)
from annotate.playground.rows import Row, as_games, as_typed, chosen, filled_in, typed
from annotate.prompts.models import Messages, validate_prompt_format
from annotate.prompts.policies import MOST_PASSAGES, Policy
from annotate.prompts.search import alternatives
from annotate.prompts.templates import WORDS, PromptTemplate
from feedback_site.answer_checks.check import CheckError
from feedback_site.answer_checks.hangman import Hangman
from feedback_site.answer_checks.judge import Judged
from feedback_site.answer_checks.written import read_checks

LONGEST_WORDS = 8000
LONGEST_TABLE = 2 * 2**20  # bytes
FEWEST_COLUMNS = 2  # that are shown
TURN = re.compile(r"^(User|Assistant):[ \t]*", re.MULTILINE)


class RowsForm(forms.Form):
    """The rows from everywhere they may come from, and how they are asked."""

    prompts = Text(
        rows=8,
        required=False,
        max_length=MOST_PROMPTS * LONGEST_WORDS,
        help_text="A line of --- begins the next prompt. A line of +++ marks where the model "
        "answers and the user continues.",
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

    def __init__(self, project: Project, *args: Any, again: Grid | None, **kwargs: Any) -> None:
        """`again`: a grid whose rows may be asked once more."""
        super().__init__(*args, **kwargs)
        self.project, self.again = project, again
        self.players = {str(each.pk): each for each in project.policies.sampleable()}
        partner = self.fields["partner"]
        assert isinstance(partner, forms.ChoiceField)
        partner.choices = [
            *((each, each.label) for each in (Grid.Partner.SCRIPT, Grid.Partner.HANGMAN)),
            *((pk, f"{policy} plays the user") for pk, policy in self.players.items()),
        ]
        if again is None:
            del self.fields["rows_of"]
        else:
            self.fields["rows_of"].label = f"The {len(again.asked)} rows of “{again}”"

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
        return written

    def clean_prompts(self) -> list[Row]:
        return typed(self.cleaned_data["prompts"])

    def clean_words(self) -> str:
        words: str = self.cleaned_data["words"].strip()
        if words not in ("", "*") and not alternatives(words):
            raise ValidationError("There is nothing to search for. Type a word, or part of one.")
        return words

    def clean_table(self) -> str:
        file = self.cleaned_data["table"]
        if not file:
            return ""
        if file.size > LONGEST_TABLE:
            raise ValidationError("The table is larger than 2 MB. Take fewer lines.")
        try:
            return str(file.read().decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise ValidationError("The table is not UTF-8. Save it as “CSV UTF-8”.") from None

    def clean(self) -> dict[str, Any]:
        """Adds `rows`."""
        given = super().clean() or {}
        if self.errors:
            return given
        rows = [*given["prompts"]]
        if given.get("rows_of") and self.again:
            rows += self.again.rows
        if given["table"]:
            try:
                rows = filled_in(rows, given["table"], at_most=MOST_PROMPTS)
            except ValidationError as error:
                self.add_error("table", error)
                return given
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
        words = self.cleaned_data["words"]
        if not words:
            return []
        found = self.project.prompts.active().matching("" if words == "*" else words)
        rows = chosen(found.order_by("-pk")[: self.cleaned_data["most"] or MOST_PROMPTS])
        if not rows:
            self.add_error("words", "No prompt of this project contains that.")
        return rows


class TemplateForm(forms.Form):
    """The words around a prompt."""

    system_prompt = Text(
        rows=3,
        required=False,
        max_length=LONGEST_WORDS,
    )
    few_shot = Text(
        rows=3,
        required=False,
        max_length=LONGEST_WORDS,
        label="Examples",
        help_text="Turns that begin with “User:” or “Assistant:”, in pairs.",
    )
    prompt_format = Text(
        rows=2,
        required=False,
        max_length=LONGEST_WORDS,
        validators=[validate_prompt_format],
        help_text="Delimiters and output format around the prompt, with {prompt} in its place.",
    )

    def clean_few_shot(self) -> Messages:
        return turns_of(self.cleaned_data["few_shot"])


class WordsForm(TemplateForm):
    """The words around a prompt, and how the model is sampled."""

    temperature = forms.FloatField(min_value=0, max_value=2, initial=0.7)
    max_new_tokens = forms.IntegerField(
        min_value=1, max_value=4096, initial=256, label="Maximum length, in tokens"
    )

    passages_read = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=MOST_PASSAGES,
        initial=0,
        label="Passages it reads",
        help_text="Of the project's documents, looked up for each question. 0: none.",
    )

    def clean_passages_read(self) -> int:
        return self.cleaned_data["passages_read"] or 0


class ColumnForm(WordsForm):
    weights = forms.ModelChoiceField(
        Policy.objects.none(), required=False, label="Model", empty_label="none"
    )
    template = forms.ModelChoiceField(
        PromptTemplate.objects.none(),
        required=False,
        empty_label="none: the words below",
        help_text="Its words take the place of those below.",
    )
    field_order = ("weights", "template")

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        weights = self.fields["weights"]
        assert isinstance(weights, forms.ModelChoiceField)
        weights.queryset = project.policies.sampleable()
        template = self.fields["template"]
        assert isinstance(template, forms.ModelChoiceField)
        template.queryset = project.templates.all()
        if not project.templates.exists():
            del self.fields["template"]

    def column(self) -> Column:
        words = dict(self.cleaned_data)
        weights, template = words.pop("weights"), words.pop("template", None)
        if template:
            words |= {name: getattr(template, name) for name in WORDS}
        return Column(weights=weights.pk, **words)


def columns_of(project: Project, posted: Any) -> list[ColumnForm]:
    """As many forms as were sent, and one more where that was asked for; 10 at most."""
    sent = [i for i in range(MOST_COLUMNS) if f"c{i}-temperature" in posted]
    count = max(FEWEST_COLUMNS, *(number + 1 for number in sent), 0)
    shown = min(MOST_COLUMNS, count + ("another" in posted))
    return [
        ColumnForm(project, posted, prefix=f"c{i}")
        if f"c{i}-temperature" in posted
        else ColumnForm(project, prefix=f"c{i}")
        for i in range(shown)
    ]


def initial_columns(project: Project, columns: Sequence[dict[str, Any]]) -> list[ColumnForm]:
    """Forms filled in with these columns, or with none."""
    shown = max(FEWEST_COLUMNS, len(columns))
    return [
        ColumnForm(project, prefix=f"c{i}", initial=columns[i] if i < len(columns) else None)
        for i in range(shown)
    ]


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


def words_of(policy: Policy) -> dict[str, Any]:
    """A column that asks the policy as it is."""
    return {
        "weights": policy.pk,
        "system_prompt": policy.system_prompt,
        "few_shot": text_of(policy.few_shot),
        "prompt_format": policy.prompt_format,
        "temperature": policy.temperature,
        "max_new_tokens": policy.max_new_tokens,
        "passages_read": policy.passages_read,
    }


def turns_of(text: str) -> Messages:
    """Examples as messages. Raises ValidationError unless they are whole exchanges."""
    before, *parts = TURN.split(text.strip())
    turns = [
        {"role": role.lower(), "content": content.strip()}
        for role, content in zip(parts[::2], parts[1::2], strict=True)
    ]
    roles = [turn["role"] for turn in turns]
    if before.strip() or roles != ["user", "assistant"] * (len(roles) // 2):
        raise ValidationError("Begin each turn with “User:” or “Assistant:”, one after the other.")
    if not all(turn["content"] for turn in turns):
        raise ValidationError("An example cannot be empty.")
    return turns


def text_of(turns: Messages) -> str:
    return "\n".join(f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns)


class VersionForm(TemplateForm):
    """A version of a template, under the name it has or a new one."""

    name = forms.CharField(max_length=60)
    note = forms.CharField(
        required=False,
        max_length=200,
        label="What is different",
        help_text="In this version, and why.",
    )
    field_order = ("name", "system_prompt", "few_shot", "prompt_format", "note")

    def __init__(self, *args: Any, version_of: PromptTemplate | None = None, **kwargs: Any) -> None:
        if version_of:
            words = {name: getattr(version_of, name) for name in WORDS}
            kwargs["initial"] = {**words, "few_shot": text_of(version_of.few_shot)}
        super().__init__(*args, **kwargs)
        if version_of:
            del self.fields["name"]


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
