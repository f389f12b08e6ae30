"""Errors as the clients of each address can read them: under `/v1/` in OpenAI's shape, elsewhere
`{"detail": a sentence, "code": a word, "fields": {where: [sentences]}}`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.http import HttpRequest
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.response import Response
from rest_framework.views import exception_handler

# Clients decide by these what to do next: repeat the call, ask for another key, give up.
CODES = {
    401: "invalid_api_key",
    403: "insufficient_scope",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    412: "precondition_failed",
    413: "request_too_large",
    415: "unsupported_media_type",
    428: "precondition_required",
    429: "rate_limit_exceeded",
}
UNSUPPORTED = "unsupported_parameter"


class NoSuchModel(APIException):
    status_code = 404
    default_code = "model_not_found"
    param = "model"


class NoSuchResponse(APIException):
    status_code = 404
    default_code = "previous_response_not_found"
    param = "previous_response_id"


class TooLongContext(APIException):
    status_code = 400
    default_code = "context_length_exceeded"
    param = "messages"


class NotDoneHere(APIException):
    status_code = 404
    default_code = "not_found"
    param = "model"


class NoAnswer(APIException):
    status_code = 502
    default_code = "model_server_failed"


def is_openai(request: HttpRequest) -> bool:
    return request.path.startswith("/v1/")


def answer(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """What an error answers; the setting EXCEPTION_HANDLER names this."""
    response = exception_handler(error, dict(context))
    if response is None:
        return None
    ours = _in_their_shape if is_openai(context["request"]) else _in_our_shape
    response.data = ours(error, response)
    return response


def problem(
    status: int, detail: str, *, code: str = "", fields: Mapping[str, list[str]] | None = None
) -> dict[str, Any]:
    """The error object of `/api/`. `fields`: where something is wrong, as `messages[1].role`."""
    code = code or CODES.get(status, "invalid")
    return {"detail": detail, "code": code, "fields": dict(fields or {})}


def _in_our_shape(error: Exception, response: Response) -> dict[str, Any]:
    status = response.status_code
    if isinstance(error, ValidationError):
        fields = dict(_fields(error.detail))
        where, [sentence, *_] = next(iter(fields.items()), ("", ["This cannot be done."]))
        named = {name: said for name, said in fields.items() if name}
        detail = f"{where}: {sentence}" if where else sentence
        return problem(status, detail, code=_code(error.get_codes()), fields=named)
    code = getattr(error, "code", "")
    said = str(response.data.get("detail", "")) or "This cannot be done."
    return problem(status, said, code=code, fields=getattr(error, "fields", None))


def body(status: int, message: str, *, code: str = "", param: str = "") -> dict[str, Any]:
    """OpenAI's error object (API reference, "Error codes")."""
    return {
        "error": {
            "message": message,
            "type": _type(status),
            "param": param or None,
            "code": code or CODES.get(status),
        }
    }


def _in_their_shape(error: Exception, response: Response) -> dict[str, Any]:
    status = response.status_code
    if isinstance(error, ValidationError):
        param, message = _first(error.detail)
        code = _code(error.get_codes())
        said = f"{param}: {message}" if param else message
        return body(status, said, code=code, param=param)
    param = getattr(error, "param", "")
    detail = error.detail if isinstance(error, APIException) else ""
    named = (NoSuchModel, NoSuchResponse, TooLongContext, NotDoneHere, NoAnswer)
    code = error.default_code if isinstance(error, named) else ""
    said = str(detail) or str(response.data.get("detail", "")) or "This cannot be done."
    return body(status, said, code=code, param=param)


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def _first(errors: Any, path: str = "") -> tuple[str, str]:
    """The first thing that is wrong: where it stands, as `messages[1].role`, and what it is."""
    if isinstance(errors, Mapping):
        for name, inner in errors.items():
            if name == "non_field_errors":
                return _first(inner, path)
            if inner:
                step = f"[{name}]" if isinstance(name, int) else f".{name}" if path else str(name)
                return _first(inner, path + step)
    elif isinstance(errors, Sequence) and not isinstance(errors, str):
        for number, inner in enumerate(errors):
            if inner:
                at = path if isinstance(inner, str) else f"{path}[{number}]"
                return _first(inner, at)
    return path, str(errors)


def _fields(errors: Any, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """All that is wrong: where each stands, and what it is."""
    if isinstance(errors, Mapping):
        for name, inner in errors.items():
            step = "" if name == "non_field_errors" else str(name)
            between = "." if path and step else ""
            at = f"{path}[{name}]" if isinstance(name, int) else f"{path}{between}{step}"
            yield from _fields(inner, at)
        return
    sentences = [str(each) for each in errors if isinstance(each, str)]
    if sentences:
        yield path, sentences
    for number, inner in enumerate(errors):
        if inner and not isinstance(inner, str):
            yield from _fields(inner, f"{path}[{number}]")


def _code(codes: Any) -> str:
    """`unsupported_parameter` where that is what is wrong; for the rest there is no code."""
    while isinstance(codes, Mapping | list) and codes:
        codes = next(iter(codes.values() if isinstance(codes, Mapping) else filter(None, codes)))
    return UNSUPPORTED if codes == UNSUPPORTED else ""
