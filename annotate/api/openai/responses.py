"""`/v1/responses`: OpenAI's newer shape of a chat. A request is read as one for a chat completion,
and goes the same way; only how it is asked and told differs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
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
from annotate.api.openai.asking import failure_in_stream, usage_of, whole_calls, write_all
from annotate.api.openai.chat import begin_chat
from annotate.api.openai.chat_request import (
    LIVE,
    LONGEST_USER,
    LONGEST_VALUE,
    MOST_TOOLS,
    ChatRequest,
    Content,
)
from annotate.api.openai.shapes import COUNTED, REFUSALS, event_stream
from annotate.api.strict import StrictSerializer, without_no_ops
from annotate.chat import streaming as chat
from annotate.chat.conversations import Conversation
from annotate.chat.messages import Message
from annotate.people.tokens import ApiToken
from annotate.prompts.models import LONGEST_PROMPT
from feedback_site.web import api_errors as errors

NO_EFFECT: Mapping[str, Any] = {
    "background": (False,),
    "include": any,  # what it names, answers of ours do not have
    "prompt_cache_key": any,
    "prompt_cache_retention": any,
    "reasoning": ({},),
    "safety_identifier": any,
    "service_tier": ("auto", "default"),
    "stream_options": any,
    "text": ({},),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}
IN_CHAT = {  # fields of a chat completion, as they are called here
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text",
}
ITEM_TYPES = ("message", "function_call", "function_call_output")


class Item(StrictSerializer):
    """A message, a call of a tool, or what a tool answered."""

    type = serializers.ChoiceField(ITEM_TYPES, default="message")
    role = serializers.ChoiceField(["system", "developer", "user", "assistant"], required=False)
    content = Content(max_length=LONGEST_PROMPT, trim_whitespace=False, required=False)
    call_id = serializers.CharField(max_length=200, required=False)
    name = serializers.CharField(max_length=64, required=False)
    arguments = serializers.CharField(required=False, allow_blank=True, trim_whitespace=False)
    output = serializers.CharField(required=False, allow_blank=True, trim_whitespace=False)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(without_no_ops(data, {"id": any, "status": any}))

    def validate(self, sent: dict[str, Any]) -> dict[str, Any]:
        needed = {
            "message": ("role", "content"),
            "function_call": ("call_id", "name", "arguments"),
            "function_call_output": ("call_id", "output"),
        }[sent["type"]]
        if missing := [name for name in needed if name not in sent]:
            why = f"An item of the type “{sent['type']}” needs it."
            raise serializers.ValidationError({name: [why] for name in missing})
        return sent


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "minLength": 1, "maxLength": LONGEST_PROMPT},
            {"type": "array", "minItems": 1, "maxItems": 200, "items": {"type": "object"}},
        ]
    }
)
class Items(serializers.ListField):
    """A text, which is a message of the user; or a list of items."""

    child = Item()

    def to_internal_value(self, data: Any) -> Any:
        items = [{"role": "user", "content": data}] if isinstance(data, str) else data
        return super().to_internal_value(items)


class FunctionTool(StrictSerializer):
    type = serializers.ChoiceField(["function"])
    name = serializers.CharField(max_length=64)
    description = serializers.CharField(required=False, allow_blank=True)
    parameters = serializers.DictField(required=False, help_text="A JSON schema.")
    strict = serializers.BooleanField(required=False)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(without_no_ops(data, {}))


class Format(serializers.Serializer):
    type = serializers.ChoiceField(["text", "json_object", "json_schema"])
    name = serializers.CharField(required=False, max_length=64)
    schema = serializers.DictField(required=False)
    strict = serializers.BooleanField(required=False, allow_null=True)
    description = serializers.CharField(required=False, allow_blank=True)


class TextOptions(StrictSerializer):
    format = Format(required=False)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(without_no_ops(data, {"verbosity": ("medium",)}))


class ResponseRequest(StrictSerializer):
    model = serializers.CharField(
        default=LIVE,
        max_length=100,
        help_text="“live”, “challenger”, or a policy's name: those of /v1/models.",
    )
    input = Items(min_length=1, max_length=200)
    instructions = serializers.CharField(
        required=False, max_length=LONGEST_PROMPT, help_text="A system message before the input."
    )
    previous_response_id = serializers.UUIDField(
        required=False, help_text="An answer of before: what led to it, and it, come first."
    )
    stream = serializers.BooleanField(default=False)
    max_output_tokens = serializers.IntegerField(required=False, min_value=1, max_value=4096)
    temperature = serializers.FloatField(required=False, min_value=0, max_value=2)
    top_p = serializers.FloatField(required=False, min_value=0.01, max_value=1)
    text = TextOptions(required=False)
    tools = serializers.ListField(child=FunctionTool(), required=False, max_length=MOST_TOOLS)
    tool_choice = serializers.JSONField(required=False)
    parallel_tool_calls = serializers.BooleanField(required=False)
    user = serializers.CharField(required=False, max_length=LONGEST_USER)
    metadata = serializers.DictField(
        child=serializers.CharField(max_length=LONGEST_VALUE, allow_blank=True), required=False
    )
    store = serializers.BooleanField(
        default=True, help_text="False: the exchange never leaves the chat tables."
    )

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(without_no_ops(data, NO_EFFECT))


class ResponseUsage(serializers.Serializer):
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    input_tokens_details = serializers.DictField()
    output_tokens_details = serializers.DictField()


class ResponseAnswer(serializers.Serializer):
    id = serializers.UUIDField(help_text="Name it when you send a thumb on the answer.")
    object = serializers.CharField()
    created_at = serializers.IntegerField()
    status = serializers.CharField()
    model = serializers.CharField(help_text="The policy that answered.")
    output = serializers.ListField(child=serializers.DictField())
    usage = ResponseUsage(help_text=COUNTED, allow_null=True)
    previous_response_id = serializers.UUIDField(allow_null=True)
    metadata = serializers.DictField(child=serializers.CharField())


@extend_schema(
    request=ResponseRequest,
    responses={200: ResponseAnswer, **REFUSALS},
    operation_id="create_response",
)
@api_view(["POST"])
@authentication_classes([TokenAuthentication])
@permission_classes([MayChat])
@parser_classes([SmallJSONParser])
def responses(request: Request) -> HttpResponseBase:
    """Asks a policy, and logs the exchange."""
    checked = ResponseRequest(data=request.data)
    checked.is_valid(raise_exception=True)
    asked, token = checked.validated_data, token_of(request)
    with _in_these_words():
        [answer] = begin_chat(token, _as_chat(token, asked))
    told = Told(answer, asked)
    if asked["stream"]:
        return event_stream(told.events())
    write_all([answer])
    return Response(told.whole())


# What is asked


def _as_chat(token: ApiToken, asked: dict[str, Any]) -> dict[str, Any]:
    """The same request in the fields of a chat completion, checked as one."""
    before = _said_before(token, asked)
    same = ("model", "temperature", "top_p", "user", "metadata", "store", "parallel_tool_calls")
    sent = {name: asked[name] for name in same if name in asked}
    sent["messages"] = [*before, *_messages(asked["input"])]
    if "max_output_tokens" in asked:
        sent["max_completion_tokens"] = asked["max_output_tokens"]
    if "tools" in asked:
        sent["tools"] = [_wrapped(tool) for tool in asked["tools"]]
    if "tool_choice" in asked:
        choice = asked["tool_choice"]
        is_named = isinstance(choice, dict) and choice.get("type") == "function"
        sent["tool_choice"] = _wrapped(choice) if is_named else choice
    if form := asked.get("text", {}).get("format"):
        schema = {name: value for name, value in form.items() if name != "type"}
        is_schema = form["type"] == "json_schema"
        sent["response_format"] = {
            "type": form["type"],
            **({"json_schema": schema} if is_schema else {}),
        }
    checked = ChatRequest(data=sent)
    checked.is_valid(raise_exception=True)
    return checked.validated_data


@contextmanager
def _in_these_words() -> Iterator[None]:
    """What is wrong with the chat completion, named as the field is called here."""
    try:
        yield
    except serializers.ValidationError as error:
        assert isinstance(error.detail, dict)
        found = {IN_CHAT.get(name, name): said for name, said in error.detail.items()}
        raise serializers.ValidationError(found) from error


def _said_before(token: ApiToken, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages that come before the input. New instructions take the place of earlier ones."""
    said: list[dict[str, Any]] = []
    if previous := asked.get("previous_response_id"):
        own = Conversation.objects.of_end_user(token.project, asked.get("user", ""))
        # What was not to be stored would be with the exchange that quotes it.
        own = own.filter(guest=token.user, improves_model=True)
        earlier = Message.objects.answers_in(own).filter(public_id=previous).first()
        if earlier is None or not earlier.is_whole:
            raise errors.NoSuchResponse(
                "There is no stored answer of this id and `user` to go on from: send the"
                " conversation as input."
            )
        said = [*earlier.asked, {"role": "assistant", "content": earlier.text}]
    if "instructions" in asked:
        others = said[1:] if said and said[0]["role"] == "system" else said
        said = [{"role": "system", "content": asked["instructions"]}, *others]
    return said


def _messages(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Calls of tools that stand beside each other are of one message."""
    said: list[dict[str, Any]] = []
    for item in items:
        if item["type"] == "message":
            said.append({"role": item["role"], "content": item["content"]})
        elif item["type"] == "function_call_output":
            answered = {"role": "tool", "tool_call_id": item["call_id"]}
            said.append({**answered, "content": item["output"]})
        else:
            function = {"name": item["name"], "arguments": item["arguments"]}
            call = {"id": item["call_id"], "type": "function", "function": function}
            if said and "tool_calls" in said[-1]:
                said[-1]["tool_calls"].append(call)
            else:
                said.append({"role": "assistant", "content": "", "tool_calls": [call]})
    return said


def _wrapped(tool: dict[str, Any]) -> dict[str, Any]:
    inner = {name: value for name, value in tool.items() if name != "type"}
    return {"type": "function", "function": inner}


# What is told


class Told:
    """An answer as a response: whole, or as the events of a stream."""

    def __init__(self, answer: Message, asked: dict[str, Any]) -> None:
        self.answer, self.asked, self.number = answer, asked, 0
        self.item = f"msg_{answer.public_id.hex}"

    def whole(self) -> dict[str, Any]:
        usage = usage_of([self.answer])
        counted = {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        }
        is_cut = self.answer.finish_reason == "length"
        return {
            **self._object("incomplete" if is_cut else "completed"),
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": self._output(),
            "usage": counted,
        }

    def _output(self) -> list[dict[str, Any]]:
        calls = [self._call(call) for call in whole_calls(self.answer.calls)]
        return [*([self._message()] if self.answer.text or not calls else []), *calls]

    def _message(self, status: str = "completed", text: str | None = None) -> dict[str, Any]:
        said = self.answer.text if text is None else text
        return {
            "type": "message",
            "id": self.item,
            "status": status,
            "role": "assistant",
            "content": [self._part(said)] if status == "completed" else [],
        }

    def _part(self, text: str) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "function_call",
            "id": f"fc_{call['id']}",
            "call_id": call["id"],
            "status": "completed",
            **call["function"],
        }

    def _object(self, status: str) -> dict[str, Any]:
        answer, asked = self.answer, self.asked
        assert answer.policy is not None
        previous = asked.get("previous_response_id")
        return {
            "id": str(answer.public_id),
            "object": "response",
            "created_at": int(answer.created_at.timestamp()),
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": asked.get("instructions"),
            "max_output_tokens": asked.get("max_output_tokens"),
            "model": answer.policy.name,
            "output": [],
            "parallel_tool_calls": asked.get("parallel_tool_calls", True),
            "previous_response_id": str(previous) if previous else None,
            "store": asked["store"],
            "temperature": answer.sampling["temperature"],
            "text": asked.get("text") or {"format": {"type": "text"}},
            "tool_choice": asked.get("tool_choice", "auto"),
            "tools": asked.get("tools", []),
            "top_p": answer.sampling.get("top_p", 1.0),
            "truncation": "disabled",
            "usage": None,
            "metadata": asked.get("metadata", {}),
        }

    async def events(self) -> AsyncIterator[str]:
        """As OpenAI names and orders them ("Streaming events" of its API reference)."""
        answer = self.answer
        await chat.begin(answer)
        yield self._event("created", response=self._object("in_progress"))
        yield self._event("in_progress", response=self._object("in_progress"))
        at, is_open = {"item_id": self.item, "output_index": 0, "content_index": 0}, False
        async with aclosing(chat.write(answer)) as pieces:
            async for piece in pieces:
                if not piece:
                    yield ": waiting\n\n"
                    continue
                if not is_open:
                    is_open, begun = True, self._message("in_progress")
                    yield self._event("output_item.added", output_index=0, item=begun)
                    yield self._event("content_part.added", **at, part=self._part(""))
                yield self._event("output_text.delta", **at, delta=piece, logprobs=[])
        if answer.state != Message.State.DONE:
            error = failure_in_stream(answer)["error"]
            told = {"code": error["code"], "message": error["message"]}
            yield self._event("failed", response=self._object("failed") | {"error": told})
            return
        whole = self.whole()
        for number, item in enumerate(whole["output"]):
            if item["type"] == "function_call":
                for event in self._call_events(number, item):
                    yield event
                continue
            if not is_open:
                begun = self._message("in_progress")
                yield self._event("output_item.added", output_index=0, item=begun)
                yield self._event("content_part.added", **at, part=self._part(""))
            yield self._event("output_text.done", **at, text=answer.text, logprobs=[])
            yield self._event("content_part.done", **at, part=self._part(answer.text))
            yield self._event("output_item.done", output_index=number, item=item)
        yield self._event(whole["status"], response=whole)

    def _call_events(self, number: int, item: dict[str, Any]) -> list[str]:
        begun = {**item, "arguments": "", "status": "in_progress"}
        at = {"item_id": item["id"], "output_index": number}
        said = item["arguments"]
        return [
            self._event("output_item.added", output_index=number, item=begun),
            self._event("function_call_arguments.delta", **at, delta=said),
            self._event("function_call_arguments.done", **at, name=item["name"], arguments=said),
            self._event("output_item.done", output_index=number, item=item),
        ]

    def _event(self, kind: str, **fields: Any) -> str:
        kind = f"response.{kind}"
        told = {"type": kind, "sequence_number": self.number, **fields}
        self.number += 1
        return f"event: {kind}\ndata: {json.dumps(told)}\n\n"
