"""How the operations of the API are described, and how they read what was sent: lists in pages,
JSON for the forms of the site's own pages, errors in one shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError as Invalid
from django.db.models import QuerySet
from django.http import QueryDict
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.ids import LONGEST as LONGEST_ID
from annotate.paging import page_of
from annotate.people.replies import LONGEST_KEY

MOST_ROWS, ROWS = 200, 50


class Problem(serializers.Serializer):
    """What every refusal answers."""

    detail = serializers.CharField(help_text="A sentence for whoever reads the log.")
    code = serializers.CharField(help_text="A word to decide by.")
    fields = serializers.DictField(  # type: ignore[assignment]  # the key is called so
        child=serializers.ListField(child=serializers.CharField()),
        help_text="Where something is wrong, as “messages[1].role”, and what.",
    )


class Conflict(APIException):
    """Contradicts what is stored, or cannot be done now."""

    status_code = 409
    code = "conflict"

    def __init__(
        self, detail: str, *, code: str = "", fields: Mapping[str, list[str]] | None = None
    ) -> None:
        super().__init__(detail)
        self.code, self.fields = code or self.code, fields


class Stale(APIException):
    status_code = 412
    default_detail = "It has changed since you read it. Read it again, and send its new ETag."


class Unconditional(APIException):
    status_code = 428
    default_detail = "Two may write here: send the ETag that you have read as If-Match."


class PageQuery(serializers.Serializer):
    after = serializers.IntegerField(
        required=False, min_value=1, max_value=10**LONGEST_ID - 1, help_text="From `next`."
    )
    limit = serializers.IntegerField(default=ROWS, min_value=1, max_value=MOST_ROWS)


REFUSALS = (400, 401, 403, 404, 409, 412, 413, 415, 428, 429)
KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "maxLength": LONGEST_KEY},
    OpenApiParameter.HEADER,
    description="The same call with the same key is done once, and answered the same for a day.",
)
IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="The ETag of what you have read."
)


def described(
    name: str,
    answers: Any,
    *,
    request: Any = None,
    method: str = "GET",
    status: int = 200,
    query: Iterable[Any] = (),
) -> Callable[[Any], Any]:
    """Describes an operation for the schema; each may be refused in the one shape. `answers`: a
    serializer, or status → serializer."""
    return extend_schema(
        methods=[method],
        operation_id=name,
        request=request,
        parameters=[*query, *([KEY] if method == "POST" else [])],
        responses={
            **(answers if isinstance(answers, dict) else {status: answers}),
            **dict.fromkeys(REFUSALS, Problem),
        },
    )


def listed(
    name: str, row: type[serializers.Serializer[Any]], query: Iterable[Any] = ()
) -> Callable[[Any], Any]:
    """Describes an operation that `paged` answers."""
    answers = inline_serializer(
        f"{row.__name__}Page",
        {"results": row(many=True), "next": serializers.URLField(allow_null=True)},
    )
    return described(name, answers, query=[PageQuery, *query])


def paged(
    request: Request,
    rows: QuerySet[Any],
    row: type[serializers.Serializer[Any]],
    *,
    filters: Iterable[str] = (),
    newest_first: bool = True,
) -> Response:
    """A page of the rows, and the address of the next, which begins after the last row of this
    one whatever has come in between. Refuses a query of other names than its `filters`."""
    only_known(request.query_params, [*PageQuery().fields, *filters])
    asked = PageQuery(data=request.query_params)
    asked.is_valid(raise_exception=True)
    after, limit = asked.validated_data.get("after"), asked.validated_data["limit"]
    page = page_of(rows, {"after": str(after or "")}, size=limit, newest_first=newest_first)
    further = None
    if page.next is not None:
        query = request.query_params.copy()
        query["after"] = str(page.next)
        further = request.build_absolute_uri(f"{request.path}?{query.urlencode()}")
    return Response({"results": row(page.rows, many=True).data, "next": further})


def form_data(sent: Mapping[str, Any]) -> QueryDict:
    """JSON as a browser would have sent it. Raises ValidationError for what is no text, number or
    truth value, nor a list of these."""
    data = QueryDict(mutable=True)
    for name, value in sent.items():
        if value is not None:
            values = value if isinstance(value, list) else [value]
            data.setlist(name, [_text(each, name) for each in values])
    return data


def _text(value: Any, name: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise serializers.ValidationError({name: ["Send a text, a number, true or false."]})
    text = str(value)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise serializers.ValidationError({name: ["This is no text: half of a character pair."]})
    return text


def check(form: forms.BaseForm) -> Any:
    """What a valid form says; raises ValidationError with the fields of another."""
    if not form.is_valid():
        raise serializers.ValidationError(in_fields(form.errors))
    return form.cleaned_data


def in_fields(errors: Mapping[str, Any]) -> dict[str, list[str]]:
    """A form's errors under the names that the API has."""
    return {
        "non_field_errors" if name == "__all__" else name: [str(each) for each in sentences]
        for name, sentences in errors.items()
    }


def refuse(error: Invalid) -> serializers.ValidationError:
    """What a verb has refused, as the API says it."""
    named = getattr(error, "message_dict", {"__all__": error.messages})
    return serializers.ValidationError(in_fields(named))


def only_known(sent: Any, names: Iterable[str]) -> dict[str, Any]:
    """The object that was sent; raises ValidationError for a name that none of its fields has."""
    if not isinstance(sent, Mapping):
        raise serializers.ValidationError("Send an object.")
    known = set(names)
    if unknown := sorted(str(name)[:100] for name in sent if name not in known):
        raise serializers.ValidationError(
            {name: ["This field is not supported."] for name in unknown[:10]}
        )
    return dict(sent)


def match(request: Request, etag: str) -> None:
    """Raises Stale where the caller has read another version, Unconditional where they do not say
    which."""
    sent = request.headers.get("If-Match", "").strip()
    if not sent:
        raise Unconditional
    if sent != "*" and etag not in [each.strip().removeprefix("W/") for each in sent.split(",")]:
        raise Stale
