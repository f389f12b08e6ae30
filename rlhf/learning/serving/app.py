"""The HTTP side, in the shape of OpenAI's API: /v1/models, /v1/chat/completions, /v1/completions,
/v1/embeddings, /v1/load, and /health.

While an answer waits for its turn, its stream says so in chunks without choices:
`{"choices": [], "queue_position": 3}`."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.records import DataError

from .embedding import texts_of, vectors_of
from .engine import End, Engine, Event, Full, Piece, Place, Row, Sampling
from .shelf import NoSuchModel, Policy, Shelf
from .wishes import Refused, Wish, read_wish

MOST_BYTES = 16 << 20  # of a request
RETRY_SECONDS = 5
SILENCE_SECONDS = 10.0  # after which a stream says that it is alive

RAW = "/v1/completions"

App = Callable[..., Awaitable[None]]


class Guarded:
    """An ASGI application behind a bearer token."""

    def __init__(self, app: App, key: str) -> None:
        self.app = app
        self.expected = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self.expected):
                refused = Refused(401, "Wrong key.", code="invalid_api_key")
                await refused.response({"WWW-Authenticate": "Bearer"})(scope, receive, send)
                return
        await self.app(scope, receive, send)


def application(shelf: Shelf, engine: Engine, key: str) -> App:
    """The ASGI application; the decoding thread runs during its lifespan."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        engine.start()
        sweeping = asyncio.create_task(shelf.sweep())
        yield
        sweeping.cancel()
        await asyncio.to_thread(engine.stop)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", **engine.state})

    async def models(_: Request) -> Response:
        rows = [
            {"id": name, "object": "model", "created": 0, "owned_by": "feedback-site"}
            for name in await asyncio.to_thread(shelf.names)
        ]
        return JSONResponse({"object": "list", "data": rows})

    async def load(request: Request) -> Response:
        asked = await _body(request)
        name = asked.get("model") if isinstance(asked, dict) else None
        policy = await _taken(shelf, str(name))
        shelf.give_back(policy)
        return JSONResponse({"id": policy.name, "object": "model"})

    embedding = asyncio.Lock()  # one at a time: it shares the cores with the decoding thread

    async def embeddings(request: Request) -> Response:
        model, texts = texts_of(await _body(request))
        policy = await _taken(shelf, model)
        try:
            async with embedding:
                vectors, tokens = await asyncio.to_thread(vectors_of, policy, texts)
        finally:
            shelf.give_back(policy)
        rows = [
            {"object": "embedding", "index": number, "embedding": vector}
            for number, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "data": rows, "model": model, "usage": usage})

    async def complete(request: Request) -> Response:
        is_raw = request.url.path == RAW
        wish = read_wish(await _body(request), is_raw=is_raw)
        answers = await Answers.begin(wish, shelf, engine)
        if wish.streams:
            return Streamed(answers)
        try:
            return JSONResponse(await _unless_gone(request, answers.whole()))
        finally:
            answers.close()

    routes = [
        Route("/health", health),
        Route("/v1/models", models),
        Route("/v1/load", load, methods=["POST"]),
        Route("/v1/chat/completions", complete, methods=["POST"]),
        Route(RAW, complete, methods=["POST"]),
        Route("/v1/embeddings", embeddings, methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=lifespan)
    return Guarded(app, key)


# What comes of errors


async def refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    retry = {"Retry-After": str(RETRY_SECONDS)} if error.status == 503 else None
    return error.response(retry)


async def not_found(_: Request, __: Exception) -> Response:
    return Refused(404, "There is no such address here.", code="unknown_url").response()


async def failed(_: Request, __: Exception) -> Response:
    return Refused(500, "The server failed on this.", code="server_error").response()


async def nobody_reads(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # as nginx has it: the client has closed the request


HANDLERS: Any = {
    Refused: refuse,
    ClientDisconnect: nobody_reads,
    404: not_found,
    405: not_found,
    500: failed,
}


class Answers:
    """The answers to one request, from their place in the line to their end. `close` has to be
    called, whatever comes of them."""

    def __init__(self, wish: Wish, policy: Policy, shelf: Shelf, engine: Engine) -> None:
        self.wish, self.policy, self.shelf, self.engine = wish, policy, shelf, engine
        prefix = "cmpl" if wish.is_raw else "chatcmpl"
        self.id, self.created = f"{prefix}-{uuid.uuid4().hex}", int(time.time())
        self.rows: list[Row] = []
        self.events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self.is_open = True

    @classmethod
    async def begin(cls, wish: Wish, shelf: Shelf, engine: Engine) -> Answers:
        """Loads the policy, if need be, and joins the line. Raises Refused."""
        answers = cls(wish, await _taken(shelf, wish.model), shelf, engine)
        try:
            await answers._submit()
        except BaseException:
            answers.close()
            raise
        return answers

    async def _submit(self) -> None:
        wish, policy, loop = self.wish, self.policy, asyncio.get_running_loop()
        try:
            self.prompt = await asyncio.to_thread(_ids, policy, wish)
        except DataError as error:
            raise Refused(400, str(error), param="messages") from error
        param, what = ("prompt", "prompt has") if wish.is_raw else ("messages", "messages have")
        if not self.prompt:
            raise Refused(400, "The prompt is empty.", param=param)
        room = policy.render.context - len(self.prompt)
        if room < 1:
            raise Refused(
                400,
                f"This model's maximum context length is {policy.render.context} tokens; the"
                f" {what} {len(self.prompt)}.",
                param=param,
                code="context_length_exceeded",
            )
        asked = wish.sampling
        sampling = Sampling(
            min(asked.max_tokens, room),
            asked.temperature,
            asked.top_p,
            asked.stops,
            is_raw=wish.is_raw,
        )

        def teller(number: int) -> Callable[[Event], None]:
            def tell(event: Event) -> None:
                loop.call_soon_threadsafe(self.events.put_nowait, (number, event))

            return tell

        self.rows = [
            Row(policy, self.prompt, sampling, (wish.seed + number) % 2**63, teller(number))
            for number in range(wish.count)
        ]
        try:
            self.engine.submit(self.rows)
        except Full:
            raise Refused(
                503, "Too many are waiting. Try again later.", code="queue_full"
            ) from None

    def close(self) -> None:
        """Gives the policy back; what is still being decoded is dropped."""
        if self.is_open:
            self.is_open = False
            self.engine.cancel(self.rows)
            self.shelf.give_back(self.policy)

    async def whole(self) -> dict[str, Any]:
        """The body of a response that is no stream. Raises Refused where decoding failed."""
        texts, ends = [""] * self.wish.count, ["error"] * self.wish.count
        async for number, event in self._events():
            if isinstance(event, Piece):
                texts[number] += event.text
            elif isinstance(event, End):
                ends[number] = event.reason
        choices = [
            {"index": number, **self._said(text), "finish_reason": reason, "logprobs": None}
            for number, (text, reason) in enumerate(zip(texts, ends, strict=True))
        ]
        kind = "text_completion" if self.wish.is_raw else "chat.completion"
        return self._object(kind, choices) | {"usage": self.usage}

    def _said(self, text: str) -> dict[str, Any]:
        if self.wish.is_raw:
            return {"text": text}
        return {"message": {"role": "assistant", "content": text}}

    async def stream(self) -> AsyncIterator[str]:
        """The events of a stream."""
        try:
            async for number, event in self._events(silence=SILENCE_SECONDS):
                if event is None:
                    yield ": waiting\n\n"
                elif isinstance(event, Place):
                    if number == 0:
                        yield _sse(self._chunk([]) | {"queue_position": event.number})
                elif isinstance(event, Piece):
                    yield _sse(self._chunk([self._delta(number, event.text)]))
                else:
                    yield _sse(self._chunk([self._delta(number, "", event.reason)]))
        except Refused as refused:
            yield _sse(refused.body)
            return
        if self.wish.with_usage:
            yield _sse(self._chunk([]) | {"usage": self.usage})
        yield "data: [DONE]\n\n"

    @property
    def usage(self) -> dict[str, int]:
        """Tokens, those that end an answer included."""
        said = sum(len(row.ids) for row in self.rows)
        read = len(self.prompt)
        return {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said}

    async def _events(self, silence: float | None = None) -> AsyncIterator[tuple[int, Any]]:
        """(row, event) until all have ended; (0, None) for each `silence` seconds without one.
        Raises Refused where decoding failed."""
        running = len(self.rows)
        while running:
            try:
                number, event = await asyncio.wait_for(self.events.get(), silence)
            except TimeoutError:
                yield 0, None
                continue
            if isinstance(event, End):
                running -= 1
                if event.reason == "error":
                    raise Refused(500, "Decoding was broken off.", code="decoding_failed")
            yield number, event

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        usage = {"usage": None} if self.wish.with_usage else {}
        kind = "text_completion" if self.wish.is_raw else "chat.completion.chunk"
        return self._object(kind, choices) | usage

    def _delta(self, number: int, text: str, reason: str | None = None) -> dict[str, Any]:
        said: dict[str, Any] = {"delta": {"content": text} if text else {}}
        if self.wish.is_raw:
            said = {"text": text}
        return {"index": number, **said, "finish_reason": reason, "logprobs": None}

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.wish.model,
            "choices": choices,
        }


class Streamed(StreamingResponse):
    """A stream of answers, which are given up as soon as nobody reads it."""

    def __init__(self, answers: Answers) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(answers.stream(), headers=headers, media_type="text/event-stream")
        self.answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.answers.close()


def _ids(policy: Policy, wish: Wish) -> list[int]:
    if isinstance(wish.asked, str):
        return policy.render.opening(wish.asked)
    return policy.render.messages(wish.asked)


def _sse(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


async def _body(request: Request) -> Any:
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > MOST_BYTES:
            raise Refused(413, f"The body is larger than {MOST_BYTES >> 20} MB.")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The body is no JSON: {error}") from error


async def _taken(shelf: Shelf, name: str) -> Policy:
    try:
        return await shelf.take(name)
    except NoSuchModel:
        raise Refused(
            404, f"The model `{name}` does not exist here.", param="model", code="model_not_found"
        ) from None
    except ConfigError as error:
        raise Refused(500, str(error), param="model", code="model_not_loaded") from error


async def _unless_gone(request: Request, asked: Awaitable[Any]) -> Any:
    """What is asked, unless who asks hangs up before: ClientDisconnect then."""
    work = asyncio.ensure_future(asked)
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        work.cancel()
        gone.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
