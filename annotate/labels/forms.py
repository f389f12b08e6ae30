"""What the forms of all kinds of label share. A field's name is also the key under which a draft
keeps its raw value."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms

from annotate.labels.label import Effort
from annotate.work.assignments import Assignment

LONGEST_DAY = 24 * 3600


class Text(forms.CharField):
    """Of several lines. A browser sends other line ends than it shows, and what people write is
    hashed, compared and learnt from."""

    def __init__(
        self, *, rows: int, attrs: dict[str, object] | None = None, **options: Any
    ) -> None:
        super().__init__(widget=forms.Textarea({"rows": rows, **(attrs or {})}), **options)

    def to_python(self, value: Any) -> str:
        return str(super().to_python(value)).replace("\r\n", "\n")


class Seconds(forms.IntegerField):
    """Time at work, at most a day; none where a page without JavaScript says none."""

    def __init__(self) -> None:
        super().__init__(required=False, widget=forms.HiddenInput)

    def clean(self, value: Any) -> int:
        return min(max(super().clean(value) or 0, 0), LONGEST_DAY)


class WorkForm(forms.Form):
    """What every kind of work sends along."""

    idempotency_key = forms.UUIDField(widget=forms.HiddenInput)
    revision_no = forms.IntegerField(required=False, widget=forms.HiddenInput)
    active_seconds = Seconds()
    pasted_share = forms.FloatField(required=False, widget=forms.HiddenInput)
    comment = Text(
        rows=2,
        required=False,
        max_length=2000,
        label="Comment to the lead",
    )

    # These belong to one page, not to the work.
    NOT_IN_A_DRAFT = frozenset({"idempotency_key", "revision_no", "active_seconds", "pasted_share"})

    def __init__(self, assignment: Assignment, *args: Any, **kwargs: Any):
        self.assignment = assignment
        super().__init__(*args, **kwargs)
        self.initial.setdefault("idempotency_key", uuid.uuid4())
        self.initial.setdefault("active_seconds", assignment.active_seconds)

    def clean_pasted_share(self) -> float:
        return min(max(self.cleaned_data["pasted_share"] or 0.0, 0.0), 1.0)

    @staticmethod
    def initial_of(label: Any) -> dict[str, Any]:
        """The fields as they were when this label was sent."""
        return {"comment": label.comment}

    def as_kwargs(self) -> Effort:
        """What the label's verbs take; a kind adds what its own take beside."""
        return {
            "idempotency_key": self.cleaned_data["idempotency_key"],
            "active_seconds": self.cleaned_data["active_seconds"],
            "pasted_share": self.cleaned_data["pasted_share"],
            "comment": self.cleaned_data["comment"],
        }

    def draft(self) -> dict[str, Any]:
        """The raw values, valid or not: unfinished work may be anything."""
        raw = {name: self[name].data for name in self.fields if name not in self.NOT_IN_A_DRAFT}
        return {name: without_nul(value) for name, value in raw.items() if value}


def without_nul(value: Any) -> Any:
    """PostgreSQL stores no NUL characters; a draft is not the place to complain."""
    if isinstance(value, list):
        return [without_nul(item) for item in value]
    return value.replace("\x00", "") if isinstance(value, str) else value
