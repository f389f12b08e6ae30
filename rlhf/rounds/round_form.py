"""The form of a new round: what to train, from what, and every setting of the recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from typing import Any

from django import forms
from django.conf import settings
from django.db.models import QuerySet

from annotate.models import Policy, Project
from feedback_site.answer_checks.check import CheckError
from feedback_site.answer_checks.written import read_checks
from rlhf.data.selection import Filters
from rlhf.data.staleness import stale_in
from rlhf.learning.contract.config import recipe
from rlhf.learning.contract.hyperparameters import Tune
from rlhf.learning.contract.kinds import KINDS
from rlhf.models.outcomes import RewardModel
from rlhf.registry.health import Accuracy, accuracies_of
from rlhf.rounds.forms import offer
from rlhf.rounds.preflight import recipe_for
from rlhf.rounds.settings import SIZES, Launch, Overrides
from rlhf.stages import DEFAULT_TRAININGS, TRAININGS, in_order
from rlhf.stages.kinds.ppo import NOT_ALLOWED, may_answer

DIAL = {
    "tiny": "Tiny: a toy model, a few minutes",
    "small": "Small: 135 million weights on two CPU cores",
    "large": "Large: GPUs, close to InstructGPT",
}
# What people turn first, as far as the chosen stages have it.
BASICS = (
    *("train.epochs", "train.updates", "train.learning_rate", "train.kl_coef", "train.beta"),
    *("tune.mode", "train.max_new_tokens", "train.batch_size", "train.max_completion_tokens"),
)
MOST_BASICS = 8


class RewardModelField(forms.ModelChoiceField):
    @cached_property
    def accuracies(self) -> dict[int, Accuracy]:
        return accuracies_of(model.checkpoint.run for model in self.queryset or ())

    def label_from_instance(self, model: RewardModel) -> str:
        accuracy = self.accuracies.get(model.checkpoint.run_id)
        return f"{model.name}, accuracy {accuracy}" if accuracy else model.name


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
    reward_model = RewardModelField(
        RewardModel.objects.none(),
        label="Reward model",
        required=False,
        empty_label="Train a new one",
        help_text="Reuse one of an earlier round, and leave out the stage Reward model.",
    )
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
        offer(self.fields["base"], self.bases).empty_label = None
        offer(self.fields["reward_model"], self._reward_models())
        self.fields.update(_recipe_fields(size, self.chosen))

    @property
    def has_reward_models(self) -> bool:
        """Tells whether there is one to reuse."""
        return not self.fields["reward_model"].queryset.query.is_empty()  # type: ignore[attr-defined]

    def _reward_models(self) -> QuerySet[RewardModel]:
        """Those to reuse; without any, nobody asks for withdrawals."""
        models = RewardModel.objects.to_reuse(self.project)
        if not models.exists():
            return models.none()
        return RewardModel.objects.to_reuse(self.project, stale_runs=stale_in(self.project).runs)

    @property
    def recipes(self) -> list[tuple[str, str]]:
        """Lists the dial's choices, what suits the base first."""
        base = self.chosen_base
        best = recipe_for(settings.DATA_DIR / base.folder) if base else ""
        return sorted(((size, DIAL[size]) for size in SIZES), key=lambda each: each[0] != best)

    @property
    def chosen_base(self) -> Policy | None:
        value = self["base"].value()
        return next((base for base in self.bases if str(base.pk) == str(value)), None)

    @property
    def chosen_reward_model(self) -> RewardModel | None:
        with suppress(forms.ValidationError):
            found: RewardModel | None = self.fields["reward_model"].clean(
                self["reward_model"].value()
            )
            return found
        return None

    @cached_property
    def basics(self) -> list[tuple[str, forms.BoundField]]:
        """Picks the fields of the recipe that are turned most: (stage, field), few of them."""
        names = [f"{kind}.{knob}" for knob in BASICS for kind in self.chosen]
        known = [name for name in names if name in self.fields][:MOST_BASICS]
        return [(TRAININGS[name.partition(".")[0]].title, self[name]) for name in known]

    def groups(self) -> list[tuple[str, list[forms.BoundField]]]:
        """Groups the recipe's other fields, stage by stage."""
        basic = {field.name for _, field in self.basics}
        return [
            (
                TRAININGS[kind].title,
                [
                    self[name]
                    for name in self.fields
                    if name.startswith(f"{kind}.") and name not in basic
                ],
            )
            for kind in self.chosen
        ]

    @property
    def has_changes(self) -> bool:
        """Was a field of the recipe that is folded away set by hand?"""
        folded = (field for _, fields in self.groups() for field in fields)
        return any(field.value() not in (None, "") for field in folded)

    def launch(self, filters: Filters) -> Launch:
        """Returns what a valid form says, on the labels that pass `filters`."""
        chosen = self.cleaned_data
        return Launch(
            base=chosen["base"],
            recipe=chosen["recipe"],
            stages=chosen["stages"],
            reward_model=chosen["reward_model"],
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
                field.of_recipe = _written(values[part][each.name])  # type: ignore[attr-defined]
                yield f"{kind}.{part}.{each.name}", field


def _written(value: Any) -> str:
    """As the page writes a value of the recipe."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float) else value or "none"


def _field(value: Any, metadata: Any) -> forms.Field:
    """By the type of the recipe's value; empty means that value."""
    options: dict[str, Any] = {"required": False, "help_text": metadata["help"]}
    if isinstance(value, bool) or metadata["choices"]:
        choices = metadata["choices"] or ("yes", "no")
        return forms.ChoiceField(
            choices=[("", f"{_written(value)} (recipe)"), *((c, c) for c in choices)], **options
        )
    if isinstance(value, str):
        text = forms.CharField(**options)
        text.widget.attrs |= {"placeholder": _written(value), "spellcheck": "false"}
        return text
    cls = forms.IntegerField if isinstance(value, int) else forms.FloatField
    field = cls(min_value=metadata["least"], **options)
    field.widget.attrs["placeholder"] = _written(value)
    return field


def _are_checks(written: str) -> None:
    try:
        read_checks(written)
    except CheckError as error:
        raise forms.ValidationError(f"{error}.".replace("..", ".")) from None


def _is_allowed(server: str) -> None:
    if not may_answer(server):
        raise forms.ValidationError(NOT_ALLOWED.format(server=server))
