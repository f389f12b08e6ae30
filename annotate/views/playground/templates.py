"""Templates: words around prompts, in versions; who changed what, and which policies use them."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods

from annotate.access import Request, project_to_read_for, template_for
from annotate.audit.recording import about
from annotate.ids import id_in
from annotate.people.models import Project
from annotate.playground.column_forms import VersionForm
from annotate.prompts.templates import PromptTemplate
from annotate.text.diff import changes


@require_http_methods(["GET", "POST"])
def templates(request: Request, slug: str) -> HttpResponse:
    """All there are, and a form for a new one."""
    project = project_to_read_for(request, slug)
    form = VersionForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and (kept := _kept(request, project, form)):
        return redirect("playground_template", slug, kept.pk)
    context = {
        "project": project,
        "form": form,
        "templates": project.templates.newest().select_related("author"),
    }
    status = 422 if form.errors else 200
    return render(request, "annotate/templates.html", context, status=status)


@require_http_methods(["GET", "POST"])
def template(request: Request, slug: str, template_id: int) -> HttpResponse:
    """One version beside the one before it, or beside ?with=; a POST writes the next."""
    project_to_read_for(request, slug)
    shown = template_for(request, slug, template_id)
    posted = request.POST if request.method == "POST" else None
    form = VersionForm(posted, version_of=shown)
    if posted is not None and (kept := _kept(request, shown.project, form, shown.name)):
        return redirect("playground_template", slug, kept.pk)
    versions = list(shown.versions.prefetch_related("policies"))
    other = id_in(request.GET.get("with"))
    beside = next((each for each in versions if each.pk == other), shown.before)
    context = {
        "project": shown.project,
        "shown": shown,
        "versions": versions,
        "beside": beside,
        "changes": changes(beside.text, shown.text) if beside else None,
        "form": form,
    }
    status = 422 if form.errors else 200
    return render(request, "annotate/template.html", context, status=status)


def _kept(
    request: Request, project: Project, form: VersionForm, name: str = ""
) -> PromptTemplate | None:
    if not form.is_valid():
        return None
    given = {"name": name, **form.cleaned_data}
    known = set(project.templates.named(given["name"]).values_list("pk", flat=True))
    try:
        kept = PromptTemplate.keep(project=project, author=request.user, **given)
    except ValidationError as error:
        form.add_error(None, error)
        return None
    about(kept)
    if kept.pk in known:
        messages.info(request, f"Nothing changed: “{kept}” has these words already.")
    else:
        messages.success(request, f"“{kept}” is kept.")
    return kept


of_templates = [
    path("", templates, name="playground_templates"),
    path("<int:template_id>/", template, name="playground_template"),
]
