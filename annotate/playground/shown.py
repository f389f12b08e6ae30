"""Which rows of a grid one looks at, in which order, and which two columns beside each other."""

from __future__ import annotations

from typing import Any

from django import forms

from annotate.playground.grids import Grid

SORTS = {
    "total_ms": "time",
    "first_ms": "time to the first token",
    "completion_tokens": "tokens",
    "price": "price",
}
SHOWS = {
    "failing": "a check failed",
    "differing": "columns differ in a check",
    "unanswered": "not answered",
}


class ShownForm(forms.Form):
    """Which rows of a grid are shown, in which order. What makes no sense changes nothing."""

    show = forms.ChoiceField(required=False, choices=[("", "all"), *SHOWS.items()], label="Rows")
    words = forms.CharField(required=False, max_length=200, label="That contain")
    sort = forms.ChoiceField(required=False, label="Sort by")
    column = forms.TypedChoiceField(required=False, coerce=int, label="Of column")
    down = forms.BooleanField(required=False, label="Greatest first")

    def __init__(self, grid: Grid, asked: Any) -> None:
        super().__init__(asked, auto_id="shown-%s")
        checks = [(name, name) for name in grid.named_checks()]
        sort, column = self.fields["sort"], self.fields["column"]
        assert isinstance(sort, forms.ChoiceField)
        assert isinstance(column, forms.ChoiceField)
        sort.choices = [("", "as asked"), *checks, *SORTS.items()]
        column.choices = [(n, str(n + 1)) for n in range(len(grid.columns))]

    def asked(self, name: str) -> Any:
        """What was chosen; None or nothing where that makes no sense."""
        self.is_valid()
        return self.cleaned_data.get(name)


class DiffForm(forms.Form):
    """Which two columns of a grid are compared; the first two, where that makes no sense."""

    a = forms.TypedChoiceField(required=False, coerce=int, empty_value=None, label="From")
    b = forms.TypedChoiceField(required=False, coerce=int, empty_value=None, label="To")

    def __init__(self, grid: Grid, asked: Any) -> None:
        self.first = [0, min(1, len(grid.columns) - 1)]
        first = dict(zip("ab", self.first, strict=True))
        super().__init__({**first, **asked.dict()}, auto_id="diff-%s")
        for field in (self.fields["a"], self.fields["b"]):
            assert isinstance(field, forms.ChoiceField)
            field.choices = [(n, f"Column {n + 1}") for n in range(len(grid.columns))]

    @property
    def columns(self) -> list[int]:
        if not self.is_valid():
            return self.first
        return [self.cleaned_data["a"] or 0, self.cleaned_data["b"] or 0]
