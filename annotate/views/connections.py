"""Connections: model servers outside, and the policies that are made of their models."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import Request, Role, connection_for, project_for
from annotate.audit.recording import about, recorded
from annotate.connections import catalogue
from annotate.connections.forms import ConnectionForm
from annotate.connections.models import Connection, InUse
from annotate.ids import id_in
from annotate.people.models import Project
from annotate.playground.column_forms import WordsForm
from annotate.prompts.folders import model_folders
from annotate.prompts.policies import Policy


class NewPolicyForm(WordsForm):
    """A model, from a connection or from a folder, and the words around the prompt."""

    name = forms.CharField(max_length=100)
    connection = forms.ModelChoiceField(
        Connection.objects.none(), required=False, empty_label="none: a model folder"
    )
    model_name = forms.CharField(
        max_length=200,
        required=False,
        label="Model",
        help_text="As the server calls it.",
        widget=forms.TextInput({"list": "models-there", "spellcheck": "false"}),
    )
    folder = forms.ChoiceField(
        required=False, label="Model folder", help_text="Instead of a connection."
    )
    field_order = ("name", "connection", "model_name", "folder")

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = project
        connection, folder = self.fields["connection"], self.fields["folder"]
        assert isinstance(connection, forms.ModelChoiceField)
        assert isinstance(folder, forms.ChoiceField)
        connection.queryset = project.connections.all()
        folder.choices = [("", "none"), *((each, each) for each in model_folders())]

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if self.project.policies.named(name).exists():
            raise ValidationError(f"There is already a policy “{name}”.")
        return name

    def clean(self) -> dict[str, Any]:
        said = self.cleaned_data
        if self.has_error("connection") or self.has_error("folder"):
            return said
        if bool(said.get("connection")) == bool(said.get("folder")):
            self.add_error(None, "Choose either a connection or a model folder.")
        elif said["connection"] and not said.get("model_name"):
            self.add_error("model_name", "Choose a model of the connection.")
        elif said["folder"]:
            said["model_name"] = ""
        return said

    def save(self) -> Policy:
        says = self.cleaned_data
        has_words = says["system_prompt"] or says["few_shot"] or says["prompt_format"]
        is_bare = says["folder"] and not has_words
        return Policy.objects.create(
            project=self.project,
            origin=Policy.Origin.BASE if is_bare else Policy.Origin.PROMPTED,
            **says,
        )


@require_GET
def connections(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    context = {"project": project, "connections": project.connections.with_policy_counts()}
    return render(request, "annotate/connections.html", context)


@require_http_methods(["GET", "POST"])
def new(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    form = ConnectionForm(project, request.POST or None)
    return _edited(request, project, form, title="New connection")


@require_http_methods(["GET", "POST"])
def one(request: Request, slug: str, connection_id: int) -> HttpResponse:
    connection = connection_for(request, slug, connection_id)
    title = connection.name
    form = ConnectionForm(connection.project, request.POST or None, instance=connection)
    return _edited(request, connection.project, form, title=title)


def _edited(
    request: Request, project: Project, form: ConnectionForm, *, title: str
) -> HttpResponse:
    """Saves a connection and asks its server at once, so that mistakes show where they are made."""
    if request.method == "POST" and form.is_valid():
        with recorded():
            connection = form.save()
            about(connection)
        _test(request, connection)
        return redirect("connections_one", project.slug, connection.pk)
    connection = form.instance
    context = {
        "project": project,
        "form": form,
        "connection": connection if connection.pk else None,
        "policies": list(connection.policies.all()) if connection.pk else [],
        "title": title,
    }
    status = 422 if form.errors else 200
    return render(request, "annotate/connections_one.html", context, status=status)


@require_POST
def test(request: Request, slug: str, connection_id: int) -> HttpResponse:
    connection = connection_for(request, slug, connection_id)
    _test(request, connection)
    return redirect("connections_one", slug, connection.pk)


def _test(request: Request, connection: Connection) -> None:
    catalogue.test(connection)
    if connection.trouble:
        messages.error(request, f"{connection}: {connection.trouble}")
        return
    count = len(connection.models_there)
    models = f"{count} model{'s' if count > 1 else ''}"
    messages.success(request, f"{connection} answers, and has {models}.")


@require_POST
def delete(request: Request, slug: str, connection_id: int) -> HttpResponse:
    connection = connection_for(request, slug, connection_id)
    try:
        connection.remove()
    except InUse as users:
        messages.error(request, f"{connection} was not deleted, because policies use it: {users}.")
        return redirect("connections_one", slug, connection_id)
    messages.success(request, f"{connection} is deleted, with its key.")
    return redirect("connections", slug)


@require_http_methods(["GET", "POST"])
def policies_new(request: Request, slug: str) -> HttpResponse:
    """Adds a policy: a model of a connection (?connection=), or a model folder."""
    project = project_for(request, slug, Role.OPERATOR)
    asked = {
        "connection": id_in(request.GET.get("connection")),
        "model_name": request.GET.get("model", "")[:200],
    }
    form = NewPolicyForm(project, request.POST if request.method == "POST" else None, initial=asked)
    if request.method == "POST" and form.is_valid():
        policy = form.save()
        about(policy)
        messages.success(request, f"{policy} is now a policy. Try it in the playground.")
        return redirect("policies", slug)
    context = {"project": project, "form": form, "connections": list(project.connections.all())}
    status = 422 if form.errors else 200
    return render(request, "annotate/policies_new.html", context, status=status)


of_connection = [
    path("", one, name="connections_one"),
    path("test/", test, name="connections_test"),
    path("delete/", delete, name="connections_delete"),
]
