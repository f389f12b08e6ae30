"""Forms of the operator's pages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.utils.timezone import localtime

from annotate.judges.weights import weights_of
from annotate.models import Judge, Placement, Policy, Project, Prompt, User
from rlhf.data.selection import EVERYTHING, Filters, prompts
from rlhf.learning.contract.hub import is_hub_id
from rlhf.models.built_in_suites import BUILT_IN
from rlhf.models.runs import Round, Run
from rlhf.models.suites import MOST_SAMPLES, GateLimits, Suite
from rlhf.rounds.table import SORTS

LONGEST_TAG = 50
SPLITS = [("", "All prompts"), *Prompt.Split.choices]


class FiltersForm(forms.Form):
    """Which labels a round learns from; what is left empty filters nothing."""

    since = forms.DateTimeField(label="Labels since", required=False)
    until = forms.DateTimeField(label="Labels until", required=False)
    policies_since = forms.DateTimeField(
        label="Policies since",
        required=False,
        help_text="Leaves out rankings of completions by older policies.",
    )
    tags = forms.MultipleChoiceField(required=False)
    accepted_only = forms.BooleanField(label="Only what a reviewer accepted", required=False)
    best_rated = forms.IntegerField(
        label="Best answer rated at least",
        required=False,
        min_value=1,
        max_value=7,
        help_text="Leaves out rankings whose best answer is rated lower, or not at all.",
    )
    without_flags = forms.MultipleChoiceField(
        label="Best answer without these flags",
        choices=Placement.Flag.choices,
        required=False,
        help_text="Leaves out rankings whose best answer has one of them.",
    )
    labelers = forms.ModelMultipleChoiceField(
        User.objects.none(), label="Only these labelers", required=False
    )
    held_out_labelers = forms.ModelMultipleChoiceField(
        User.objects.none(),
        label="Held-out labelers",
        required=False,
        help_text="Their rankings measure the reward model and never train it.",
    )

    judges = forms.ModelMultipleChoiceField(
        Judge.objects.none(),
        label="Also learn from these judges",
        required=False,
        help_text="Models that rank by a rubric. Their votes weigh by their agreement with people,"
        " and never measure. Choose none to learn from people alone.",
    )

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self.fields["judges"], project.judges.in_use())
        if "judges" not in self.data and not project.judges.in_use().exists():
            del self.fields["judges"]
        tags = self.fields["tags"]
        assert isinstance(tags, forms.MultipleChoiceField)
        tags.choices = [(tag, tag) for tag in project.prompts.all().tags()]
        for name in ("labelers", "held_out_labelers"):
            people = User.objects.filter(memberships__project=project).order_by("username")
            offer(self.fields[name], people)
        for name in ("since", "until", "policies_since"):
            widget = forms.DateTimeInput({"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
            self.fields[name].widget = widget

    def clean_judges(self) -> QuerySet[Judge]:
        """A judge that was never measured has no weight."""
        judges: QuerySet[Judge] = self.cleaned_data["judges"]
        measured = weights_of(judges)
        for judge in judges:
            if judge.pk not in measured:
                raise ValidationError(
                    f"{judge} has ranked nothing that people ranked too, so the worth of its "
                    "votes is unknown. Give it such tasks first, on its page."
                )
        return judges

    def clean(self) -> dict[str, Any]:
        said = self.cleaned_data
        if said.get("judges") and (said.get("accepted_only") or said.get("best_rated")):
            self.add_error(
                "judges",
                "Judges give no ratings, and nobody reviews them: choose no judge, or leave “Only "
                "what a reviewer accepted” and “Best answer rated at least” empty.",
            )
        return said

    @staticmethod
    def as_data(filters: Filters) -> dict[str, Any]:
        """Returns what somebody who fills in the form would choose to get these."""
        chosen = {each.name: getattr(filters, each.name) for each in dataclasses.fields(filters)}
        return {
            name: f"{localtime(value):%Y-%m-%dT%H:%M}" if isinstance(value, datetime) else value
            for name, value in chosen.items()
            if value
        }

    def filters(self) -> Filters:
        """Returns the chosen filters; of a form with mistakes in it none, so that the page has
        counts to show."""
        if not self.is_valid():
            return EVERYTHING
        chosen = self.cleaned_data
        return Filters(
            since=chosen["since"],
            until=chosen["until"],
            policies_since=chosen["policies_since"],
            tags=tuple(chosen["tags"]),
            accepted_only=chosen["accepted_only"],
            best_rated=chosen["best_rated"],
            without_flags=tuple(chosen["without_flags"]),
            labelers=_ids(chosen["labelers"]),
            held_out_labelers=_ids(chosen["held_out_labelers"]),
            judges=_ids(chosen.get("judges", ())),
        )


def offer(field: forms.Field, choices: QuerySet[Any]) -> forms.ModelChoiceField:
    assert isinstance(field, forms.ModelChoiceField)
    field.queryset = choices
    return field


def _ids(chosen: Iterable[Model]) -> tuple[int, ...]:
    return tuple(sorted(each.pk for each in chosen))


class SamplingForm(forms.Form):
    policies = forms.ModelMultipleChoiceField(
        Policy.objects.none(), widget=forms.CheckboxSelectMultiple
    )
    k = forms.IntegerField(
        label="Completions",
        min_value=1,
        max_value=16,
        initial=4,
        help_text="Per prompt and policy.",
    )
    split = forms.ChoiceField(label="Prompts", choices=SPLITS, required=False)
    distil = forms.BooleanField(
        required=False,
        label="Make demonstrations of the answers, instead of ranking tasks",
        help_text="Distils a system prompt: SFT then learns to answer without it as this policy"
        " does with it. Choose one policy and one completion.",
    )

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self.fields["policies"], project.policies.sampleable())
        self.project = project

    def prompts(self) -> list[Prompt]:
        split = self.cleaned_data["split"]
        chosen = [split] if split else Prompt.Split.values
        return list(prompts(self.project).in_split(*chosen))


class FetchForm(forms.Form):
    model = forms.CharField(
        max_length=200,
        help_text="As the hub names it: Qwen/Qwen2.5-0.5B-Instruct, with @ and a revision if it is"
        " to be a certain one.",
        widget=forms.TextInput({"spellcheck": "false", "autocapitalize": "off"}),
    )
    name = forms.CharField(
        max_length=100,
        required=False,
        help_text="Of the policy it becomes. Left empty: the model's own.",
    )

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = project

    def clean_model(self) -> str:
        model: str = self.cleaned_data["model"].strip()
        model = model.removeprefix("https://huggingface.co/").rstrip("/")
        if not is_hub_id(model):
            raise ValidationError("A model on the hub is OWNER/NAME or OWNER/NAME@REVISION.")
        return model

    def clean(self) -> dict[str, Any]:
        said = self.cleaned_data
        name = said.get("name") or said.get("model", "").partition("@")[0].rpartition("/")[2]
        if name and self.project.policies.named(name).exists():
            self.add_error("name", f"There is already a policy “{name}”.")
        return {**said, "name": name}


class ComparisonForm(forms.Form):
    """Whom people compare, blind, and on how many prompts."""

    compared = forms.ModelMultipleChoiceField(
        Policy.objects.none(), label="Policies", widget=forms.CheckboxSelectMultiple
    )
    prompts = forms.IntegerField(
        label="Held-out prompts",
        min_value=1,
        max_value=2000,
        initial=40,
        help_text="Each is one ranking task.",
    )

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self.fields["compared"], project.policies.sampleable())


class PruneForm(forms.Form):
    keep_rounds = forms.IntegerField(min_value=0, max_value=1000)


class AskPeopleForm(forms.Form):
    prompts = forms.IntegerField(
        label="Prompts",
        min_value=1,
        max_value=2000,
        initial=40,
        error_messages=dict.fromkeys(
            ("required", "invalid", "min_value", "max_value"), "Enter a number from 1 to 2000."
        ),
    )


class RoundNameForm(forms.ModelForm):
    tags = forms.CharField(max_length=300, required=False)

    class Meta:
        model = Round
        fields = ("name", "note", "tags")

    def clean_tags(self) -> list[str]:
        """Splits what stands between commas; each tag once."""
        tags = dict.fromkeys(tag.strip() for tag in self.cleaned_data["tags"].split(","))
        if any(len(tag) > LONGEST_TAG for tag in tags):
            raise forms.ValidationError(f"A tag may have {LONGEST_TAG} characters.")
        return [tag for tag in tags if tag]


class RoundsForm(forms.Form):
    """Which rounds the table lists, in which order, and against which policy they are measured."""

    q = forms.CharField(label="Words", max_length=100, required=False)
    state = forms.ChoiceField(choices=[("", "Any state"), *Run.State.choices], required=False)
    tag = forms.ChoiceField(required=False)
    against = forms.ModelChoiceField(
        Policy.objects.none(), label="Against", required=False, empty_label="Live policy"
    )
    sort = forms.ChoiceField(
        choices=[(sort, sort) for name in SORTS for sort in (name, f"-{name}")],
        required=False,
        widget=forms.HiddenInput,
    )

    def __init__(self, project: Project, data: Any, *, tags: Iterable[str]) -> None:
        super().__init__(data)
        self.fields["tag"].choices = [("", "Any tag"), *((tag, tag) for tag in tags)]  # type: ignore[attr-defined]
        offer(self.fields["against"], project.policies.order_by("-pk"))

    def chosen(self) -> dict[str, Any]:
        """Returns what is chosen; nothing of what cannot be."""
        self.full_clean()
        return self.cleaned_data


class LimitForm(forms.Form):
    """The limit with which a run goes on that met the one it had."""

    limit = forms.FloatField(min_value=0)


class GateForm(forms.ModelForm):
    class Meta:
        model = GateLimits
        fields = ("kl", "length", "prompts", "harm")


class ChallengerForm(forms.ModelForm):
    class Meta:
        model = Project
        fields = ("challenger_percent",)


class SuiteForm(forms.ModelForm):
    class Meta:
        model = Suite
        fields = ("name", "lines")
        widgets = {"lines": forms.Textarea({"rows": 12, "spellcheck": "false"})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.name in BUILT_IN:  # by its name it is known to be rewritten here
            self.fields["name"].disabled = True
            self.fields["name"].help_text = "A built-in suite keeps its name."

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if name != self.initial["name"] and name in Suite.all_of(self.instance.project):
            raise forms.ValidationError(
                "A suite with this name already exists. Choose another name."
            )
        return name


class ScorecardForm(forms.Form):
    policies = forms.ModelMultipleChoiceField(
        Policy.objects.none(), widget=forms.CheckboxSelectMultiple
    )
    suites = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, label="Suites"
    )
    samples = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MOST_SAMPLES,
        initial=1,
        label="Answers to each prompt",
        help_text="One is greedy: the same weights give the same answer. More are drawn at the "
        "policy's temperature; pairs of people are compared as distributions from four on.",
    )

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self.fields["policies"], project.policies.sampleable())
        suites = self.fields["suites"]
        assert isinstance(suites, forms.MultipleChoiceField)
        suites.choices = [(name, name) for name in Suite.active_in(project)]


class DecisionForm(forms.Form):
    reason = forms.CharField(max_length=500, error_messages={"required": "Enter a reason."})


class PromotionForm(DecisionForm):
    override = forms.CharField(max_length=500, required=False)


class WithdrawalForm(forms.Form):
    reason = forms.CharField(max_length=500, required=False)
    confirmed = forms.BooleanField(
        label="Stop using their data for training and exports in this project.",
        error_messages={"required": "Tick the box to confirm."},
    )
