"""Forms of the operator's pages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils.timezone import localtime

from annotate.models import Placement, Policy, Project, Prompt, User
from feedback_site.answer_checks.check import CheckError
from feedback_site.answer_checks.written import read_checks
from rlhf.data.selection import EVERYTHING, Filters, prompts
from rlhf.learning.contract.config import recipe
from rlhf.learning.contract.hub import is_hub_id
from rlhf.learning.contract.hyperparameters import Tune
from rlhf.learning.contract.kinds import KINDS
from rlhf.models.built_in_suites import BUILT_IN
from rlhf.models.runs import Round, Run
from rlhf.models.suites import MOST_SAMPLES, GateLimits, Suite
from rlhf.rounds.settings import SIZES, Launch, Overrides
from rlhf.rounds.table import SORTS
from rlhf.stages import DEFAULT_TRAININGS, TRAININGS, in_order
from rlhf.stages.kinds.ppo import NOT_ALLOWED, may_answer

DIAL = {
    "tiny": "Tiny: a toy model, a few minutes",
    "small": "Small: 135 million weights on two CPU cores",
    "large": "Large: GPUs, close to InstructGPT",
}
LONGEST_TAG = 50
SPLITS = [("", "All prompts"), *Prompt.Split.choices]


class RoundForm(forms.Form):
    """The dial, and every field of the recipe for those who want to turn it. A field left empty
    keeps the recipe's value."""

    base = forms.ModelChoiceField(
        Policy.objects.none(),
        label="Base policy",
        help_text="The first stage starts from its weights.",
    )
    stages = forms.MultipleChoiceField(
        choices=[(str(kind), f"{each.title}: {each.hint}") for kind, each in TRAININGS.items()],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose what to train: at least one stage."},
    )
    recipe = forms.ChoiceField(choices=[(size, DIAL[size]) for size in SIZES])
    note = forms.CharField(max_length=300, required=False, help_text="Shown with the round.")
    follows = forms.IntegerField(min_value=0, required=False, widget=forms.HiddenInput)
    ask_people = forms.IntegerField(
        label="Blind comparison (prompts)",
        min_value=0,
        max_value=2000,
        required=False,
        help_text="Number of held-out prompts people compare blind.",
    )
    next_batch = forms.IntegerField(
        label="Next labelling batch (prompts)",
        min_value=0,
        max_value=2000,
        required=False,
        help_text="Number of prompts with new answers that people rank: those the reward model is"
        " least sure about.",
    )
    seed = forms.IntegerField(
        min_value=0,
        max_value=2**63 - 1,
        required=False,
        help_text="Same labels, same seed, same machine: same result.",
    )

    def __init__(
        self,
        project: Project,
        *args: Any,
        size: str,
        stages: Iterable[str] = DEFAULT_TRAININGS,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.project = project
        self.size, self.chosen = size, in_order(set(stages) & set(TRAININGS))
        self.bases = project.policies.with_weights().order_by("pk")
        _offer(self.fields["base"], self.bases).empty_label = None
        self.fields.update(_recipe_fields(size, self.chosen))

    @property
    def chosen_base(self) -> Policy | None:
        value = self["base"].value()
        return next((base for base in self.bases if str(base.pk) == str(value)), None)

    def groups(self) -> list[tuple[str, list[forms.BoundField]]]:
        """Groups the recipe's fields, stage by stage."""
        return [
            (
                TRAININGS[kind].title,
                [self[name] for name in self.fields if name.startswith(f"{kind}.")],
            )
            for kind in self.chosen
        ]

    @property
    def has_changes(self) -> bool:
        """Was a field of the recipe set by hand?"""
        return any("." in name and self[name].value() not in (None, "") for name in self.fields)

    def launch(self, filters: Filters) -> Launch:
        """Returns what a valid form says, on the labels that pass `filters`."""
        chosen = self.cleaned_data
        return Launch(
            base=chosen["base"],
            recipe=chosen["recipe"],
            stages=chosen["stages"],
            overrides=self.overrides(),
            filters=filters,
            seed=chosen["seed"] or 0,
            note=chosen["note"],
            ask_people=chosen["ask_people"] or 0,
            next_batch=chosen["next_batch"] or 0,
        )

    def overrides(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Returns what was set by hand, posted or not yet, without what cannot be read."""
        chosen: dict[str, dict[str, dict[str, Any]]] = {}
        for name, field in self.fields.items():
            if "." not in name:
                continue
            with suppress(forms.ValidationError):
                value = field.clean(self[name].value())
                if value not in (None, ""):
                    kind, part, knob = name.split(".")
                    value = value == "yes" if value in ("yes", "no") else value
                    chosen.setdefault(kind, {}).setdefault(part, {})[knob] = value
        return chosen


def in_fields(overrides: Overrides) -> dict[str, Any]:
    """Turns what `RoundForm.overrides` gave into the values of its fields."""
    words = {True: "yes", False: "no"}
    return {
        f"{kind}.{part}.{name}": words[value] if isinstance(value, bool) else value
        for kind, parts in overrides.items()
        for part, fields in parts.items()
        for name, value in fields.items()
    }


def _recipe_fields(size: str, stages: Iterable[str]) -> Iterator[tuple[str, forms.Field]]:
    for kind in stages:
        values = recipe(kind, size)
        for part, cls in (("tune", Tune), ("train", KINDS[kind].settings)):
            for each in dataclasses.fields(cls):
                field = _field(values[part][each.name], each.metadata)
                if each.name == "checks":
                    field.validators.append(_are_checks)
                if each.name == "vllm_server":
                    field.validators.append(_is_allowed)
                field.label = each.name.replace("_", " ")
                yield f"{kind}.{part}.{each.name}", field


def _field(value: Any, metadata: Any) -> forms.Field:
    """By the type of the recipe's value; empty means that value."""
    options: dict[str, Any] = {"required": False, "help_text": metadata["help"]}
    if isinstance(value, bool) or metadata["choices"]:
        choices = metadata["choices"] or ("yes", "no")
        now = value if metadata["choices"] else ("yes" if value else "no")
        return forms.ChoiceField(
            choices=[("", f"{now} (recipe)"), *((c, c) for c in choices)], **options
        )
    if isinstance(value, str):
        text = forms.CharField(**options)
        text.widget.attrs |= {"placeholder": value or "none", "spellcheck": "false"}
        return text
    cls = forms.IntegerField if isinstance(value, int) else forms.FloatField
    field = cls(min_value=metadata["least"], **options)
    field.widget.attrs["placeholder"] = f"{value:g}"
    return field


def _are_checks(written: str) -> None:
    try:
        read_checks(written)
    except CheckError as error:
        raise forms.ValidationError(f"{error}.".replace("..", ".")) from None


def _is_allowed(server: str) -> None:
    if not may_answer(server):
        raise forms.ValidationError(NOT_ALLOWED.format(server=server))


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

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        tags = self.fields["tags"]
        assert isinstance(tags, forms.MultipleChoiceField)
        tags.choices = [(tag, tag) for tag in project.prompts.all().tags()]
        for name in ("labelers", "held_out_labelers"):
            people = User.objects.filter(memberships__project=project).order_by("username")
            _offer(self.fields[name], people)
        for name in ("since", "until", "policies_since"):
            widget = forms.DateTimeInput({"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
            self.fields[name].widget = widget

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
        )


def _offer(field: forms.Field, choices: QuerySet[Any]) -> forms.ModelChoiceField:
    assert isinstance(field, forms.ModelChoiceField)
    field.queryset = choices
    return field


def _ids(people: Iterable[User]) -> tuple[int, ...]:
    return tuple(sorted(person.pk for person in people))


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
        _offer(self.fields["policies"], project.policies.sampleable())
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
        _offer(self.fields["compared"], project.policies.sampleable())


class DocumentsForm(forms.Form):
    file = forms.FileField(
        help_text='JSON Lines of {"text": "…"}, or a plain text file, which is one document. '
        "What is already here is not imported twice."
    )


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
        _offer(self.fields["against"], project.policies.order_by("-pk"))

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
        _offer(self.fields["policies"], project.policies.sampleable())


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
