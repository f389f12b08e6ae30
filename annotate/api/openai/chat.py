"""`/v1/chat/completions`, so that any client of OpenAI's API will do. Every exchange is logged, and
the id of an answer takes thumbs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema
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
    whole_calls,
    write_all,
)
from annotate.api.openai.chat_request import OF_THE_SERVER, ChatRequest, ToolCall, with_tools
from annotate.api.openai.shapes import COUNTED, REFUSALS, Usage, data, event_stream
from annotate.chat import streaming as chat
from annotate.chat.messages import Message
from annotate.people.tokens import ApiToken
from feedback_site.web import api_errors as errors


class ChatChoiceMessage(serializers.Serializer):
    role = serializers.CharField()
    content = serializers.CharField(allow_blank=True, allow_null=True)
    refusal = serializers.CharField(allow_null=True)
    tool_calls = ToolCall(many=True, required=False)


class ChatChoice(serializers.Serializer):
    index = serializers.IntegerField()
    message = ChatChoiceMessage()
    finish_reason = serializers.CharField()
    logprobs = serializers.CharField(allow_null=True)
    completion_id = serializers.UUIDField(help_text="Name it when you send a thumb on this choice.")


class ChatAnswer(serializers.Serializer):
    id = serializers.UUIDField(help_text="Name it when you send a thumb on the first choice.")
    object = serializers.CharField()
    created = serializers.IntegerField()
    model = serializers.CharField(help_text="The policy that answered.")
    choices = ChatChoice(many=True)
    usage = Usage(help_text=COUNTED)


@extend_schema(
    request=ChatRequest, responses={200: ChatAnswer, **REFUSALS}, operation_id="chat_completions"
)
@api_view(["POST"])
@authentication_classes([TokenAuthentication])
@permission_classes([MayChat])
@parser_classes([SmallJSONParser])
def chat_completions(request: Request) -> HttpResponseBase:
    """Asks a policy, and logs the exchange."""
    checked = ChatRequest(data=request.data)
    checked.is_valid(raise_exception=True)
    asked = checked.validated_data
    answers = begin_chat(token_of(request), asked)
    if asked["stream"]:
        with_usage = asked.get("stream_options", {}).get("include_usage", False)
        return event_stream(_chunks(answers, with_usage=with_usage))
    write_all(answers)
    choices = [_choice(number, answer) for number, answer in enumerate(answers)]
    return Response(_object(answers[0], "chat.completion", choices) | {"usage": usage_of(answers)})


def begin_chat(token: ApiToken, asked: dict[str, Any]) -> list[Message]:
    """The places of the answers to a chat that is asked for in the fields of ChatRequest."""
    count_end_user(token, asked.get("user", ""))
    if not asked_for(token.project, asked["model"]).is_elsewhere:
        _refuse_what_only_others_can(asked)
    wishes = ("temperature", "top_p", "seed", "stop", *OF_THE_SERVER)
    # A call of a tool is no answer that people could judge.
    improves_model = asked["store"] and not _is_about_tools(asked)
    sampling = {name: asked[name] for name in wishes if name in asked}
    return begin(token, asked, asked["messages"], improves_model=improves_model, **sampling)


def _is_about_tools(asked: dict[str, Any]) -> bool:
    return "tools" in asked or with_tools(asked["messages"])


def _refuse_what_only_others_can(asked: dict[str, Any]) -> None:
    beyond = [name for name in OF_THE_SERVER if name in asked]
    if with_tools(asked["messages"]):
        beyond.append("messages")
    if beyond:
        said = serializers.ErrorDetail(
            "The model server of this policy cannot do that.", code=errors.UNSUPPORTED
        )
        raise serializers.ValidationError({name: [said] for name in beyond})


async def _chunks(answers: list[Message], *, with_usage: bool) -> AsyncIterator[str]:
    first = answers[0]
    extra: dict[str, Any] = {"usage": None} if with_usage else {}
    for number, answer in enumerate(answers):
        await chat.begin(answer)
        opening = {"role": "assistant", "content": ""}
        yield data(_chunk(first, number, opening, completion_id=str(answer.public_id)) | extra)
        async with aclosing(chat.write(answer)) as pieces:
            async for piece in pieces:
                said: dict[str, Any] = {"content": piece} if piece else {}
                if answer.calls:
                    said["tool_calls"], answer.calls = list(answer.calls), ()
                yield data(_chunk(first, number, said) | extra) if said else ": waiting\n\n"
        if answer.state != Message.State.DONE:
            yield data(failure_in_stream(answer))
            break
        yield data(_chunk(first, number, {}, finish_reason=answer.finish_reason) | extra)
    else:
        if with_usage:
            yield data(_object(first, "chat.completion.chunk", []) | {"usage": usage_of(answers)})
    yield "data: [DONE]\n\n"


def _chunk(
    first: Message,
    number: int,
    delta: dict[str, Any],
    finish_reason: str | None = None,
    **extra: str,
) -> dict[str, Any]:
    choice = {
        "index": number,
        "delta": delta,
        "finish_reason": finish_reason,
        "logprobs": None,
        **extra,
    }
    return _object(first, "chat.completion.chunk", [choice])


def _choice(number: int, answer: Message) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if calls := whole_calls(answer.calls):
        said |= {"content": answer.text or None, "tool_calls": calls}
    return {
        "index": number,
        "message": said,
        "finish_reason": answer.finish_reason,
        "logprobs": None,
        "completion_id": str(answer.public_id),
    }


def _object(answer: Message, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    assert answer.policy is not None
    return {
        "id": str(answer.public_id),
        "object": kind,
        "created": int(answer.created_at.timestamp()),
        "model": answer.policy.name,
        "choices": choices,
    }
