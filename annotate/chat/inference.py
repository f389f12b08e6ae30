"""Client of an OpenAI-compatible server of completions, of chats and of raw text: the embedded one,
vLLM, or another.

It calls a policy's connection, or the configured addresses, and says what went wrong in a sentence
for the person who waits; what the server said of it goes to the log and `detail`."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from django.conf import settings

from annotate.chat.chat_templates import UNKNOWN, ChatTemplate, read_chat_template
from annotate.chat.messages import Message
from annotate.chat.sse import DONE, TextPieces, clean, events
from annotate.chat.stops import UntilStop
from annotate.connections.addresses import NotPublic
from annotate.connections.catalogue import NOT_PUBLIC, UNREADABLE
from annotate.connections.client import Server, asking, asking_async, blocks_of, body_of
from annotate.connections.models import CallPlace
from annotate.connections.sealing import Unreadable
from annotate.costs.recording import recording, recording_async
from annotate.costs.uses import Use
from annotate.prompts.models import Messages
from annotate.prompts.policies import Policy
from annotate.prompts.windows import size_of, window_of
from feedback_site.pool import in_database, release_connections

logger = logging.getLogger(__name__)

LONGEST_ANSWER = 100_000  # characters, should a server not honour max_tokens
LEAST_ROOM = 16  # tokens for an answer
# Names of transformers' GenerationConfig, each with the value that changes no probability.
PLAIN = {
    "top_k": 0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "num_beams": 1,
}
CHAT, RAW = "chat/completions", "completions"
NOT_THERE = (404, 405, 501)
MOST_TOKENS = 2**31  # what the database holds
OPENAI, ANTHROPIC = "https://api.openai.com/", "https://api.anthropic.com/"
PLACE_SECONDS, LOOK_AGAIN = 30.0, 0.25  # for a place among a connection's requests at once
LAST_WORD_SECONDS = 0.5  # for the count of tokens, which some servers send after the answer

FAILED = "The model server failed on this. Try again, or ask differently."
BUSY = "The model server is busy. Try again in a minute."
NOT_ANSWERING = "The model server is not answering. Try again in a minute."
TOO_SLOW = "The model server took too long. Try again in a minute."
BROKE_OFF = Message.BROKE_OFF
NO_RAW = "The model server of this policy completes no raw text. Ask /v1/chat/completions."
TOO_LONG = (
    "This is more than the model can read at once. Start a new chat, or ask something shorter."
)


class InferenceError(Exception):
    """The sentence is for whoever waits for the answer."""

    def __init__(self, sentence: str, detail: str = "") -> None:
        super().__init__(sentence)
        self.detail = detail


@dataclass(frozen=True)
class Delta:
    """A piece of an answer. The last one says why it ended, and how many tokens there were, where
    the server counts them: `prompt_tokens`, `completion_tokens`. Before the first there may be
    some that say the request's `place` in the server's line. `calls`: pieces of calls of tools, as
    OpenAI has them."""

    text: str = ""
    finish_reason: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    place: int = 0
    calls: list[dict[str, Any]] = field(default_factory=list)


async def stream(
    policy: Policy, messages: Messages, *, use: str = Use.OTHER, **sampling: Any
) -> AsyncGenerator[Delta, None]:
    """The answer as it comes. It ends with a finish reason, or raises InferenceError. `use`: what
    the call is written down for in the ledger. With `is_raw` among `sampling` it goes on with the
    one message as raw text, outside the chat template."""
    async with (
        recording_async(policy, use) as call,
        aclosing(_stream(policy, messages, **sampling)) as coming,
    ):
        async for delta in coming:
            call.hear(delta.text)
            if delta.finish_reason:
                call.end(delta.usage)
            yield delta


async def _stream(
    policy: Policy, messages: Messages, **sampling: Any
) -> AsyncGenerator[Delta, None]:
    pieces, length, has_begun = TextPieces(), 0, False
    until = UntilStop(sampling.get("stop", ()))
    with _errors_in_words(policy):
        async with (
            _place_async(policy),
            _answering_async(policy, messages, **sampling) as response,
        ):
            coming = events(blocks_of(response))
            async for event in coming:
                if event == DONE:
                    break
                if (delta := _delta(policy, event)) is None:
                    continue
                has_begun = True
                if delta.place:
                    yield delta
                    continue
                text = until.add(pieces.add(delta.text))
                if delta.finish_reason:
                    text += until.add(pieces.rest()) + until.rest()
                    usage = delta.usage or await _usage(coming)
                    yield Delta(text, delta.finish_reason, usage, calls=delta.calls)
                    return
                length += len(text)
                yield Delta(text, "stop" if until.is_over else "", calls=delta.calls)
                if until.is_over:
                    return
                if length > LONGEST_ANSWER:
                    yield Delta(pieces.rest(), "length")
                    return
            else:
                raise InferenceError(BROKE_OFF, "the stream ended without a finish reason")
    if not has_begun:
        raise InferenceError(BROKE_OFF, "the stream was done before it began")
    yield Delta(until.add(pieces.rest()) + until.rest(), "stop")


async def _usage(coming: AsyncIterator[Any]) -> dict[str, int]:
    """What a server says of tokens after the last piece, as OpenAI's does; or nothing."""
    try:
        event = await asyncio.wait_for(anext(coming), LAST_WORD_SECONDS)
    except (TimeoutError, StopAsyncIteration, ValueError, httpx.HTTPError):
        return {}
    return {} if event == DONE else _tokens(event)


def _tokens(said: dict[str, Any]) -> dict[str, int]:
    counted = said.get("usage")
    counted = counted if isinstance(counted, dict) else {}
    names = ("prompt_tokens", "completion_tokens")
    return {
        name: counted[name]
        for name in names
        if type(counted.get(name)) is int and 0 <= counted[name] < MOST_TOKENS
    }


def complete(
    policy: Policy,
    messages: Messages,
    *,
    use: str = Use.OTHER,
    run: int | None = None,
    **sampling: Any,
) -> Delta:
    """The whole answer at once. Meanwhile the caller's thread holds no database connection. `use`,
    `run`: what the call is written down for in the ledger."""
    with recording(policy, use, run) as call:
        answer = _complete(policy, messages, **sampling)
        call.end(answer.usage)
    return answer


def _complete(policy: Policy, messages: Messages, **sampling: Any) -> Delta:
    release_connections()
    with _errors_in_words(policy), _place(policy):
        server, request = _request(policy, messages, stream=False, **sampling)
        with asking(server, "POST", CHAT, **request) as response:
            body = body_of(response)
            if not response.is_success:
                raise _refusal(policy, response.status_code, _page_of(body))
        answer = json.loads(body)
        _check(policy, answer)
        choice = answer["choices"][0]
        until = UntilStop(sampling.get("stop", ()))
        text = until.add(clean(choice["message"]["content"] or "")) + until.rest()
        reason = "stop" if until.is_over else choice.get("finish_reason") or "stop"
        return Delta(text, reason, _tokens(answer))


def warm(policy: Policy) -> None:
    """Makes the server load the policy, so that its first guest need not wait; or raises."""
    complete(policy, [{"role": "user", "content": "Hello"}], max_tokens=1)


@asynccontextmanager
async def _answering_async(
    policy: Policy, messages: Messages, **sampling: Any
) -> AsyncIterator[httpx.Response]:
    """The response of a server that has begun to answer, its body unread."""
    path = RAW if sampling.get("is_raw") else CHAT
    server, request = _request(policy, messages, stream=True, **sampling)
    async with asking_async(server, "POST", path, **request) as response:
        if not response.is_success:
            if path == RAW and response.status_code in NOT_THERE:
                raise InferenceError(NO_RAW, f"{response.status_code} at /{path}")
            said = b"".join([block async for block in blocks_of(response)])
            raise _refusal(policy, response.status_code, _page_of(said))
        yield response


@contextmanager
def _place(policy: Policy) -> Iterator[None]:
    """One of the requests at once that a policy's connection allows; waits for it, or raises."""
    if not policy.connection:
        yield
        return
    last_look = time.monotonic() + PLACE_SECONDS
    while (place := policy.connection.take_place()) is None:
        release_connections()
        if time.monotonic() > last_look:
            raise InferenceError(BUSY, "all places for requests at once are taken")
        time.sleep(LOOK_AGAIN)
    release_connections()
    try:
        yield
    finally:
        place.leave()


@asynccontextmanager
async def _place_async(policy: Policy) -> AsyncIterator[None]:
    """As `_place` does; and reads the connection, which an async function may not."""
    if not policy.connection_id:
        yield
        return
    last_look = time.monotonic() + PLACE_SECONDS
    while (place := await in_database(_take_place, policy)) is None:
        if time.monotonic() > last_look:
            raise InferenceError(BUSY, "all places for requests at once are taken")
        await asyncio.sleep(LOOK_AGAIN)
    try:
        yield
    finally:
        await in_database(place.leave)


def _take_place(policy: Policy) -> CallPlace | None:
    assert policy.connection
    return policy.connection.take_place()


def _request(
    policy: Policy, messages: Messages, *, stream: bool, **sampling: Any
) -> tuple[Server, dict[str, Any]]:
    sampling = {
        "temperature": policy.temperature,
        "max_tokens": policy.max_new_tokens,
        **sampling,
    }
    sampling["max_tokens"] = min(sampling["max_tokens"], _room(policy, messages))
    template = _template(policy)
    fitted = template.fit(messages)
    is_raw = sampling.pop("is_raw", False)
    body = {
        "model": _model(policy),
        **({"prompt": fitted[0]["content"]} if is_raw else {"messages": fitted}),
        "stream": stream,
        "top_p": 1.0,
        **sampling,
    }
    if template.stops:
        body["generation_config"] = _sampled_alike(template.stops, body)
    if stream:
        body["stream_options"] = {"include_usage": True}
    server = _server(policy)
    return server, {"json": _in_dialect_of(server, body)}


def _in_dialect_of(server: Server, body: dict[str, Any]) -> dict[str, Any]:
    """What two providers refuse in newer models, said in the way they take it."""
    if server.base.startswith(OPENAI) and "messages" in body:
        renamed = {"max_tokens": "max_completion_tokens"}
        return {renamed.get(name, name): value for name, value in body.items()}
    if server.base.startswith(ANTHROPIC) and body["top_p"] == 1:  # not both it and a temperature
        return {name: value for name, value in body.items() if name != "top_p"}
    return body


def _server(policy: Policy) -> Server:
    if policy.connection:
        try:
            return policy.connection.server
        except Unreadable as error:
            raise InferenceError(UNREADABLE) from error
    base = _base(policy)
    # The key is for the server it was given for.
    key = settings.INFERENCE_API_KEY if base == settings.INFERENCE_URL else ""
    return Server(base, key, is_trusted=True)


def _template(policy: Policy) -> ChatTemplate:
    if policy.is_elsewhere or policy.model_name or not policy.folder:
        return UNKNOWN
    return read_chat_template(settings.DATA_DIR / policy.folder)


def _sampled_alike(stops: Sequence[int], body: Mapping[str, Any]) -> str:
    """`transformers serve` takes what a request does not name from the folder, which may keep the
    one most likely token: the policy speaks here as where it is trained and sampled."""
    told = {
        **PLAIN,
        "do_sample": body["temperature"] > 0,
        "temperature": body["temperature"] or 1.0,
        "top_p": body["top_p"],
        "max_new_tokens": body["max_tokens"],
        "eos_token_id": list(stops),
        "pad_token_id": stops[0],
    }
    return json.dumps(told)


def _base(policy: Policy) -> str:
    base = policy.endpoint.rstrip("/") or settings.INFERENCE_URL
    if not base:
        raise InferenceError("No model server is set up: INFERENCE_URL is empty.")
    if base not in (settings.INFERENCE_URL, *settings.INFERENCE_ENDPOINTS):
        raise InferenceError(
            f"The policy “{policy}” names a server that this site may not call.",
            f"add {base} to INFERENCE_ENDPOINTS",
        )
    return base


def _model(policy: Policy) -> str:
    return policy.model_name or str(settings.DATA_DIR / policy.folder)


def _room(policy: Policy, messages: Messages) -> int:
    """How many tokens of answer fit behind these messages; `_check` catches what is misjudged."""
    window = window_of(policy)
    if window is None:
        return policy.max_new_tokens
    size = size_of(messages)
    if window - size < LEAST_ROOM:
        raise InferenceError(TOO_LONG)
    return window - size


def _delta(policy: Policy, chunk: dict[str, Any]) -> Delta | None:
    """None: nothing of an answer is in it, as in the last word about usage. The server that comes
    with the site says where a request stands in its line while it waits."""
    _check(policy, chunk)
    if not chunk.get("choices"):
        place = chunk.get("queue_position")
        return Delta(place=place) if type(place) is int and place > 0 else None
    choice = chunk["choices"][0]
    said = choice.get("delta") or {"content": choice.get("text")}
    calls = [call for call in said.get("tool_calls") or () if isinstance(call, dict)]
    reason = choice.get("finish_reason") or ""
    return Delta(said.get("content") or "", reason, _tokens(chunk), calls=calls)


def _check(policy: Policy, answer: dict[str, Any]) -> None:
    """Raises for an error that comes as an answer. `transformers serve` answers beyond the window
    too, in gibberish."""
    error = answer if answer.get("object") == "error" else answer.get("error")
    if error:
        raise _refusal(policy, 500, json.dumps(error))
    window = window_of(policy)
    if window and (answer.get("usage") or {}).get("prompt_tokens", 0) >= window:
        raise InferenceError(TOO_LONG)


def _page_of(body: bytes) -> str:
    """What a server, or a proxy before it, says beside the protocol."""
    return body.decode("utf-8", "replace")


def _refusal(policy: Policy, status: int, said: str) -> InferenceError:
    said = _server(policy).redacted(said)[:1000]
    logger.warning("the model server answered %s for %r: %s", status, policy.name, said)
    detail = f"{status}: {said}"
    is_missing = policy.folder and not policy.is_elsewhere and not policy.model_name
    if is_missing and not (settings.DATA_DIR / policy.folder).is_dir():
        return InferenceError(f"The files of the policy “{policy}” are missing.", detail)
    if "context" in said and any(word in said for word in ("length", "maximum", "too long")):
        return InferenceError(TOO_LONG, detail)
    if 300 <= status < 400:
        return InferenceError("The model server sends us elsewhere; we do not follow.", detail)
    if status in (401, 403) and policy.connection:
        return InferenceError(f"{policy.connection} does not accept its key.", detail)
    if status in (401, 403):
        return InferenceError("The model server does not accept this site's key.", detail)
    if status == 404:
        return InferenceError(f"The model server does not know the policy “{policy}”.", detail)
    if status in (429, 503):
        return InferenceError(BUSY, detail)
    return InferenceError(FAILED, detail)


@contextmanager
def _errors_in_words(policy: Policy) -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise InferenceError(NOT_ANSWERING, str(error)) from error
    except httpx.TimeoutException as error:
        raise InferenceError(TOO_SLOW, str(error)) from error
    except NotPublic as error:
        raise InferenceError(NOT_PUBLIC, str(error)) from error
    except httpx.HTTPError as error:
        raise InferenceError(BROKE_OFF, str(error)) from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        logger.warning("the model server of %r does not speak the protocol: %r", policy.name, error)
        raise InferenceError(BROKE_OFF, f"not the protocol: {error!r}") from error
