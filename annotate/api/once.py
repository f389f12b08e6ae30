"""Calls that are sent again, because their reply was lost, are answered again and not done again
(the Idempotency-Key header, IETF draft-ietf-httpapi-idempotency-key-header)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from rest_framework.exceptions import APIException, ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.people.replies import LONGEST_KEY, Reply
from annotate.people.tokens import ApiToken
from annotate.prompts.models import content_hash


class AnotherCall(APIException):
    status_code = 409
    default_detail = "This Idempotency-Key came with another call. Make a new key for each call."
    code = "idempotency_key_reused"


def once(view: Callable[..., Any]) -> Callable[..., Any]:
    """Keeps what a POST with a key was answered. A refusal is not kept: nothing was done."""

    @wraps(view)
    def answered(request: Request, *args: Any, **kwargs: Any) -> Any:
        key = _key_of(request)
        if not key:
            return view(request, *args, **kwargs)
        with transaction.atomic():
            Reply.objects.stale().delete()
            asked = _digest(request)
            # Of two calls at once, the second waits here for the first to be done.
            reply, is_new = Reply.objects.get_or_create(
                token=cast(ApiToken, request.auth), key=key, defaults={"asked": asked}
            )
            if not is_new:
                return _again(reply, asked)
            response = view(request, *args, **kwargs)
            reply.status, reply.body = response.status_code, response.data
            reply.save(update_fields=["status", "body"])
        return response

    return answered


def once_kept(view: Callable[..., Any]) -> Callable[..., Any]:
    """As `once`, for a view that waits for others before it changes something: no transaction is
    open meanwhile. It calls `keep` in its own, together with what it changes."""

    @wraps(view)
    def answered(request: Request, *args: Any, **kwargs: Any) -> Any:
        key = _key_of(request)
        asked = _digest(request) if key else ""
        if kept := _kept(request, key):
            return _again(kept, asked)
        try:
            return view(request, *args, **kwargs)
        except (APIException, IntegrityError):
            # Of two calls at once, the other may have been done meanwhile.
            if kept := _kept(request, key):
                return _again(kept, asked)
            raise

    return answered


def keep(request: Request, body: Any, *, status: int) -> None:
    """Keeps what this call is answered, if it has a key. Raises IntegrityError where another call
    with that key was quicker."""
    if key := _key_of(request):
        Reply.objects.create(
            token=cast(ApiToken, request.auth),
            key=key,
            asked=_digest(request),
            status=status,
            body=body,
        )


def _key_of(request: Request) -> str:
    """Empty where the call has none, or changes nothing."""
    key = request.headers.get("Idempotency-Key", "") if request.method == "POST" else ""
    if len(key) > LONGEST_KEY or not key.isprintable():
        raise ParseError(f"An Idempotency-Key has at most {LONGEST_KEY} characters.")
    return key


def _kept(request: Request, key: str) -> Reply | None:
    if not key:
        return None
    Reply.objects.stale().delete()
    return Reply.objects.filter(token=cast(ApiToken, request.auth), key=key).first()


def _again(reply: Reply, asked: str) -> Response:
    if reply.asked != asked:
        raise AnotherCall
    return Response(reply.body, reply.status, headers={"Idempotent-Replayed": "true"})


def _digest(request: Request) -> str:
    sent = request.data
    if hasattr(sent, "lists"):
        sent = {name: [_plain(each) for each in values] for name, values in sent.lists()}
    return content_hash([request.method, request.get_full_path(), sent])


def _plain(value: Any) -> Any:
    if not isinstance(value, UploadedFile):
        return value
    digest = hashlib.sha256()
    for chunk in value.chunks():
        digest.update(chunk)
    value.seek(0)
    return [value.name, digest.hexdigest()]
