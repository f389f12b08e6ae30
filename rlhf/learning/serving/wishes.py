"""What a request for a completion, of a chat or of raw text, asks, checked; and errors in OpenAI's
form."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse

from rlhf.learning.contract.records import Message

from .engine import Sampling

MOST_ANSWERS, MOST_STOPS = 4, 16
MOST_TOKENS = 1024  # of an answer, where the request names no number
# What this server does not do, and the values that ask nothing of it.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "response_format": ({"type": "text"},),
}
UNSUPPORTED_OF_TEXT: dict[str, tuple[Any, ...]] = {
    "logprobs": (None,),
    "echo": (False,),
    "best_of": (1,),
    "suffix": ("",),
}
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "invalid_request_error",
    413: "invalid_request_error",
    503: "overloaded_error",
}


class Refused(Exception):
    """An error as OpenAI's server words it, with its HTTP status."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def body(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "server_error")
        named = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": named}

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        return JSONResponse(self.body, self.status, headers)


@dataclass(frozen=True)
class Wish:
    """A request for `count` answers of a model to messages, or continuations of a raw text; the
    first is drawn from `seed`."""

    model: str
    asked: list[Message] | str
    sampling: Sampling
    seed: int
    count: int
    streams: bool
    with_usage: bool

    @property
    def is_raw(self) -> bool:
        return isinstance(self.asked, str)


def read_wish(asked: Any, *, is_raw: bool = False) -> Wish:
    """Reads the body of a request for a chat completion, or for the completion of raw text; raises
    Refused. Names it does not know say nothing."""
    if not isinstance(asked, dict):
        raise Refused(400, "The body is no JSON object.")
    # A null says as much as nothing.
    asked = {name: value for name, value in asked.items() if value is not None}
    for name, plain in (UNSUPPORTED | UNSUPPORTED_OF_TEXT if is_raw else UNSUPPORTED).items():
        if asked.get(name, plain[0]) not in plain:
            raise Refused(
                400, f"This server knows no {name}.", param=name, code="unsupported_parameter"
            )
    stops = asked.get("stop", [])
    stops = [stops] if isinstance(stops, str) else stops
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise Refused(400, "stop is a text or a list of texts.", param="stop")
    if len(stops) > MOST_STOPS:
        raise Refused(400, f"stop has more than {MOST_STOPS} texts.", param="stop")
    longest = "max_completion_tokens" if "max_completion_tokens" in asked else "max_tokens"
    sampling = Sampling(
        max_tokens=_number(asked, longest, MOST_TOKENS, 1, 2**31, whole=True),
        temperature=_number(asked, "temperature", 1.0, 0, 2),
        top_p=_number(asked, "top_p", 1.0, 0, 1),
        stops=stops,
    )
    options = asked.get("stream_options", {})
    return Wish(
        _text(asked, "model"),
        _prompt(asked.get("prompt")) if is_raw else _messages(asked.get("messages")),
        sampling,
        # What torch's generators take.
        _number(asked, "seed", secrets.randbits(62), -(2**63), 2**63 - 1, whole=True) % 2**63,
        _number(asked, "n", 1, 1, MOST_ANSWERS, whole=True),
        asked.get("stream") is True,
        isinstance(options, dict) and options.get("include_usage") is True,
    )


def _number(
    asked: dict[str, Any], name: str, default: Any, least: float, most: float, whole: bool = False
) -> Any:
    value = asked.get(name, default)
    kinds = (int,) if whole else (int, float)
    if type(value) not in kinds or not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        raise Refused(400, f"{name} is {kind} from {least} to {most}.", param=name)
    return value


def _text(asked: dict[str, Any], name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(400, f"{name} is a text and has to be there.", param=name)
    return value


def _prompt(asked: Any) -> str:
    if isinstance(asked, list) and len(asked) == 1:
        [asked] = asked
    if not isinstance(asked, str):
        raise Refused(400, "prompt is one text.", param="prompt")
    return asked


def _messages(asked: Any) -> list[Message]:
    if not isinstance(asked, list) or not asked:
        raise Refused(400, "messages is a list of at least one message.", param="messages")
    return [_message(each, f"messages[{number}]") for number, each in enumerate(asked)]


def _message(asked: Any, param: str) -> Message:
    role = asked.get("role") if isinstance(asked, dict) else None
    if not isinstance(role, str):
        raise Refused(400, f"{param} has no role.", param=param)
    content = asked.get("content")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        content = "".join(texts) if len(texts) == len(parts) else None
    if not isinstance(content, str):
        raise Refused(400, f"{param}: the content is text alone.", param=param)
    return {"role": role, "content": content}
