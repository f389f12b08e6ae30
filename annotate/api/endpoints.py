"""The addresses of the API. Every call carries an API token; the project it belongs to is the only
one that exists for it."""

from __future__ import annotations

from typing import Any

from django.urls import path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api import gateway
from annotate.api.access import MayRead, TokenAuthentication, token_of
from annotate.api.feedback import feedback
from annotate.api.traffic import end_user, log_answers
from annotate.prompts.policies import Policy


class PolicyAnswer(serializers.ModelSerializer[Policy]):
    class Meta:
        model = Policy
        fields = ["name", "description", "state", "origin", "created_at"]


class PolicyPage(serializers.Serializer):
    count = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = PolicyAnswer(many=True)


class Pages(LimitOffsetPagination):
    default_limit = 50
    max_limit = 200


@extend_schema(
    parameters=[OpenApiParameter("limit", int), OpenApiParameter("offset", int)],
    responses=PolicyPage,
    operation_id="list_policies",
)
@api_view(["GET"])
@authentication_classes([TokenAuthentication])
@permission_classes([MayRead])
def policies(request: Request) -> Response:
    """The project's policies, the newest first."""
    pages = Pages()
    page: Any = pages.paginate_queryset(token_of(request).project.policies.all(), request)
    return pages.get_paginated_response(PolicyAnswer(page, many=True).data)


schema = SpectacularAPIView.as_view(
    authentication_classes=[TokenAuthentication, SessionAuthentication],
    permission_classes=[IsAuthenticated],
)

addresses = [
    path("v1/models", gateway.models, name="api_models"),
    path("v1/models/<path:name>", gateway.model, name="api_model"),
    path("v1/chat/completions", gateway.chat_completions, name="api_chat_completions"),
    path("v1/<path:rest>", gateway.nothing_here, name="api_nothing"),
    path("api/v1/answers", log_answers, name="api_answers"),
    path("api/v1/end-users/<str:name>", end_user, name="api_end_user"),
    path("api/v1/feedback", feedback, name="api_feedback"),
    path("api/v1/policies", policies, name="api_policies"),
    path("api/schema/", schema, name="api_schema"),
]
