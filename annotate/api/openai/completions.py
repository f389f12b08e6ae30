"""`/v1/completions`: a policy goes on with a raw text, outside any chat template, as base models
do. Such exchanges are logged, and never become training data: there is no question in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import (
    api_view,
    authentication_classes,
    parser_classes,
    permission_classes,
)
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.access import MayChat, SmallJSONParser, TokenAuthentication, token_of
from annotate.api.openai.asking import (
    asked_for,
    begin,
    count_end_user,
    failure_in_stream,
    usage_of,
    write_all,
)
from annotate.api.openai.chat_request import (
    LIVE,
    LONGEST_USER,
    MOST_CHOICES,
    MOST_STOPS,
    PENALTIES,
    Stops,
    StreamOptions,
)
from annotate.api.openai.shapes import COUNTED, REFUSALS, Usage, data, event_stream
from annotate.api.strict import StrictSerializer, without_no_ops
from annotate.chat import streaming as chat
from annotate.chat.messages import Message
from annotate.prompts.models import LONGEST_PROMPT
from feedback_site.web.api_errors import UNSUPPORTED

MOST_ANSWERS = 16  # to one request
NO_EFFECT: Mapping[str, Any] = {
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0, 0.0),
    "logit_bias": ({},),
    "presence_penalty": (0, 0.0),
    "suffix": ("",),
}


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "minLength": 1, "maxLength": LONGEST_PROMPT},
            {
                "type": "array",
                "minItems": 1,
                "maxItems": MOST_ANSWERS,
                "items": {"type": "string", "minLength": 1, "maxLength": LONGEST_PROMPT},
            },
        ]
    }
)
class Texts(serializers.ListField):
    """One text, or several."""

    child = serializers.CharField(max_length=LONGEST_PROMPT, trim_whitespace=False)

    def to_internal_value(self, data: Any) -> list[str]:
        return super().to_internal_value([data] if isinstance(data, str) else data)


class RawCompletionRequest(StrictSerializer):
    model = serializers.CharField(
        default=LIVE,
        max_length=100,
        help_text="“live”, “challenger”, or a policy's name: those of /v1/models.",
    )
    prompt = Texts(min_length=1, max_length=MOST_ANSWERS, help_text="What to go on with.")
    stream = serializers.BooleanField(default=False)
    stream_options = StreamOptions(required=False)
    max_tokens = serializers.IntegerField(required=False, min_value=1, max_value=4096)
    temperature = serializers.FloatField(required=False, min_value=0, max_value=2)
    top_p = serializers.FloatField(required=False, min_value=0.01, max_value=1)
    seed = serializers.IntegerField(required=False, min_value=-(2**63), max_value=2**63 - 1)
    stop = Stops(required=False, max_length=MOST_STOPS)
    frequency_penalty = serializers.FloatField(required=False, min_value=-2, max_value=2)
    presence_penalty = serializers.FloatField(required=False, min_value=-2, max_value=2)
    n = serializers.IntegerField(default=1, min_value=1, max_value=MOST_CHOICES)
    user = serializers.CharField(required=False, max_length=LONGEST_USER)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(without_no_ops(data, NO_EFFECT))

    def validate(self, sent: dict[str, Any]) -> dict[str, Any]:
        if len(sent["prompt"]) * sent["n"] > MOST_ANSWERS:
            why = f"{MOST_ANSWERS} answers may be asked for at once, n for each prompt."
            raise serializers.ValidationError({"n": [why]})
        return sent


class RawCompletionChoice(serializers.Serializer):
    index = serializers.IntegerField()
    text = serializers.CharField(allow_blank=True)
    finish_reason = serializers.CharField()
    logprobs = serializers.CharField(allow_null=True)


class RawCompletionAnswer(serializers.Serializer):
    id = serializers.UUIDField()
    object = serializers.CharField()
    created = serializers.IntegerField()
    model = serializers.CharField(help_text="The policy that went on.")
    choices = RawCompletionChoice(many=True)
    usage = Usage(help_text=COUNTED)


@extend_schema(
    request=RawCompletionRequest,
    responses={200: RawCompletionAnswer, **REFUSALS},
    operation_id="completions",
)
@api_view(["POST"])
@authentication_classes([TokenAuthentication])
@permission_classes([MayChat])
@parser_classes([SmallJSONParser])
def completions(request: Request) -> HttpResponseBase:
    """Lets a policy go on with a raw text."""
    checked = RawCompletionRequest(data=request.data)
    checked.is_valid(raise_exception=True)
    asked, token = checked.validated_data, token_of(request)
    count_end_user(token, asked.get("user", ""))
    if not asked_for(token.project, asked["model"]).is_elsewhere:
        _refuse_penalties(asked)
    wishes = ("temperature", "top_p", "seed", "stop", *PENALTIES)
    sampling = {name: asked[name] for name in wishes if name in asked}
    answers = [
        answer
        for text in asked["prompt"]
        for answer in begin(
            token,
            asked,
            [{"role": "user", "content": text}],
            improves_model=False,
            is_raw=True,
            **sampling,
        )
    ]
    if asked["stream"]:
        with_usage = asked.get("stream_options", {}).get("include_usage", False)
        return event_stream(_chunks(answers, asked["n"], with_usage=with_usage))
    write_all(answers)
    choices = [
        {"index": number, "text": each.text, "finish_reason": each.finish_reason, "logprobs": None}
        for number, each in enumerate(answers)
    ]
    return Response(_object(answers[0], choices) | {"usage": _usage(answers, asked["n"])})


def _refuse_penalties(asked: dict[str, Any]) -> None:
    said = serializers.ErrorDetail(
        "The model server of this policy cannot do that.", code=UNSUPPORTED
    )
    if beyond := {name: [said] for name in PENALTIES if name in asked}:
        raise serializers.ValidationError(beyond)


async def _chunks(answers: list[Message], of_each: int, *, with_usage: bool) -> AsyncIterator[str]:
    first = answers[0]
    extra: dict[str, Any] = {"usage": None} if with_usage else {}
    for number, answer in enumerate(answers):
        choice = {"index": number, "finish_reason": None, "logprobs": None}
        await chat.begin(answer)
        async with aclosing(chat.write(answer)) as pieces:
            async for piece in pieces:
                chunk = _object(first, [{**choice, "text": piece}]) | extra
                yield data(chunk) if piece else ": waiting\n\n"
        if answer.state != Message.State.DONE:
            yield data(failure_in_stream(answer))
            break
        ended = {**choice, "text": "", "finish_reason": answer.finish_reason}
        yield data(_object(first, [ended]) | extra)
    else:
        if with_usage:
            yield data(_object(first, []) | {"usage": _usage(answers, of_each)})
    yield "data: [DONE]\n\n"


def _usage(answers: list[Message], of_each: int) -> dict[str, int]:
    """Tokens of each prompt, once, and of all the answers."""
    counted = [usage_of(answers[at : at + of_each]) for at in range(0, len(answers), of_each)]
    return {name: sum(each[name] for each in counted) for name in counted[0]}


def _object(answer: Message, choices: list[dict[str, Any]]) -> dict[str, Any]:
    assert answer.policy is not None
    return {
        "id": str(answer.public_id),
        "object": "text_completion",
        "created": int(answer.created_at.timestamp()),
        "model": answer.policy.name,
        "choices": choices,
    }
