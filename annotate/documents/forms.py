"""What one fills in on the page Documents."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from annotate.connections.models import Connection
from annotate.documents.comparing import Fact, facts_in
from annotate.documents.models import Embedder
from annotate.labels.forms import Text
from annotate.people.models import Project
from annotate.prompts.policies import MOST_PASSAGES, Policy

MOST_FILES = 50
LONGEST_FACTS = 20_000  # characters


class SeveralFiles(forms.ClearableFileInput):
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """One or more files."""

    widget = SeveralFiles

    def clean(self, data: Any, initial: Any = None) -> list[Any]:
        files = data if isinstance(data, list | tuple) else [data]
        if len(files) > MOST_FILES:
            raise ValidationError(f"That is {len(files)} files. Choose at most {MOST_FILES}.")
        return [super(FilesField, self).clean(each, initial) for each in files or [None]]


class DocumentsForm(forms.Form):
    file = FilesField(
        label="Files",
        help_text="Text, Markdown, HTML or PDF, one document each; or JSON Lines of "
        '{"text": "…"}. A file of the same name as an earlier one supersedes it.',
    )


class EmbedderForm(forms.Form):
    """Which model finds passages by meaning: of a connection, or weights here; or none."""

    connection = forms.ModelChoiceField(
        Connection.objects.none(), required=False, empty_label="none: by words alone"
    )
    model_name = forms.CharField(
        max_length=200, required=False, label="Embedding model", help_text="As the server calls it."
    )
    policy = forms.ModelChoiceField(
        Policy.objects.none(),
        required=False,
        label="Or a model of this machine",
        empty_label="none",
        help_text="The mean of its hidden states is the vector: coarser than an embedding model.",
    )

    def __init__(self, project: Project, data: Any = None) -> None:
        there = Embedder.objects.filter(project=project).first()
        chosen = (
            {name: getattr(there, name) for name in ("connection", "model_name", "policy")}
            if there
            else {}
        )
        super().__init__(data, initial=chosen)
        self.project = project
        connection = self.fields["connection"]
        assert isinstance(connection, forms.ModelChoiceField)
        connection.queryset = project.connections.all()
        policy = self.fields["policy"]
        assert isinstance(policy, forms.ModelChoiceField)
        policy.queryset = project.policies.with_weights()

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        if said.get("connection") and not said.get("model_name"):
            self.add_error("model_name", "Choose a model of the connection.")
        if said.get("connection") and said.get("policy"):
            self.add_error("policy", "Choose a connection or a model of this machine, not both.")
        return said

    def save(self) -> None:
        if self.cleaned_data["connection"] or self.cleaned_data["policy"]:
            said = {**self.cleaned_data, "trouble": ""}
            Embedder.objects.update_or_create(project=self.project, defaults=said)
        else:
            Embedder.objects.filter(project=self.project).delete()


class CompareForm(forms.Form):
    """Facts that only the documents tell, and who is asked about them."""

    facts = Text(
        rows=5,
        max_length=LONGEST_FACTS,
        label="Questions with what a right answer contains",
        help_text="A line for each, such as: When was the mill built? | 1764",
    )
    model = forms.ModelChoiceField(Policy.objects.none(), empty_label=None)
    passages = forms.IntegerField(min_value=1, max_value=MOST_PASSAGES, initial=3)
    trained = forms.ModelChoiceField(
        Policy.objects.none(),
        required=False,
        label="Pre-trained on the documents",
        empty_label="none yet",
    )

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("model", "trained"):
            field = self.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            field.queryset = project.policies.sampleable()

    def clean_facts(self) -> list[Fact]:
        return facts_in(self.cleaned_data["facts"])
