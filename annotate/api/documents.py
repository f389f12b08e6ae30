"""Documents over the API: what the page *Documents* shows and does."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError as Invalid
from django.core.files.base import ContentFile
from django.db.models.functions import Length
from django.http import Http404, QueryDict
from django.utils.datastructures import MultiValueDict
from rest_framework import serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import Role, document_for
from annotate.api.access import BatchJSONParser, MayReadOrManage, endpoint, here, project_of
from annotate.api.pages import check, described, listed, only_known, paged
from annotate.api.strict import StrictSerializer
from annotate.deletion import delete_document
from annotate.documents.forms import DocumentsForm
from annotate.documents.models import Document
from annotate.documents.search import LONGEST_QUESTION, best_passages
from annotate.views.documents import FOUND, add_files

LONGEST_SOURCE = 100  # characters


class DocumentRow(serializers.ModelSerializer[Document]):
    source = serializers.CharField(  # type: ignore[assignment]  # the key is called so
        help_text="The name of the file."
    )
    characters = serializers.IntegerField()

    class Meta:
        model = Document
        fields = ["id", "source", "version", "split", "characters", "created_at"]


class DocumentAnswer(DocumentRow):
    text = serializers.CharField()

    class Meta(DocumentRow.Meta):
        fields = [*DocumentRow.Meta.fields, "text"]


class DocumentQuery(serializers.Serializer):
    source = serializers.CharField(  # type: ignore[assignment]  # the key is called so
        required=False, max_length=LONGEST_SOURCE, help_text="Those of this name alone."
    )


class OfOneName(serializers.Serializer):
    source = serializers.CharField(  # type: ignore[assignment]  # the key is called so
        max_length=LONGEST_SOURCE, allow_blank=True, help_text="“”: of those without a name."
    )


class NewDocuments(serializers.Serializer):
    file = serializers.ListField(child=serializers.FileField(), min_length=1, help_text="Each one.")


class NewDocument(StrictSerializer):
    name = serializers.CharField(
        max_length=LONGEST_SOURCE, help_text="As of a file: its ending says how it is read."
    )
    text = serializers.CharField(trim_whitespace=False)


class DocumentsAdded(serializers.Serializer):
    new = serializers.IntegerField()
    superseded = serializers.IntegerField()


class DocumentsDeleted(serializers.Serializer):
    deleted = serializers.IntegerField(help_text="Texts, of all versions.")


class SearchQuery(serializers.Serializer):
    q = serializers.CharField(max_length=LONGEST_QUESTION)


class FoundPassage(serializers.Serializer):
    document = serializers.IntegerField(source="passage.document_id")
    source = serializers.CharField(  # type: ignore[assignment]  # the key is called so
        source="passage.document.source", allow_blank=True
    )
    number = serializers.IntegerField(source="passage.number", help_text="In the document.")
    text = serializers.CharField(source="passage.text")
    score = serializers.FloatField()


class FoundPassages(serializers.Serializer):
    results = FoundPassage(many=True)


@listed("list_documents", DocumentRow, [DocumentQuery])
@described(
    "add_documents",
    DocumentsAdded,
    request={"multipart/form-data": NewDocuments, "application/json": NewDocument},
    method="POST",
    status=201,
)
@described("delete_documents", DocumentsDeleted, method="DELETE", query=[OfOneName])
@endpoint(
    *("GET", "POST", "DELETE"),
    permission=MayReadOrManage,
    parsers=(MultiPartParser, BatchJSONParser),
)
def documents(request: Request) -> Response:
    """The documents in force, the newest first; a POST adds some, all or none; a DELETE deletes
    all versions of one `source`, and what answers were given to read of it."""
    project = project_of(request, Role.OPERATOR)
    if request.method == "POST":
        try:
            added = add_files(project, _files(request))
        except Invalid as error:
            raise serializers.ValidationError({"file": error.messages}) from None
        return Response(DocumentsAdded(added).data, status=201)
    if request.method == "DELETE":
        named = OfOneName(data=request.query_params)
        named.is_valid(raise_exception=True)
        if not (gone := delete_document(project, named.validated_data["source"])):
            raise Http404("There is no document of this name.")
        return Response({"deleted": gone})
    asked = DocumentQuery(data=request.query_params)
    asked.is_valid(raise_exception=True)
    rows = Document.objects.of_project(project).current()
    if (source := asked.validated_data.get("source")) is not None:
        rows = rows.named(source)
    rows = rows.annotate(characters=Length("text"))
    return paged(request, rows, DocumentRow, filters=DocumentQuery().fields)


@described("retrieve_document", DocumentAnswer)
@endpoint("GET", permission=MayReadOrManage)
def document(request: Request, document_id: int) -> Response:
    """One document with its text."""
    found: Any = document_for(*here(request), document_id)
    found.characters = len(found.text)
    return Response(DocumentAnswer(found).data)


@described("search_passages", FoundPassages, query=[SearchQuery])
@endpoint("GET", permission=MayReadOrManage)
def passages(request: Request) -> Response:
    """The passages that fit a question best, as answers are given to read them."""
    project = project_of(request, Role.OPERATOR)
    only_known(request.query_params, SearchQuery().fields)
    asked = SearchQuery(data=request.query_params)
    asked.is_valid(raise_exception=True)
    found = best_passages(project, asked.validated_data["q"], FOUND)
    return Response(FoundPassages({"results": found}).data)


def _files(request: Request) -> list[Any]:
    """What was sent, as the page's form takes it."""
    if isinstance(request.data, QueryDict):
        only_known(request.data, ("file",))
        files = request.FILES
    else:
        sent = NewDocument(data=request.data)
        sent.is_valid(raise_exception=True)
        said = sent.validated_data
        file = ContentFile(said["text"].encode("utf-8", "surrogatepass"), said["name"])
        files = MultiValueDict({"file": [file]})
    form = DocumentsForm({}, files)
    return list(check(form)["file"])
