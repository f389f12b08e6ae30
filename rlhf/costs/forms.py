"""What the pages of costs are asked for. Whatever is not understood is what is shown first."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.utils import timezone

from annotate.costs.uses import Use
from annotate.models import Policy, Project

DAYS = {"1": "Last 24 hours", "7": "Last 7 days", "30": "Last 30 days", "90": "Last 90 days"}
EVER = {"": "All time"}


class PeriodForm(forms.Form):
    days = forms.ChoiceField(label="Period", choices=list(DAYS.items()))

    usual = "7"

    def __init__(self, data: Any) -> None:
        super().__init__({"days": self.usual, **data.dict()})

    @property
    def days_back(self) -> int:
        """Of the period; 0: it has no beginning."""
        return int(self._said("days") or 0)

    @property
    def since(self) -> datetime | None:
        return timezone.now() - timedelta(days=self.days_back) if self.days_back else None

    def _said(self, name: str) -> str:
        """What was chosen; of what there is not to choose, what is shown first."""
        usual = {"days": self.usual}
        said: str = usual.get(name, "") if name in self.errors else self.cleaned_data[name]
        return said


class CostsForm(PeriodForm):
    days = forms.ChoiceField(label="Period", choices=[*DAYS.items(), *EVER.items()], required=False)
    use = forms.ChoiceField(
        label="Asked by", choices=[("", "Everybody"), *Use.choices], required=False
    )

    usual = "30"

    @property
    def chosen_use(self) -> str:
        return self._said("use")


class BreakEvenForm(forms.Form):
    teacher = forms.ModelChoiceField(Policy.objects.none(), label="Prompted teacher")
    student = forms.ModelChoiceField(Policy.objects.none(), label="Trained student")
    labels = forms.BooleanField(label="Count the labels it learned from", required=False)

    def __init__(self, project: Project, data: Any) -> None:
        asked = {"teacher", "student"} & data.keys()
        super().__init__(data if asked else None)
        for name in ("teacher", "student"):
            field = self.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            field.queryset = project.policies.select_related("connection", "project", "parent")

    def clean(self) -> dict[str, Any]:
        said = self.cleaned_data
        teacher, student = said.get("teacher"), said.get("student")
        if teacher is None or student is None:
            raise forms.ValidationError("Choose both: a prompted teacher and a trained student.")
        if teacher == student:
            raise forms.ValidationError("Choose two different policies.")
        return said
