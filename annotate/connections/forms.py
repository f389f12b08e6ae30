"""The form of a connection. A key goes in and never comes out."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError

from annotate.connections.models import Connection
from annotate.people.models import Project


class ConnectionForm(forms.ModelForm):
    key = forms.CharField(
        required=False,
        max_length=1000,
        widget=forms.PasswordInput({"autocomplete": "off", "spellcheck": "false"}),
        help_text="Stored encrypted and never shown again.",
    )
    without_key = forms.BooleanField(required=False, label="Remove the key")
    field_order = ("name", "base_url", "key", "without_key")

    class Meta:
        model = Connection
        fields = ("name", "base_url", "price_in", "price_out", "parallel")
        labels: ClassVar = {
            "base_url": "Address",
            "price_in": "Price per million input tokens",
            "price_out": "Price per million output tokens",
            "parallel": "Parallel requests",
        }
        help_texts: ClassVar = {
            "base_url": "Of an OpenAI-compatible API, up to /v1: https://api.openai.com/v1",
            "price_in": "Optional.",
            "price_out": "Optional.",
            "parallel": "The most that are sent at the same time.",
        }

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = project
        self.key_was_for = self.instance.base_url if self.instance.has_key else ""
        if self.instance.has_key:
            self.fields["key"].help_text += " Leave empty to keep the one there is."
        else:
            del self.fields["without_key"]

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        others = self.project.connections.exclude(pk=self.instance.pk)
        if others.filter(name=name).exists():
            raise ValidationError(f"There is already a connection “{name}”.")
        return name

    def clean_base_url(self) -> str:
        return self.cleaned_data["base_url"].rstrip("/")

    def clean_key(self) -> str:
        key: str = self.cleaned_data["key"]
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise ValidationError("A key has no spaces, line breaks or accents. Copy it again.")
        return key

    def clean(self) -> dict[str, Any]:
        """A key is for the server it was given for: whoever moves the address does not take it
        along."""
        said = self.cleaned_data
        moves = self.key_was_for and said.get("base_url", self.key_was_for) != self.key_was_for
        if moves and not (said.get("key") or said.get("without_key") or self.has_error("key")):
            self.add_error("key", "The address has changed, so enter the key again, or remove it.")
        return said

    def save(self, commit: bool = True) -> Connection:
        self.instance.project = self.project
        if self.cleaned_data["key"] or self.cleaned_data.get("without_key"):
            self.instance.set_key(self.cleaned_data["key"])
        connection: Connection = super().save(commit)
        return connection
