"""The addresses of the API. Every call carries an API token; the project it belongs to is the only
one that exists for it."""

from __future__ import annotations

from django.urls import path
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import NotFound
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api import exchange, gateway, labels, prompts
from annotate.api.access import MayRead, TokenAuthentication, endpoint, token_of
from annotate.api.feedback import feedback, measures, preference
from annotate.api.pages import listed, paged
from annotate.api.traffic import end_user, log_answers
from annotate.prompts.policies import Policy


class PolicyAnswer(serializers.ModelSerializer[Policy]):
    class Meta:
        model = Policy
        fields = ["id", "name", "description", "state", "origin", "created_at"]


@listed("list_policies", PolicyAnswer)
@endpoint("GET", permission=MayRead)
def policies(request: Request) -> Response:
    """The project's policies, the newest first."""
    return paged(request, token_of(request).project.policies.all(), PolicyAnswer)


@extend_schema(exclude=True)
@endpoint("GET", "POST", "PUT", "PATCH", "DELETE", permission=IsAuthenticated, repeats=None)
def nothing_here(request: Request, rest: str) -> Response:
    """Answers an address that there is not as the others refuse."""
    raise NotFound(f"There is no /api/v1/{rest[:100]} here. See /api/schema/.")


schema = extend_schema(exclude=True)(SpectacularAPIView).as_view(
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
    path("api/v1/preferences", preference, name="api_preferences"),
    path("api/v1/measures", measures, name="api_measures"),
    path("api/v1/policies", policies, name="api_policies"),
    path("api/v1/prompts", prompts.prompts, name="api_prompts"),
    path("api/v1/prompts/<int:prompt_id>", prompts.prompt, name="api_prompt"),
    path("api/v1/completions", prompts.completions, name="api_completions"),
    path("api/v1/tasks", prompts.tasks, name="api_tasks"),
    path("api/v1/assignments", labels.assignments, name="api_assignments"),
    path("api/v1/assignments/next", labels.next_one, name="api_assignments_next"),
    path("api/v1/assignments/<int:assignment_id>", labels.assignment, name="api_assignment"),
    path("api/v1/assignments/<int:assignment_id>/label", labels.label, name="api_label"),
    path("api/v1/assignments/<int:assignment_id>/skip", labels.skip, name="api_skip"),
    path("api/v1/labels/<str:kind>", labels.labels, name="api_labels"),
    path("api/v1/imports", exchange.imports, name="api_imports"),
    path("api/v1/imports/<int:upload_id>", exchange.one, name="api_import"),
    path("api/v1/imports/<int:upload_id>/run", exchange.run, name="api_import_run"),
    path("api/v1/exports/<str:kind>", exchange.exports, name="api_exports"),
    path("api/schema/", schema, name="api_schema"),
]
