"""What may be asked of `/v1/chat/completions`: every field that OpenAI documents is honoured, has
no effect here, or is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError as Invalid
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from annotate.prompts.models import LONGEST_PROMPT, validate_messages
from feedback_site.web.api_errors import UNSUPPORTED

LIVE, CHALLENGER = "live", "challenger"
MOST_CHOICES = 4
MOST_STOPS = 4
MOST_METADATA = 16
LONGEST_STOP = 100  # characters
LONGEST_TAG, LONGEST_VALUE = 64, 512  # characters of a name and a value of metadata

# Fields and values that change nothing about an answer of ours: what clients send by habit.
NO_EFFECT: Mapping[str, Any] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "prompt_cache_key": any,
    "prompt_cache_retention": any,
    "safety_identifier": any,
    "service_tier": ("auto", "default"),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
}
# What only a model server can do; the embedded one cannot.
OF_THE_SERVER = ("frequency_penalty", "presence_penalty", "response_format")


class StrictSerializer(serializers.Serializer):
    """A field we do not know would be a wish we do not fulfil: say so."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := set(data) - set(self.fields)):
            said = serializers.ErrorDetail("This field is not supported.", code=UNSUPPORTED)
            raise serializers.ValidationError(
                {str(name)[:100]: [said] for name in sorted(unknown, key=str)[:10]}
            )
        return super().to_internal_value(data)


def without_no_ops(sent: Any, no_effect: Mapping[str, Any]) -> Any:
    """The object without what is null, and without fields that have no effect here."""
    if not isinstance(sent, Mapping):
        return sent
    return {
        name: value
        for name, value in sent.items()
        if value is not None and not _has_no_effect(value, no_effect.get(name, ()))
    }


def _has_no_effect(value: Any, values: Any) -> bool:
    return values is any or any(type(value) is type(each) and value == each for each in values)


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
        return {"role": role, "content": message["content"]}


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
    messages = serializers.ListField(child=ChatMessage(), min_length=1, max_length=200)
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
    n = serializers.IntegerField(default=1, min_value=1, max_value=MOST_CHOICES)
    user = serializers.CharField(
        required=False,
        max_length=200,
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
        return super().to_internal_value(without_no_ops(data, NO_EFFECT))

    def validate_messages(self, messages: list[dict[str, str]]) -> list[dict[str, str]]:
        return checked_prompt(messages)

    def validate_metadata(self, metadata: dict[str, str]) -> dict[str, str]:
        return checked_metadata(metadata)

    def validate(self, sent: dict[str, Any]) -> dict[str, Any]:
        if sent.get("response_format", {}).get("type") == "text":
            del sent["response_format"]
        for name in ("frequency_penalty", "presence_penalty"):
            if sent.get(name) == 0:
                del sent[name]
        return sent


def checked_prompt(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The messages, or ValidationError where they are no prompt."""
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


def checked_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """The metadata, or ValidationError; limits as OpenAI has them."""
    if len(metadata) > MOST_METADATA:
        raise serializers.ValidationError(f"There may be {MOST_METADATA} names.")
    for name in metadata:
        if not name or len(name) > LONGEST_TAG or "\x00" in name:
            raise serializers.ValidationError(f"A name has 1 to {LONGEST_TAG} characters.")
    return metadata
