"""Bodies in which a field that is not known is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from feedback_site.web.api_errors import UNSUPPORTED


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


def is_text(text: str) -> bool:
    """Whether it can be stored: no NUL, no half of a character pair."""
    return not any(letter == "\x00" or "\ud800" <= letter <= "\udfff" for letter in text)
