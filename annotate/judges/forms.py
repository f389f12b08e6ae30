"""The forms of the judges' pages."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError

from annotate.judges.models import LONGEST_RUBRIC, MOST_TASKS, Judge
from annotate.judges.runs import JudgeRun
from annotate.labels.forms import Text
from annotate.people.models import Project, User


class JudgeForm(forms.ModelForm):
    rubric = Text(
        rows=8, max_length=LONGEST_RUBRIC, help_text="What makes an answer the better one."
    )

    class Meta:
        model = Judge
        fields = ("name", "policy", "rubric", "form")
        labels: ClassVar = {"policy": "Model of", "form": "Answers with"}
        help_texts: ClassVar = {
            "policy": "Only the model judges. System prompt and examples of the policy are left"
            " out. A model prefers its own answers: choose another one than those judged.",
        }
        widgets: ClassVar = {
            "form": forms.RadioSelect,
        }

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = project
        policy = self.fields["policy"]
        assert isinstance(policy, forms.ModelChoiceField)
        policy.queryset, policy.empty_label = project.policies.sampleable(), None
        if self.instance.pk:
            self.fields["name"].disabled = True

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if not self.instance.pk and self.project.judges.named(name).exists():
            raise ValidationError(f"There is already a judge “{name}”.")
        return name

    def add(self, by: User) -> Judge:
        """Makes a judge of what a valid form says."""
        return Judge.objects.create(project=self.project, author=by, **self.cleaned_data)

    def revise(self, by: User) -> Judge:
        """Changes the judge, as `Judge.revise` does."""
        said = {name: self.cleaned_data[name] for name in ("policy", "rubric", "form")}
        return Judge.objects.get(pk=self.instance.pk).revise(**said, by=by)


class RunForm(forms.Form):
    """Which tasks a judge is given, and how many."""

    scope = forms.ChoiceField(
        label="Tasks", choices=JudgeRun.Scope.choices, initial=JudgeRun.Scope.RANKED
    )
    budget = forms.IntegerField(
        label="At most",
        min_value=1,
        max_value=MOST_TASKS,
        initial=100,
        help_text="Tasks. Each is several questions, and each question is a call.",
    )


class AgreementForm(forms.Form):
    """The agreement at which tasks could be left to a judge, in percent."""

    at = forms.IntegerField(label="Agreement wanted, %", min_value=50, max_value=99, initial=75)

    @property
    def wanted(self) -> float:
        """As a share; what cannot be read is the usual one."""
        chosen = self.is_valid() and self.cleaned_data["at"]
        return (chosen or self.fields["at"].initial) / 100
