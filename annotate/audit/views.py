"""Who changed what, and when: of a project for those who operate it, of the whole site for its
administrators."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from typing import Any

from django import forms
from django.http import FileResponse, Http404, HttpResponse, QueryDict
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotate.access import Request, Role, project_for, refuse_all_but_administrators
from annotate.audit.entries import AuditEntry, AuditEntryQuerySet
from annotate.exchange.files.readers import escaped
from annotate.paging import counted, page_of
from annotate.people.models import Project

FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
COLUMNS = (
    *("number", "at", "action", "actor", "project", "about", "details"),
    *("request_id", "previous", "hash"),
)
BATCH = 2000


class AuditFilter(forms.Form):
    """What is left empty filters nothing."""

    who = forms.CharField(required=False, max_length=150, label="User name")
    action = forms.CharField(required=False, max_length=100)
    about = forms.CharField(required=False, max_length=100, label="Object")
    since = forms.DateField(required=False, widget=forms.DateInput({"type": "date"}))
    until = forms.DateField(required=False, widget=forms.DateInput({"type": "date"}))

    def __init__(self, asked: QueryDict) -> None:
        super().__init__(asked, auto_id="filter-%s")

    def among(self, entries: AuditEntryQuerySet) -> AuditEntryQuerySet:
        """Those asked for; all, while the form asks for something that is not there."""
        return entries.asked_for(**self.cleaned_data) if self.is_valid() else entries


@require_GET
def audit(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    return _page(request, AuditEntry.objects.of_project(project), project)


@require_GET
def audit_export(request: Request, slug: str) -> FileResponse:
    project = project_for(request, slug, Role.OPERATOR)
    return _export(request, AuditEntry.objects.of_project(project), name=f"{project.slug}-audit")


@require_GET
def site_audit(request: Request) -> HttpResponse:
    refuse_all_but_administrators(request)
    return _page(request, AuditEntry.objects.all())


@require_GET
def site_audit_export(request: Request) -> FileResponse:
    refuse_all_but_administrators(request)
    return _export(request, AuditEntry.objects.all(), name="audit")


def _page(
    request: Request, entries: AuditEntryQuerySet, project: Project | None = None
) -> HttpResponse:
    form = AuditFilter(request.GET)
    found = form.among(entries)
    context = {
        "project": project,
        "form": form,
        "count": counted(found),
        "page": page_of(found.with_names(), request.GET, newest_first=True),
        "is_filtered": bool({*request.GET} - {"after", "before"}),
    }
    return render(request, "annotate/audit.html", context)


def _export(request: Request, entries: AuditEntryQuerySet, *, name: str) -> FileResponse:
    """A whole file or an error, never half of one: it is written before the first byte leaves."""
    format = request.GET.get("format", "jsonl")
    if format not in FORMATS:
        raise Http404("Nothing is exported in this format.")
    found = AuditFilter(request.GET).among(entries).with_names().in_order()
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the response closes it
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    rows = (_row(each) for each in found.iterator(chunk_size=BATCH))
    _write_csv(text, rows) if format == "csv" else _write_lines(text, rows)
    text.detach()
    file.seek(0)
    return FileResponse(
        file, as_attachment=True, filename=f"{name}.{format}", content_type=FORMATS[format]
    )


def _row(entry: AuditEntry) -> dict[str, Any]:
    return {
        **{column: getattr(entry, column) for column in COLUMNS},
        "at": entry.at.isoformat(),
        "actor": entry.actor and entry.actor.username,
        "project": entry.project and entry.project.slug,
    }


def _write_csv(file: io.TextIOWrapper, rows: Iterator[dict[str, Any]]) -> None:
    table = csv.writer(file)
    table.writerow(COLUMNS)
    for row in rows:
        said = {**row, "details": json.dumps(row["details"])}
        table.writerow(escaped(str(said[each] or "")) for each in COLUMNS)


def _write_lines(file: io.TextIOWrapper, rows: Iterator[dict[str, Any]]) -> None:
    for row in rows:
        file.write(json.dumps(row) + "\n")
