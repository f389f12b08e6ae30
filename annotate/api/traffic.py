"""Answers that other servers gave: logged here, they take thumbs, become data and teach like those
of this site's own policies. And the end users who asked, who may be forgotten."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.access import BatchJSONParser, MayLog, endpoint, token_of
from annotate.api.openai.chat_request import ChatMessage, checked_metadata, checked_prompt
from annotate.api.pages import Conflict, described
from annotate.api.strict import StrictSerializer
from annotate.chat import traffic
from annotate.prompts.models import LONGEST_PROMPT

MOST_ANSWERS = 100


class LoggedAnswer(StrictSerializer):
    external_id = serializers.CharField(
        max_length=200,
        help_text="Your own name of the answer. Sending it again changes nothing: repeat a batch "
        "as often as you like.",
    )
    model = serializers.CharField(max_length=100, help_text="Who answered: a policy by this name.")
    messages = serializers.ListField(child=ChatMessage(), min_length=1, max_length=200)
    answer = serializers.CharField(max_length=LONGEST_PROMPT, trim_whitespace=False)
    user = serializers.CharField(required=False, max_length=200)
    metadata = serializers.DictField(
        child=serializers.CharField(max_length=512, allow_blank=True), required=False
    )
    store = serializers.BooleanField(default=True)
    to_label = serializers.BooleanField(
        default=False, help_text="Makes it a prompt and a completion at once, without a thumb."
    )

    def validate_answer(self, answer: str) -> str:
        if not answer.strip():
            raise serializers.ValidationError("The answer is empty.")
        return answer

    def validate_messages(self, messages: list[dict[str, str]]) -> list[dict[str, str]]:
        return checked_prompt(messages)

    def validate_metadata(self, metadata: dict[str, str]) -> dict[str, str]:
        return checked_metadata(metadata)


class LogRequest(StrictSerializer):
    answers = serializers.ListField(child=LoggedAnswer(), min_length=1, max_length=MOST_ANSWERS)


class LoggedRow(serializers.Serializer):
    external_id = serializers.CharField()
    completion_id = serializers.UUIDField(help_text="Name it, or external_id, with a thumb.")
    is_new = serializers.BooleanField()
    counts = serializers.BooleanField(help_text="Whether it became data, where that was asked.")
    why = serializers.CharField(allow_blank=True)


class LogAnswer(serializers.Serializer):
    answers = LoggedRow(many=True)


class Forgotten(serializers.Serializer):
    exchanges = serializers.IntegerField(help_text="How many were deleted.")


@described("log_answers", LogAnswer, request=LogRequest, method="POST", status=201)
@endpoint("POST", permission=MayLog, parsers=(BatchJSONParser,))
def log_answers(request: Request) -> Response:
    """Logs up to 100 answers, all or none. Repeating a call changes nothing: see `external_id`."""
    checked = LogRequest(data=request.data)
    checked.is_valid(raise_exception=True)
    token = token_of(request)
    try:
        logged = traffic.log(
            checked.validated_data["answers"], project=token.project, user=token.user
        )
    except traffic.AnswerDiffers as error:
        raise Conflict(str(error)) from None
    rows = [
        {
            "external_id": answer.conversation.external_id,
            "completion_id": answer.public_id,
            "is_new": is_new,
            "counts": answer.completion_id is not None,
            "why": answer.why_no_data,
        }
        for answer, is_new in logged
    ]
    return Response(LogAnswer({"answers": rows}).data, status=status.HTTP_201_CREATED)


@described(
    *("forget_end_user", Forgotten),
    method="DELETE", query=[OpenApiParameter("name", str, OpenApiParameter.PATH)],
)  # fmt: skip
@endpoint("DELETE", permission=MayLog)
def end_user(request: Request, name: str) -> Response:
    """Deletes all exchanges of an end user, named as in `user`, and what became of them."""
    project = token_of(request).project
    return Response({"exchanges": traffic.forget_end_user(project, name)})
