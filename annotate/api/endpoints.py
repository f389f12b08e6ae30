"""The API for products outside: chat with the live policy, thumbs, the list of policies.

`/v1/chat/completions` has OpenAI's shape, so that any of its clients will do. Every call carries an
API token; the project it belongs to is the only one that exists for it."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import ValidationError as Invalid
from django.http import HttpResponseBase, StreamingHttpResponse
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import (
    api_view,
    authentication_classes,
    parser_classes,
    permission_classes,
)
from rest_framework.exceptions import APIException, NotFound, Throttled
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.access import (
    MayChat,
    MayGiveFeedback,
    MayRead,
    SmallJSONParser,
    TokenAuthentication,
    token_of,
)
from annotate.chat import inference
from annotate.chat import streaming as chat
from annotate.chat.conversations import Conversation, NoLivePolicy
from annotate.chat.feedback import Feedback
from annotate.chat.messages import Message
from annotate.limits import seconds_to_wait
from annotate.people.tokens import ApiToken
from annotate.prompts.models import LONGEST_PROMPT, validate_messages
from annotate.prompts.policies import Policy
from feedback_site.pool import release_connections

LIVE = "live"
RETRACTED = "The thumb was removed."


class NobodyAnswers(APIException):
    status_code = 409
    default_detail = "No policy is live in this project."


class NoAnswer(APIException):
    status_code = 502


class StrictSerializer(serializers.Serializer):
    """A field we do not know would be a wish we do not fulfil: say so."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := set(data) - set(self.fields)):
            raise serializers.ValidationError(
                {str(name)[:100]: ["This field is not supported."] for name in sorted(unknown)[:10]}
            )
        return super().to_internal_value(data)


class ChatMessage(StrictSerializer):
    role = serializers.ChoiceField(["system", "user", "assistant"])
    content = serializers.CharField(max_length=LONGEST_PROMPT, trim_whitespace=False)


class ChatRequest(StrictSerializer):
    model = serializers.CharField(
        default=LIVE, max_length=100, help_text="“live”, or the name of the live policy."
    )
    messages = serializers.ListField(child=ChatMessage(), min_length=1, max_length=200)
    stream = serializers.BooleanField(default=False)
    max_tokens = serializers.IntegerField(required=False, min_value=1, max_value=4096)
    max_completion_tokens = serializers.IntegerField(required=False, min_value=1, max_value=4096)
    temperature = serializers.FloatField(required=False, min_value=0, max_value=2)
    top_p = serializers.FloatField(required=False, min_value=0.01, max_value=1)
    n = serializers.IntegerField(default=1, min_value=1, max_value=1)
    user = serializers.CharField(
        required=False,
        max_length=200,
        help_text="Whom you ask for, in your words: only a keyed digest of it is stored. "
        "Limits, and how many thumbs of a day count, are by end user.",
    )
    store = serializers.BooleanField(
        default=True, help_text="False: the exchange never leaves the chat tables."
    )

    def validate_messages(self, messages: list[dict[str, str]]) -> list[dict[str, str]]:
        size = sum(len(message["content"]) for message in messages)
        if size > LONGEST_PROMPT:
            raise serializers.ValidationError(
                f"The messages have {size:,} characters, and at most {LONGEST_PROMPT:,} fit."
            )
        plain = [dict(message) for message in messages]
        try:
            validate_messages(plain)
        except Invalid as error:
            raise serializers.ValidationError(error.messages) from error
        return plain


class ChatChoiceMessage(serializers.Serializer):
    role = serializers.CharField()
    content = serializers.CharField(allow_blank=True)


class ChatChoice(serializers.Serializer):
    index = serializers.IntegerField()
    message = ChatChoiceMessage()
    finish_reason = serializers.CharField()


class ChatAnswer(serializers.Serializer):
    id = serializers.UUIDField(help_text="Name it when you send a thumb.")
    object = serializers.CharField()
    created = serializers.IntegerField()
    model = serializers.CharField(help_text="The policy that answered.")
    choices = ChatChoice(many=True)


class FeedbackRequest(StrictSerializer):
    completion_id = serializers.UUIDField()
    thumb = serializers.ChoiceField(["up", "down"], allow_null=True, help_text="null retracts it.")
    reasons = serializers.ListField(
        child=serializers.ChoiceField(Feedback.Reason.choices), default=list, max_length=20
    )
    note = serializers.CharField(default="", allow_blank=True, max_length=2000)
    wanted_answer = serializers.CharField(default="", allow_blank=True, max_length=8000)

    def validate(self, sent: dict[str, Any]) -> dict[str, Any]:
        if sent["thumb"] is None:
            return sent
        fitting = dict(Feedback.reasons_for(thumb_up=sent["thumb"] == "up"))
        for reason in sent["reasons"]:
            if reason not in fitting:
                raise serializers.ValidationError(
                    {"reasons": [f"“{reason}” does not go with a thumb {sent['thumb']}."]}
                )
        return sent


class FeedbackAnswer(serializers.Serializer):
    completion_id = serializers.UUIDField()
    thumb = serializers.ChoiceField(["up", "down"], allow_null=True)
    reasons = serializers.ListField(child=serializers.CharField())
    note = serializers.CharField(allow_blank=True)
    counts = serializers.BooleanField(help_text="Whether it becomes data of the project.")
    why = serializers.CharField(allow_blank=True, help_text="Why it does not.")


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


@extend_schema(request=ChatRequest, responses=ChatAnswer, operation_id="chat_completions")
@api_view(["POST"])
@authentication_classes([TokenAuthentication])
@permission_classes([MayChat])
@parser_classes([SmallJSONParser])
def chat_completions(request: Request) -> HttpResponseBase:
    """Asks the live policy, and logs the exchange. The id is what a thumb refers to."""
    asked = _valid(ChatRequest, request)
    _count(token_of(request), asked.get("user", ""))
    answer = _begin(token_of(request), asked)
    if asked["stream"]:
        return StreamingHttpResponse(
            _chunks(answer),
            content_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
    async_to_sync(chat.write_whole)(answer)
    answer.refresh_from_db()
    if answer.failure == inference.TOO_LONG:
        raise serializers.ValidationError({"messages": [answer.failure]})
    if answer.state != Message.State.DONE:
        raise NoAnswer(answer.failure)
    message = {"role": "assistant", "content": answer.text}
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    return Response(_completion(answer, "chat.completion", choice))


@extend_schema(request=FeedbackRequest, responses=FeedbackAnswer, operation_id="give_feedback")
@api_view(["POST"])
@authentication_classes([TokenAuthentication])
@permission_classes([MayGiveFeedback])
@parser_classes([SmallJSONParser])
def feedback(request: Request) -> Response:
    """A thumb on an answer of `/v1/chat/completions`: given, changed or, with null, retracted."""
    sent = _valid(FeedbackRequest, request)
    exchanges = Conversation.objects.of_products(token_of(request).project)
    answers = Message.objects.answers_in(exchanges)
    answer = answers.filter(public_id=sent["completion_id"]).first()
    if answer is None:
        raise NotFound("No such completion.")
    why = RETRACTED
    if sent["thumb"] is None:
        Feedback.take_back(message=answer, user=token_of(request).user)
    else:
        given = Feedback.give(
            message=answer,
            user=token_of(request).user,
            thumb_up=sent["thumb"] == "up",
            reasons=sent["reasons"],
            note=sent["note"],
            wanted_answer=sent["wanted_answer"],
        )
        why = given.why_it_does_not_count
    return Response(FeedbackAnswer({**sent, "counts": not why, "why": why}).data)


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


def _valid(serializer: type[serializers.Serializer], request: Request) -> dict[str, Any]:
    checked = serializer(data=request.data)
    checked.is_valid(raise_exception=True)
    return checked.validated_data


def _count(token: ApiToken, end_user: str) -> None:
    if end_user:
        who = f"{token.project_id}/{end_user}"
        if wait := seconds_to_wait("API of an end user", end_user=who):
            raise Throttled(wait=math.ceil(wait))


def _begin(token: ApiToken, asked: dict[str, Any]) -> Message:
    live = token.project.policies.live().first()
    if live is None:
        raise NobodyAnswers
    if asked["model"] not in (LIVE, live.name):
        raise serializers.ValidationError(
            {"model": [f"Only the live policy answers here: send “{LIVE}”, or leave it out."]}
        )
    sampling = {name: asked[name] for name in ("temperature", "top_p") if name in asked}
    wished = asked.get("max_completion_tokens") or asked.get("max_tokens") or live.max_new_tokens
    try:
        return Conversation.of_api_call(
            project=token.project,
            user=token.user,
            messages=asked["messages"],
            end_user=asked.get("user", ""),
            improves_model=asked["store"],
            max_tokens=min(wished, live.max_new_tokens),
            **sampling,
        )
    except NoLivePolicy:
        raise NobodyAnswers from None


async def _chunks(answer: Message) -> AsyncIterator[str]:
    await sync_to_async(release_connections)()
    await chat.in_database(answer.begin)
    yield _chunk(answer, {"role": "assistant", "content": ""})
    async with aclosing(chat.write(answer)) as pieces:
        async for piece in pieces:
            yield _chunk(answer, {"content": piece}) if piece else ": waiting\n\n"
    if answer.state == Message.State.DONE:
        yield _chunk(answer, {}, answer.finish_reason)
    else:
        yield f"data: {json.dumps({'error': {'message': answer.failure}})}\n\n"
    yield "data: [DONE]\n\n"


def _chunk(answer: Message, delta: dict[str, str], finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return f"data: {json.dumps(_completion(answer, 'chat.completion.chunk', choice))}\n\n"


def _completion(answer: Message, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    assert answer.policy is not None
    return {
        "id": str(answer.public_id),
        "object": kind,
        "created": int(answer.created_at.timestamp()),
        "model": answer.policy.name,
        "choices": [choice],
    }


schema = SpectacularAPIView.as_view(
    authentication_classes=[TokenAuthentication, SessionAuthentication],
    permission_classes=[IsAuthenticated],
)

addresses = [
    path("v1/chat/completions", chat_completions, name="api_chat_completions"),
    path("api/v1/feedback", feedback, name="api_feedback"),
    path("api/v1/policies", policies, name="api_policies"),
    path("api/schema/", schema, name="api_schema"),
]
