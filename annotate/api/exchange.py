"""Files over the API, as the pages *Import* and *Export* take and give them."""

from __future__ import annotations

from typing import Any

from django.http import QueryDict
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, OpenApiTypes
from rest_framework import serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import Role, upload_for
from annotate.api.access import (
    BatchJSONParser,
    MayReadOrManage,
    endpoint,
    here,
    project_of,
    token_of,
)
from annotate.api.pages import Conflict, check, described, form_data, listed, only_known, paged
from annotate.api.strict import StrictSerializer
from annotate.audit.recording import recorded
from annotate.exchange.exports import exporting
from annotate.exchange.importing import KINDS
from annotate.exchange.outcome import Imported, ImportFailed, Problem
from annotate.exchange.uploaded import as_shaped, bring, seen
from annotate.exchange.uploads import Upload
from annotate.views.imports import ChoicesForm, FileForm
from annotate.views.prompts import PromptFilter, export

OF_A_FILE = ("file", "text", "split")
OF_CHOICES = ("kind", "shape", "each_answer", "encoding", "key", "references")


class ImportRow(serializers.ModelSerializer[Upload]):
    class Meta:
        model = Upload
        fields = ["id", "name", "format", "size", "created_at"]


class LineProblem(serializers.Serializer):
    line = serializers.IntegerField()
    sentence = serializers.CharField()


class ImportPreview(serializers.ModelSerializer[Upload]):
    seen = serializers.SerializerMethodField(help_text="Columns, each with a value of it.")
    problems = serializers.SerializerMethodField(help_text="Of the first lines.")

    class Meta:
        model = Upload
        fields = [*ImportRow.Meta.fields, "kind", "shape", "columns", "seen", "problems"]

    def get_seen(self, upload: Upload) -> dict[str, str]:
        return {name: str(value)[:120] for name, value in seen(upload).columns.items()}

    def get_problems(self, upload: Upload) -> list[dict[str, Any]]:
        return _problems(seen(upload).problems)


class NewImport(serializers.Serializer):
    file = serializers.FileField()
    split = serializers.CharField(required=False, help_text="Of a data set that has several.")


class NewLines(serializers.Serializer):
    text = serializers.CharField(trim_whitespace=False, help_text="Lines of JSON.")
    split = serializers.CharField(required=False)


class RunImport(StrictSerializer):
    kind = serializers.CharField(
        required=False, allow_blank=True, help_text=f"{', '.join(KINDS)}; else as found."
    )
    shape = serializers.CharField(required=False, allow_blank=True)
    columns = serializers.DictField(
        child=serializers.CharField(allow_blank=True),
        required=False,
        help_text="Column → field; “=”: as it is, “”: leave it out.",
    )
    each_answer = serializers.BooleanField(required=False)
    references = serializers.BooleanField(required=False)
    encoding = serializers.CharField(required=False, allow_blank=True)
    key = serializers.CharField(required=False, allow_blank=True)
    leave_out_bad = serializers.BooleanField(default=False)
    dry_run = serializers.BooleanField(default=False)


class ImportDone(serializers.Serializer):
    lines = serializers.IntegerField()
    new = serializers.DictField(child=serializers.IntegerField())
    known = serializers.DictField(child=serializers.IntegerField())
    left_out = serializers.IntegerField()
    is_dry_run = serializers.BooleanField()
    summary = serializers.CharField()


@listed("list_imports", ImportRow)
@described(
    *("create_import", ImportPreview),
    request={"multipart/form-data": NewImport, "application/json": NewLines},
    method="POST",
    status=201,
)
@endpoint("GET", "POST", permission=MayReadOrManage, parsers=(MultiPartParser, BatchJSONParser))
def imports(request: Request) -> Response:
    """The caller's files that are not imported yet; a POST uploads one, and shows how it would be
    read."""
    project = project_of(request, Role.OPERATOR)
    user = token_of(request).user
    if request.method == "GET":
        return paged(request, project.uploads.by(user), ImportRow)
    if isinstance(request.data, QueryDict):
        only_known(request.data, OF_A_FILE)
        form = FileForm(request.data, request.FILES)
    else:
        form = FileForm(form_data(only_known(request.data, ("text", "split"))))
    check(form)
    return Response(ImportPreview(form.keep(project, user)).data, status=201)


@described("retrieve_import", ImportPreview)
@described("discard_import", None, method="DELETE", status=204)
@endpoint("GET", "DELETE", permission=MayReadOrManage)
def one(request: Request, upload_id: int) -> Response:
    """One of the caller's files: how it is read so far; a DELETE forgets it."""
    upload = upload_for(*here(request), upload_id)
    if request.method == "DELETE":
        upload.delete()
        return Response(status=204)
    return Response(ImportPreview(upload).data)


@described("run_import", ImportDone, request=RunImport, method="POST")
@endpoint("POST", permission=MayReadOrManage)
def run(request: Request, upload_id: int) -> Response:
    """Imports a file, all of it or nothing; or tells what would come of it."""
    upload = upload_for(*here(request), upload_id)
    sent = RunImport(data=request.data)
    sent.is_valid(raise_exception=True)
    said = sent.validated_data
    preview = seen(upload)
    data = {name: said[name] for name in OF_CHOICES if name in said and said[name] is not False}
    if data.get("each_answer"):
        data["each_answer"] = "yes"
    numbers = {column: number for number, column in enumerate(preview.columns)}
    columns = only_known(said.get("columns", {}), numbers)
    data |= {f"column_{numbers[column]}": field for column, field in columns.items()}
    form = ChoicesForm(upload, preview, form_data(data))
    check(form)
    upload.choose(as_shaped(upload, form.choices), references=form.cleaned_data["references"])
    try:
        done = _done_with(upload, dry_run=said["dry_run"], leave_out_bad=said["leave_out_bad"])
    except ImportFailed as failed:
        fields = {f"lines[{each.line}]": [each.sentence] for each in failed.problems}
        raise Conflict(failed.summary, code="import_failed", fields=fields) from None
    return Response(_done(done))


EXPORT_KIND = OpenApiParameter(
    "kind", OpenApiTypes.STR, OpenApiParameter.PATH, enum=list(exporting.KINDS)
)
EXPORT_QUERY = [
    OpenApiParameter("format", OpenApiTypes.STR, enum=list(exporting.FORMATS)),
    OpenApiParameter("anonymous", OpenApiTypes.STR, description="Pseudonyms instead of names."),
    *(OpenApiParameter(name, str) for name in PromptFilter.base_fields),
]


@described(
    "export",
    {(200, each): OpenApiTypes.BINARY for each in exporting.FORMATS.values()},
    query=[*EXPORT_QUERY, EXPORT_KIND],
)
@endpoint("GET", permission=MayReadOrManage)
def exports(request: Request, kind: str) -> HttpResponseBase:
    """A whole file: JSON Lines, CSV or Parquet."""
    only_known(request.query_params, [each.name for each in EXPORT_QUERY])
    page, slug = here(request)
    return export(page._request, slug, kind)  # type: ignore[attr-defined]  # of the framework


def _done_with(upload: Upload, *, dry_run: bool, leave_out_bad: bool) -> Imported:
    if dry_run:
        return bring(upload, dry_run=True, leave_out_bad=leave_out_bad)
    with recorded():
        done = bring(upload, dry_run=False, leave_out_bad=leave_out_bad)
        upload.delete()
    return done


def _problems(problems: list[Problem]) -> list[dict[str, Any]]:
    return [{"line": each.line, "sentence": each.sentence} for each in problems]


def _done(done: Imported) -> dict[str, Any]:
    return {
        "lines": done.lines,
        "new": dict(done.new),
        "known": dict(done.known),
        "left_out": done.left_out,
        "is_dry_run": done.is_dry_run,
        "summary": str(done),
    }
