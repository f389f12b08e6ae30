"""The addresses of the API. Every call carries an API token; the project it belongs to is the only
one that exists for it."""

from __future__ import annotations

from django.urls import path, register_converter
from django.urls.converters import StringConverter
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import NotFound
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api import documents, exchange, judges, labels, prompts, reviews, talks
from annotate.api.access import MayRead, TokenAuthentication, endpoint, token_of
from annotate.api.feedback import feedback, measures, preference
from annotate.api.openai.chat import chat_completions
from annotate.api.openai.completions import completions
from annotate.api.openai.models import model, models
from annotate.api.openai.models import nothing_here as nothing_under_v1
from annotate.api.openai.responses import responses
from annotate.api.pages import listed, paged
from annotate.api.traffic import end_user, log_answers
from annotate.prompts.policies import Policy


class Anything(StringConverter):
    """Unlike Django's `path`, also with line ends in it."""

    regex = r"[\s\S]+"


register_converter(Anything, "anything")


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
    path("v1/models", models, name="api_models"),
    path("v1/models/<path:name>", model, name="api_model"),
    path("v1/chat/completions", chat_completions, name="api_chat_completions"),
    path("v1/responses", responses, name="api_responses"),
    path("v1/completions", completions, name="api_raw_completions"),
    path("v1/<anything:rest>", nothing_under_v1, name="api_nothing"),
    path("api/v1/answers", log_answers, name="api_answers"),
    path("api/v1/end-users/<anything:name>", end_user, name="api_end_user"),
    path("api/v1/feedback", feedback, name="api_feedback"),
    path("api/v1/preferences", preference, name="api_preferences"),
    path("api/v1/measures", measures, name="api_measures"),
    path("api/v1/policies", policies, name="api_policies"),
    path("api/v1/prompts", prompts.prompts, name="api_prompts"),
    path("api/v1/prompts/<int:prompt_id>", prompts.prompt, name="api_prompt"),
    path("api/v1/completions", prompts.completions, name="api_completions"),
    path("api/v1/batches", prompts.batches, name="api_batches"),
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
    path("api/v1/documents", documents.documents, name="api_documents"),
    path("api/v1/documents/<int:document_id>", documents.document, name="api_document"),
    path("api/v1/passages", documents.passages, name="api_passages"),
    path("api/v1/reviews", reviews.reviews, name="api_reviews"),
    path("api/v1/reviews/next", reviews.next_one, name="api_reviews_next"),
    path("api/v1/reviews/<int:assignment_id>", reviews.review, name="api_review"),
    path("api/v1/reviews/<int:assignment_id>/decision", reviews.decision, name="api_decision"),
    path("api/v1/reviews/<int:assignment_id>/skip", reviews.skip, name="api_review_skip"),
    path("api/v1/talks", talks.talks, name="api_talks"),
    path("api/v1/judges", judges.judges, name="api_judges"),
    path("api/v1/judges/<int:judge_id>", judges.judge, name="api_judge"),
    path("api/v1/judges/<int:judge_id>/run", judges.run, name="api_judge_run"),
    path("api/v1/judges/<int:judge_id>/cancel", judges.cancel, name="api_judge_cancel"),
    path("api/v1/judges/<int:judge_id>/resume", judges.resume, name="api_judge_resume"),
    path("api/v1/judges/<int:judge_id>/withdraw", judges.withdraw, name="api_judge_withdraw"),
    path("api/schema/", schema, name="api_schema"),
]
