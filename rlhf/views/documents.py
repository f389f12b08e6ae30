"""Raw text for pre-training: what there is, and bringing more in."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from annotate.access import Request, Role, project_for
from rlhf.models.documents import Document, texts_in
from rlhf.rounds.forms import DocumentsForm


@require_http_methods(["GET", "POST"])
def rounds_documents(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    form = DocumentsForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        file = form.cleaned_data["file"]
        try:
            new = Document.add(project, texts_in(file, name=file.name), source=file.name[:100])
        except ValidationError as error:
            form.add_error("file", error)
        else:
            messages.success(request, f"{new} new documents.")
            return redirect("rounds_documents", slug=slug)
    context = {
        "project": project,
        "form": form,
        "counts": Document.objects.of_project(project).count_by_split(),
        "newest": list(Document.objects.of_project(project).order_by("-pk")[:20]),
    }
    return render(request, "rlhf/documents.html", context, status=422 if form.errors else 200)
