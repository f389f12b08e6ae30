"""What all replies in OpenAI's shape share."""

from __future__ import annotations

import json
from typing import Any

from django.http import StreamingHttpResponse
from rest_framework import serializers


class Usage(serializers.Serializer):
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()


class ErrorObject(serializers.Serializer):
    message = serializers.CharField()
    type = serializers.CharField()
    param = serializers.CharField(allow_null=True)
    code = serializers.CharField(allow_null=True)


class Refusal(serializers.Serializer):
    error = ErrorObject()


REFUSALS = dict.fromkeys((400, 401, 403, 404, 413, 415, 429, 502), Refusal)
COUNTED = "As the model server counts; where it does not, four bytes a token."


def event_stream(events: Any) -> StreamingHttpResponse:
    """A response that a client reads as it comes."""
    return StreamingHttpResponse(
        events,
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def data(event: dict[str, Any]) -> str:
    """One event of a stream."""
    return f"data: {json.dumps(event)}\n\n"
