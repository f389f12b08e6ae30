"""What may be asked of `/v1/chat/completions`: every field that OpenAI documents is honoured, has
no effect here, or is refused by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.core.exceptions import ValidationError as Invalid
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from annotate.api.strict import StrictSerializer, is_text, without_no_ops
from annotate.prompts.models import LONGEST_PROMPT, validate_messages
from feedback_site.web.api_errors import UNSUPPORTED

LIVE, CHALLENGER = "live", "challenger"
MOST_CHOICES = 4
MOST_STOPS = 4
MOST_METADATA = 16
MOST_TOOLS = 128
LONGEST_STOP, LONGEST_USER = 100, 200  # characters
LONGEST_TAG, LONGEST_VALUE = 64, 512  # characters of a name and a value of metadata

# Fields and values that change nothing about an answer of ours: what clients send by habit.
NO_EFFECT: Mapping[str, Any] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "prompt_cache_key": any,
    "prompt_cache_retention": any,
    "safety_identifier": any,
    "service_tier": ("auto", "default"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
}
WITHOUT_TOOLS: Mapping[str, Any] = {
    "parallel_tool_calls": (True, False),
    "tool_choice": ("none", "auto"),
}
# What only a model server can do; the embedded one cannot.
OF_TOOLS = ("tools", "tool_choice", "parallel_tool_calls")
PENALTIES = ("frequency_penalty", "presence_penalty")
OF_THE_SERVER = (*PENALTIES, "response_format", *OF_TOOLS)


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "maxLength": LONGEST_PROMPT},
            {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["type", "text"],
                    "properties": {
                        "type": {"type": "string", "enum": ["text"]},
                        "text": {"type": "string"},
                    },
                },
            },
        ]
    }
)
class Content(serializers.CharField):
    """A text, or a list of text parts, which are put below each other."""

    def to_internal_value(self, data: Any) -> str:
        if isinstance(data, list):
            data = "\n".join(map(self._text_of, data))
        return super().to_internal_value(data)

    def _text_of(self, part: Any) -> str:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in ("text", "input_text") and isinstance(part.get("text"), str):
            return part["text"]
        raise serializers.ValidationError(
            f"Only parts of the type “text” are read here, not “{str(kind)[:30]}”.",
            code=UNSUPPORTED,
        )


class ChatMessage(StrictSerializer):
    role = serializers.ChoiceField(
        ["system", "developer", "user", "assistant"], help_text="“developer” is read as “system”."
    )
    content = Content(max_length=LONGEST_PROMPT, trim_whitespace=False)

    def to_internal_value(self, data: Any) -> Any:
        no_effect: Mapping[str, Any] = {"annotations": ([],), "tool_calls": ([],)}
        message = super().to_internal_value(without_no_ops(data, no_effect))
        role = "system" if message["role"] == "developer" else message["role"]
        return {**message, "role": role}


class CalledFunction(StrictSerializer):
    name = serializers.CharField(max_length=LONGEST_TAG)
    arguments = serializers.CharField(
        allow_blank=True, trim_whitespace=False, help_text="JSON, as the model wrote it."
    )


class ToolCall(StrictSerializer):
    id = serializers.CharField(max_length=200)
    type = serializers.ChoiceField(["function"])
    function = CalledFunction()


class SaidMessage(ChatMessage):
    """With what models say to tools, and tools to models."""

    role = serializers.ChoiceField(["system", "developer", "user", "assistant", "tool"])
    content = Content(
        max_length=LONGEST_PROMPT, trim_whitespace=False, required=False, allow_blank=True
    )
    tool_calls = ToolCall(many=True, required=False, help_text="Of the assistant.")
    tool_call_id = serializers.CharField(required=False, max_length=200, help_text="Of a tool.")

    def validate(self, sent: dict[str, Any]) -> dict[str, Any]:
        calls = "tool_calls" in sent
        if calls and sent["role"] != "assistant":
            raise serializers.ValidationError({"tool_calls": ["Only the assistant calls tools."]})
        if ("tool_call_id" in sent) != (sent["role"] == "tool"):
            raise serializers.ValidationError({"tool_call_id": ["It belongs to a tool, always."]})
        if not calls and sent["role"] != "tool" and not sent.get("content", "").strip():
            raise serializers.ValidationError({"content": ["This message has no text."]})
        return {**sent, "content": sent.get("content", "")}


class Function(StrictSerializer):
    name = serializers.RegexField(r"^[A-Za-z0-9_-]{1,64}$")
    description = serializers.CharField(required=False, allow_blank=True)
    parameters = serializers.DictField(required=False, help_text="A JSON schema.")
    strict = serializers.BooleanField(required=False)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(without_no_ops(data, {}))


class Tool(StrictSerializer):
    type = serializers.ChoiceField(["function"])
    function = Function()


class NamedFunction(StrictSerializer):
    name = serializers.CharField(max_length=LONGEST_TAG)


class NamedTool(StrictSerializer):
    type = serializers.ChoiceField(["function"])
    function = NamedFunction()


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "enum": ["none", "auto", "required"]},
            {
                "type": "object",
                "required": ["type", "function"],
                "properties": {
                    "type": {"type": "string", "enum": ["function"]},
                    "function": {"type": "object", "properties": {"name": {"type": "string"}}},
                },
            },
        ]
    }
)
class ToolChoice(serializers.Field):
    """A word, or the tool that must be called."""

    def to_internal_value(self, data: Any) -> Any:
        if data in ("none", "auto", "required"):
            return data
        named = NamedTool(data=data)
        named.is_valid(raise_exception=True)
        return named.validated_data

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "maxLength": LONGEST_STOP},
            {"type": "array", "maxItems": MOST_STOPS, "items": {"type": "string"}},
        ]
    }
)
class Stops(serializers.ListField):
    """One text, or up to four, at which the answer ends. They are not part of it."""

    child = serializers.CharField(max_length=LONGEST_STOP, trim_whitespace=False)

    def to_internal_value(self, data: Any) -> list[str]:
        return super().to_internal_value([data] if isinstance(data, str) else data)


class StreamOptions(StrictSerializer):
    include_usage = serializers.BooleanField(default=False)
    include_obfuscation = serializers.BooleanField(default=False, help_text="Has no effect.")


class ResponseFormat(serializers.Serializer):
    type = serializers.ChoiceField(["text", "json_object", "json_schema"])
    json_schema = serializers.DictField(required=False)


class ChatRequest(StrictSerializer):
    model = serializers.CharField(
        default=LIVE,
        max_length=100,
        help_text="“live”, “challenger”, or a policy's name: those of /v1/models.",
    )
    messages = serializers.ListField(child=SaidMessage(), min_length=1, max_length=200)
    stream = serializers.BooleanField(default=False)
    stream_options = StreamOptions(required=False)
    max_tokens = serializers.IntegerField(required=False, min_value=1, max_value=4096)
    max_completion_tokens = serializers.IntegerField(required=False, min_value=1, max_value=4096)
    temperature = serializers.FloatField(required=False, min_value=0, max_value=2)
    top_p = serializers.FloatField(required=False, min_value=0.01, max_value=1)
    seed = serializers.IntegerField(required=False, min_value=-(2**63), max_value=2**63 - 1)
    stop = Stops(required=False, max_length=MOST_STOPS)
    frequency_penalty = serializers.FloatField(required=False, min_value=-2, max_value=2)
    presence_penalty = serializers.FloatField(required=False, min_value=-2, max_value=2)
    response_format = ResponseFormat(required=False)
    tools = serializers.ListField(child=Tool(), required=False, max_length=MOST_TOOLS)
    tool_choice = ToolChoice(required=False)
    parallel_tool_calls = serializers.BooleanField(required=False)
    n = serializers.IntegerField(default=1, min_value=1, max_value=MOST_CHOICES)
    user = serializers.CharField(
        required=False,
        max_length=LONGEST_USER,
        help_text="Whom you ask for, in your words: only a keyed digest of it is stored. "
        "Limits, and how many thumbs of a day count, are by end user.",
    )
    metadata = serializers.DictField(
        child=serializers.CharField(max_length=LONGEST_VALUE, allow_blank=True),
        required=False,
        help_text="Up to 16 names and texts that stay with the exchange.",
    )
    store = serializers.BooleanField(
        default=True, help_text="False: the exchange never leaves the chat tables."
    )

    def to_internal_value(self, data: Any) -> Any:
        has_tools = isinstance(data, Mapping) and data.get("tools")
        no_effect = NO_EFFECT if has_tools else {**NO_EFFECT, **WITHOUT_TOOLS}
        return super().to_internal_value(without_no_ops(data, no_effect))

    def validate_messages(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return checked_talk(messages) if with_tools(messages) else checked_prompt(messages)

    def validate_metadata(self, metadata: dict[str, str]) -> dict[str, str]:
        return checked_metadata(metadata)

    def validate(self, sent: dict[str, Any]) -> dict[str, Any]:
        for name in ("tools", "response_format"):
            if not all(map(is_text, _texts(sent.get(name)))):
                why = "A text in it has a NUL or half of a character pair."
                raise serializers.ValidationError({name: [why]})
        if sent.get("response_format", {}).get("type") == "text":
            del sent["response_format"]
        for name in PENALTIES:
            if sent.get(name) == 0:
                del sent[name]
        return sent


def _texts(value: Any) -> Iterator[str]:
    """All that is text in it, names too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield name
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def with_tools(messages: list[dict[str, Any]]) -> bool:
    """Whether models and tools have spoken with each other in them."""
    return any(set(message) != {"role", "content"} for message in messages)


def checked_talk(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages, or ValidationError where a tool answers what nobody has asked it."""
    asked: set[str] = set()
    for message in messages:
        if message["role"] == "tool" and message["tool_call_id"] not in asked:
            raise serializers.ValidationError("A tool answers a call of the assistant before it.")
        asked |= {call["id"] for call in message.get("tool_calls", ())}
    if messages[-1]["role"] not in ("user", "tool"):
        raise serializers.ValidationError("The last message comes from the user or a tool.")
    checked_size(messages)
    return [dict(message) for message in messages]


def checked_size(messages: list[dict[str, Any]]) -> None:
    """Raises ValidationError for more than fits."""
    size = sum(len(message["content"]) for message in messages)
    if size > LONGEST_PROMPT:
        raise serializers.ValidationError(
            f"The messages have {size:,} characters, and at most {LONGEST_PROMPT:,} fit."
        )


def checked_prompt(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The messages, or ValidationError where they are no prompt."""
    checked_size(messages)
    plain = [dict(message) for message in messages]
    try:
        validate_messages(plain)
    except Invalid as error:
        raise serializers.ValidationError(error.messages) from error
    return plain


def checked_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """The metadata, or ValidationError; limits as OpenAI has them."""
    if len(metadata) > MOST_METADATA:
        raise serializers.ValidationError(f"There may be {MOST_METADATA} names.")
    for name in metadata:
        if not name or len(name) > LONGEST_TAG or "\x00" in name:
            raise serializers.ValidationError(f"A name has 1 to {LONGEST_TAG} characters.")
    return metadata
