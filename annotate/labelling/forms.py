"""What labelers send beside the work itself: that they skip a task, or flag its prompt."""

from __future__ import annotations

from typing import Any

from django import forms

from annotate.labels.forms import Text
from annotate.prompts.flags import PromptFlag
from annotate.work.assignments import Assignment


class ReasonSelect(forms.RadioSelect):
    """Radios, and beside them a button that is a reason of its own, whatever was chosen before."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        # By a name of its own: the button must neither drop what the radios say nor yield to it.
        return data.get("skip-now") or super().value_from_datadict(data, files, name)


class SkipForm(forms.Form):
    """Is a part of the work form, so that what was typed there is there again after an undo."""

    prefix = "skip"  # a ranking has a reason of its own
    use_required_attribute = False  # or the browser would ask for a reason before each submit
    reason = forms.ChoiceField(
        choices=Assignment.SkipReason,
        widget=ReasonSelect,
        error_messages={"required": "Choose why you are skipping this task."},
    )
    # Of two lines: Enter in a field of one would submit the work.
    note = Text(rows=2, required=False, max_length=500, label="Note")


class FlagForm(forms.Form):
    """Stands beside the work form and is sent with it, so that nothing typed there is lost."""

    prefix = "flag"
    use_required_attribute = False  # or the browser would ask for a reason before each submit
    reason = forms.ChoiceField(
        choices=PromptFlag.Reason,
        widget=forms.RadioSelect(attrs={"form": "work"}),
        error_messages={"required": "Choose what is wrong with the prompt."},
    )
    # Of two lines: Enter in a field of one would submit the work.
    note = Text(
        rows=2,
        attrs={"form": "work"},
        required=False,
        max_length=500,
        label="Note",
    )
