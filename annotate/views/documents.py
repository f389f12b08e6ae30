"""The documents of a project: what there is, bringing more in, and looking something up in them."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST

from annotate.access import Request, Role, project_for, project_to_read_for
from annotate.deletion import delete_document
from annotate.documents.comparing import RETRIEVAL, ways
from annotate.documents.forms import CompareForm, DocumentsForm, EmbedderForm
from annotate.documents.models import Added, Document, Passage
from annotate.documents.search import best_passages
from annotate.exchange.documents import texts_in
from annotate.people.models import Project
from annotate.playground.column_forms import turns_of, words_of
from annotate.playground.grids import Column, Grid
from annotate.playground.rows import Row
from feedback_site.bell import enqueue_on_commit

FOUND = 10  # passages that a search shows


@require_http_methods(["GET", "POST"])
def documents(request: Request, slug: str) -> HttpResponse:
    """What there is; ?q= looks a question up in it."""
    project = project_to_read_for(request, slug)
    form = DocumentsForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        try:
            added = add_files(project, form.cleaned_data["file"])
        except ValidationError as error:
            form.add_error("file", error)
        else:
            messages.success(request, str(added))
            return redirect("documents", slug=slug)
    return _page(request, project, form=form)


@transaction.atomic
def add_files(project: Project, files: list[Any]) -> Added:
    """Adds the texts of all files or of none. Raises ValidationError."""
    each = [
        Document.add(project, texts_in(file, name=file.name), source=file.name[-100:])
        for file in files
    ]
    ring_for_vectors(project)
    return Added(sum(one.new for one in each), sum(one.superseded for one in each))


def ring_for_vectors(project: Project) -> None:
    """Wakes a worker for the passages that the embedding model has not read."""
    if hasattr(project, "embedder"):
        enqueue_on_commit("label", "annotate.jobs.embed_passages", project.pk)


def _page(request: Request, project: Project, **forms: Any) -> HttpResponse:
    rows = Document.objects.of_project(project)
    question = request.GET.get("q", "").strip()
    passages = Passage.objects.of_project(project)
    embedder = getattr(project, "embedder", None)
    context = {
        "project": project,
        "form": DocumentsForm(),
        "embedder_form": EmbedderForm(project),
        "compare_form": CompareForm(project),
        **forms,
        "counts": rows.current().count_by_split(),
        "documents": rows.by_name(),
        "passages": passages.count(),
        "embedder": embedder,
        "not_embedded": passages.without_vector(embedder.mark).count() if embedder else 0,
        "question": question,
        "found": best_passages(project, question, FOUND) if question else [],
        "has_models": project.policies.sampleable().exists(),
    }
    refused = any(form.errors for form in forms.values())
    return render(request, "annotate/documents.html", context, status=422 if refused else 200)


@require_POST
def delete(request: Request, slug: str) -> HttpResponse:
    """Deletes all versions of a document, and what answers were given to read of it."""
    project = project_for(request, slug, Role.OPERATOR)
    source = request.POST.get("source", "")
    gone = delete_document(project, source)
    if gone:
        messages.success(request, f"{source or 'The documents without a name'}: deleted.")
    else:
        messages.info(request, "This document no longer exists.")
    return redirect("documents", slug)


@require_POST
def embedder(request: Request, slug: str) -> HttpResponse:
    """Chooses the model that finds passages by meaning, or none."""
    project = project_for(request, slug, Role.OPERATOR)
    form = EmbedderForm(project, request.POST)
    if not form.is_valid():
        return _page(request, project, embedder_form=form)
    form.save()
    ring_for_vectors(project_for(request, slug, Role.OPERATOR))
    messages.success(request, "Saved.")
    return redirect("documents", slug)


@require_POST
def compare(request: Request, slug: str) -> HttpResponse:
    """Asks about facts of the documents in four ways, in a grid of the playground."""
    project = project_for(request, slug, Role.OPERATOR)
    form = CompareForm(project, request.POST)
    if not form.is_valid():
        return _page(request, project, compare_form=form)
    said = form.cleaned_data
    asked = [Row.saying(fact.question, reference=fact.answer) for fact in said.pop("facts")]
    columns = []
    for name, policy, differs in ways(project, **said):
        words = words_of(policy)
        words |= {"few_shot": turns_of(words["few_shot"]), "temperature": 0.0, **differs}
        number = f" of {said['passages']} passages" if name == RETRIEVAL else ""
        columns.append(Column(**words, name=f"{name}{number}"))
    grid = Grid.lay_out(
        project=project,
        author=request.user,
        prompts=asked,
        columns=columns,
        checks="contains, supported",
    )
    return redirect("playground_grid", slug, grid.pk)


of_documents = [
    path("", documents, name="documents"),
    path("delete/", delete, name="documents_delete"),
    path("embedder/", embedder, name="documents_embedder"),
    path("compare/", compare, name="documents_compare"),
]
