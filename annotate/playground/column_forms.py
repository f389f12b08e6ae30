"""What one fills in for a column of a grid: words around a prompt, and how a model is sampled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from annotate.labels.forms import Text
from annotate.people.models import Project
from annotate.playground.grids import MOST_COLUMNS, Column
from annotate.playground.rows import VARIABLE
from annotate.prompts.models import Messages, validate_prompt_format
from annotate.prompts.policies import MOST_PASSAGES, Policy
from annotate.prompts.templates import WORDS, PromptTemplate

LONGEST_WORDS = 8000
FEWEST_COLUMNS = 2  # that are shown
TURN = re.compile(r"^(User|Assistant):[ \t]*", re.MULTILINE)


class Examples(Text):
    """Turns of a conversation, written as a text."""

    def __init__(self, **options: Any) -> None:
        told = "Turns that begin with “User:” or “Assistant:”, in pairs."
        super().__init__(required=False, max_length=LONGEST_WORDS, help_text=told, **options)

    def clean(self, value: Any) -> Messages:
        return turns_of(super().clean(value))


class TemplateForm(forms.Form):
    """The words around a prompt."""

    system_prompt = Text(
        rows=3,
        required=False,
        max_length=LONGEST_WORDS,
    )
    few_shot = Examples(rows=3, label="Examples")
    prompt_format = Text(
        rows=2,
        required=False,
        max_length=LONGEST_WORDS,
        validators=[validate_prompt_format],
        help_text="Delimiters and output format around the prompt, with {prompt} in its place.",
    )


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


class RuleForm(forms.Form):
    """A rule of the project's own: a template without it and one with it, and what tells them
    apart."""

    name = forms.CharField(max_length=60)
    meaning = forms.CharField(
        required=False, max_length=200, label="What to do", help_text="In a line, and why."
    )
    without = Text(
        rows=2,
        max_length=LONGEST_WORDS,
        initial="{prompt}",
        label="Prompt format without it",
        help_text="With {prompt} in its place.",
    )
    given = Text(rows=3, max_length=LONGEST_WORDS, label="Prompt format with it")
    few_shot = Examples(rows=2, label="Examples with it")
    checks = Text(
        rows=2,
        max_length=LONGEST_WORDS,
        help_text="What an answer passes that follows the rule, such as json(city), length(4-60).",
    )
    tests = Text(
        rows=6,
        max_length=10 * LONGEST_WORDS,
        label="Test prompts",
        help_text="One per line; the right answer, for checks that compare with it, behind ==.",
    )

    def clean_name(self) -> str:
        return " ".join(self.cleaned_data["name"].split())


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
        Policy.objects.none(),
        required=False,
        label="Model",
        empty_label="none",
        help_text="It is asked with the words and settings below, not with its own.",
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

    def chosen(self) -> Policy | None:
        """The model that is chosen, whatever else is wrong."""
        self.is_valid()
        found: Policy | None = self.cleaned_data.get("weights")
        return found

    def names(self) -> set[str]:
        """The {names} that stand in the words."""
        column = self.column()
        words = (column.system_prompt, column.prompt_format, text_of(column.few_shot))
        return {name for text in words for name in VARIABLE.findall(text)}

    def column(self) -> Column:
        words = dict(self.cleaned_data)
        weights, template = words.pop("weights"), words.pop("template", None)
        if template:
            words |= {name: getattr(template, name) for name in WORDS}
        return Column(weights=weights.pk, **words)


def columns_of(project: Project, posted: Any) -> list[ColumnForm]:
    """As many forms as were sent, 10 at most. `another` asks for one more, which begins like the
    last; `own` for the words and settings of the model that a column has chosen."""
    sent = [i for i in range(MOST_COLUMNS) if f"c{i}-temperature" in posted]
    count = max(FEWEST_COLUMNS, *(number + 1 for number in sent), 0)
    forms = [
        ColumnForm(project, posted, prefix=f"c{i}")
        if f"c{i}-temperature" in posted
        else ColumnForm(project, prefix=f"c{i}")
        for i in range(count)
    ]
    for number, form in enumerate(forms):
        if posted.get("own") == str(number) and (chosen := form.chosen()):
            forms[number] = ColumnForm(project, prefix=f"c{number}", initial=words_of(chosen))
    if "another" in posted and count < MOST_COLUMNS:
        last = {name: forms[-1][name].value() for name in forms[-1].fields}
        forms.append(ColumnForm(project, prefix=f"c{count}", initial=last))
    return forms


def initial_columns(project: Project, columns: Sequence[dict[str, Any]]) -> list[ColumnForm]:
    """Forms filled in with these columns, or with none."""
    shown = max(FEWEST_COLUMNS, len(columns))
    return [
        ColumnForm(project, prefix=f"c{i}", initial=columns[i] if i < len(columns) else None)
        for i in range(shown)
    ]


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
