"""`/v1/models`: which policies can be asked. And what answers an address that there is not."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.access import MayChat, TokenAuthentication, token_of
from annotate.api.openai.asking import acting, asked_for
from annotate.api.openai.chat_request import CHALLENGER, LIVE
from annotate.api.openai.shapes import REFUSALS
from annotate.prompts.policies import Policy


class ModelAnswer(serializers.Serializer):
    id = serializers.CharField(help_text="What to send as `model`.")
    object = serializers.CharField()
    created = serializers.IntegerField()
    owned_by = serializers.CharField()


class ModelList(serializers.Serializer):
    object = serializers.CharField()
    data = ModelAnswer(many=True)  # type: ignore[assignment]  # the field is called so


@extend_schema(responses={200: ModelList, **REFUSALS}, operation_id="list_models")
@api_view(["GET"])
@authentication_classes([TokenAuthentication])
@permission_classes([MayChat])
def models(request: Request) -> Response:
    """The policies that can be asked: “live”, “challenger” where there is one, and each by name."""
    project = token_of(request).project
    named = [(name, policy) for name in (LIVE, CHALLENGER) if (policy := acting(project, name))]
    every = [(policy.name, policy) for policy in project.policies.askable()]
    rows = [_model(name, policy) for name, policy in [*named, *every]]
    return Response({"object": "list", "data": rows})


@extend_schema(responses={200: ModelAnswer, **REFUSALS}, operation_id="retrieve_model")
@api_view(["GET"])
@authentication_classes([TokenAuthentication])
@permission_classes([MayChat])
def model(request: Request, name: str) -> Response:
    """One of them."""
    return Response(_model(name, asked_for(token_of(request).project, name)))


@extend_schema(exclude=True)
@api_view(["GET", "POST", "PUT", "PATCH", "DELETE"])
@authentication_classes([TokenAuthentication])
@permission_classes([MayChat])
def nothing_here(request: Request, rest: str) -> Response:
    """Says which addresses there are."""
    raise NotFound(
        f"There is no {request.method} /v1/{rest[:100]} here, only GET /v1/models and"
        " POST /v1/chat/completions, /v1/responses, /v1/completions."
    )


def _model(name: str, policy: Policy) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(policy.created_at.timestamp()),
        "owned_by": policy.project.slug,
    }
