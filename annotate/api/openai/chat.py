"""The policies behind OpenAI's addresses: `/v1/models` and `/v1/chat/completions`, so that any
client of that API will do. Every exchange is logged, and the id of an answer takes thumbs."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpResponseBase, StreamingHttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import (
    api_view,
    authentication_classes,
    parser_classes,
    permission_classes,
)
from rest_framework.exceptions import NotFound, Throttled
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.access import (
    MayChat,
    SmallJSONParser,
    TokenAuthentication,
    token_of,
)
from annotate.api.chat_request import (
    CHALLENGER,
    LIVE,
    OF_THE_SERVER,
    ChatRequest,
    ToolCall,
    with_tools,
)
from annotate.chat import inference
from annotate.chat import streaming as chat
from annotate.chat.conversations import Conversation, NoLivePolicy
from annotate.chat.messages import Message
from annotate.limits import seconds_to_wait
from annotate.people.models import Project
from annotate.people.tokens import ApiToken
from annotate.prompts.policies import Policy
from feedback_site.web import api_errors as errors

BYTES_A_TOKEN = 4  # where a model server does not count; about what English text has


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


class Usage(serializers.Serializer):
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()


class ChatAnswer(serializers.Serializer):
    id = serializers.UUIDField(help_text="Name it when you send a thumb on the first choice.")
    object = serializers.CharField()
    created = serializers.IntegerField()
    model = serializers.CharField(help_text="The policy that answered.")
    choices = ChatChoice(many=True)
    usage = Usage(help_text="As the model server counts; where it does not, four bytes a token.")


class ErrorObject(serializers.Serializer):
    message = serializers.CharField()
    type = serializers.CharField()
    param = serializers.CharField(allow_null=True)
    code = serializers.CharField(allow_null=True)


class Refusal(serializers.Serializer):
    error = ErrorObject()


REFUSALS = dict.fromkeys((400, 401, 403, 404, 413, 415, 429, 502), Refusal)


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
    named = [(name, policy) for name in (LIVE, CHALLENGER) if (policy := _acting(project, name))]
    every = [(policy.name, policy) for policy in project.policies.askable()]
    rows = [_model(name, policy) for name, policy in [*named, *every]]
    return Response({"object": "list", "data": rows})


@extend_schema(responses={200: ModelAnswer, **REFUSALS}, operation_id="retrieve_model")
@api_view(["GET"])
@authentication_classes([TokenAuthentication])
@permission_classes([MayChat])
def model(request: Request, name: str) -> Response:
    """One of them."""
    return Response(_model(name, _asked_for(token_of(request).project, name)))


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
    count_end_user(token_of(request), asked.get("user", ""))
    answers = _begin(token_of(request), asked)
    if asked["stream"]:
        with_usage = asked.get("stream_options", {}).get("include_usage", False)
        return StreamingHttpResponse(
            _chunks(answers, with_usage=with_usage),
            content_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
    async_to_sync(_write_all)(answers)
    for answer in answers:
        answer.refresh_from_db()
        _raise_for(answer)
    choices = [_choice(number, answer) for number, answer in enumerate(answers)]
    return Response(_object(answers[0], "chat.completion", choices) | {"usage": usage_of(answers)})


@extend_schema(exclude=True)
@api_view(["GET", "POST", "PUT", "PATCH", "DELETE"])
@authentication_classes([TokenAuthentication])
@permission_classes([MayChat])
def nothing_here(request: Request, rest: str) -> Response:
    """Says which addresses there are."""
    raise NotFound(
        f"There is no {request.method} /v1/{rest[:100]} here, "
        "only GET /v1/models and POST /v1/chat/completions."
    )


def count_end_user(token: ApiToken, end_user: str) -> None:
    """Raises Throttled where this end user asks too often."""
    if not end_user:
        return
    who = f"{token.project_id}/{end_user}"
    if wait := seconds_to_wait("API of an end user", end_user=who):
        raise Throttled(wait=math.ceil(wait))


def usage_of(answers: Iterable[Message]) -> dict[str, int]:
    """Tokens of the prompt, once, and of all the answers to it."""
    answers = list(answers)
    first = answers[0]
    asked = "".join(message["content"] for message in first.context)
    prompt = first.prompt_tokens if first.prompt_tokens is not None else _estimate(asked)
    said = sum(
        each.completion_tokens if each.completion_tokens is not None else _estimate(each.text)
        for each in answers
    )
    return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}


def _estimate(text: str) -> int:
    return math.ceil(len(text.encode()) / BYTES_A_TOKEN)


def _acting(project: Project, name: str) -> Policy | None:
    policies = project.policies.askable()
    return (policies.live() if name == LIVE else policies.challenger()).first()


def _asked_for(project: Project, name: str) -> Policy:
    by_role = _acting(project, name) if name in (LIVE, CHALLENGER) else None
    if policy := by_role or project.policies.askable().filter(name=name).first():
        return policy
    if name == LIVE:
        raise errors.NoSuchModel("No policy is live in this project.")
    raise errors.NoSuchModel(f"There is no policy “{name}” here. GET /v1/models lists them.")


def _model(name: str, policy: Policy) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(policy.created_at.timestamp()),
        "owned_by": policy.project.slug,
    }


def _begin(token: ApiToken, asked: dict[str, Any]) -> list[Message]:
    policy = _asked_for(token.project, asked["model"])
    if not policy.is_elsewhere:
        _refuse_what_only_others_can(asked)
    wishes = ("temperature", "top_p", "seed", "stop", *OF_THE_SERVER)
    sampling = {name: asked[name] for name in wishes if name in asked}
    wished = asked.get("max_completion_tokens") or asked.get("max_tokens") or policy.max_new_tokens
    try:
        return [
            Conversation.of_api_call(
                project=token.project,
                user=token.user,
                # The challenger has its share of what the live policy is asked.
                policy=None if asked["model"] == LIVE else policy,
                messages=asked["messages"],
                end_user=asked.get("user", ""),
                metadata=asked.get("metadata", {}),
                # A call of a tool is no answer that people could judge.
                improves_model=asked["store"] and not _is_about_tools(asked),
                max_tokens=min(wished, policy.max_new_tokens),
                **_of_choice(sampling, number),
            )
            for number in range(asked["n"])
        ]
    except NoLivePolicy:
        raise errors.NoSuchModel("No policy is live in this project.") from None


def _of_choice(sampling: dict[str, Any], number: int) -> dict[str, Any]:
    """The same seed for every choice would make them the same answer."""
    return sampling | ({"seed": sampling["seed"] + number} if "seed" in sampling else {})


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


async def _write_all(answers: list[Message]) -> None:
    await asyncio.gather(*map(chat.write_whole, answers))


def _raise_for(answer: Message) -> None:
    if answer.failure == inference.TOO_LONG:
        raise errors.TooLongContext(answer.failure)
    if answer.state != Message.State.DONE:
        raise errors.NoAnswer(answer.failure)


async def _chunks(answers: list[Message], *, with_usage: bool) -> AsyncIterator[str]:
    first = answers[0]
    extra: dict[str, Any] = {"usage": None} if with_usage else {}
    for number, answer in enumerate(answers):
        await chat.begin(answer)
        opening = {"role": "assistant", "content": ""}
        yield _event(_chunk(first, number, opening, completion_id=str(answer.public_id)) | extra)
        async with aclosing(chat.write(answer)) as pieces:
            async for piece in pieces:
                said: dict[str, Any] = {"content": piece} if piece else {}
                if answer.calls:
                    said["tool_calls"], answer.calls = list(answer.calls), ()
                yield _event(_chunk(first, number, said) | extra) if said else ": waiting\n\n"
        if answer.state != Message.State.DONE:
            code = "model_server_failed"
            if answer.failure == inference.TOO_LONG:
                code = "context_length_exceeded"
            yield _event(errors.body(502, answer.failure, code=code))
            break
        yield _event(_chunk(first, number, {}, finish_reason=answer.finish_reason) | extra)
    else:
        if with_usage:
            yield _event(_object(first, "chat.completion.chunk", []) | {"usage": usage_of(answers)})
    yield "data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


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


def whole_calls(pieces: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Calls of tools, put together from their pieces: each has the `index` of its call, the first
    its id and name, and all of them some of the arguments."""
    calls: dict[int, dict[str, Any]] = {}
    for place, piece in enumerate(pieces):
        function = piece.get("function") or {}
        index = piece.get("index")
        call = calls.setdefault(
            index if isinstance(index, int) else place,
            {"id": "", "type": "function", "function": {"name": "", "arguments": ""}},
        )
        call["id"] = piece.get("id") or call["id"]
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""
    return [calls[index] for index in sorted(calls)]


def _object(answer: Message, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    assert answer.policy is not None
    return {
        "id": str(answer.public_id),
        "object": kind,
        "created": int(answer.created_at.timestamp()),
        "model": answer.policy.name,
        "choices": choices,
    }
