"""The one client for calls to model servers: it calls the addresses that were looked at, follows no
redirect, asks again where the server is busy, and reads no more than an answer may have."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import httpx

from annotate.connections.addresses import NotPublic, resolve

# The first request for a policy waits until the server has loaded its weights.
TIMEOUT = httpx.Timeout(connect=3.0, read=120.0, write=10.0, pool=3.0)
MOST_BYTES = 16 * 2**20  # of one answer
BUSY = frozenset({429, 500, 502, 503, 504})
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0  # seconds between two tries


class TooMuch(ValueError):
    """The server sends more than any answer has."""


@dataclass(frozen=True)
class Server:
    """Whom to call, and the key to call with. `tries`: how often at most, while it is busy;
    `is_trusted`: this installation's settings name it, wherever it is."""

    base: str
    key: str = field(default="", repr=False)
    tries: int = 1
    is_trusted: bool = False

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def redacted(self, text: str) -> str:
        """What a server says of our request may repeat the key."""
        return text.replace(self.key, "[key]") if self.key else text


@contextmanager
def asking(
    server: Server, method: str, path: str, *, timeout: httpx.Timeout | None = None, **request: Any
) -> Iterator[httpx.Response]:
    """The response to a request, its body unread. Raises httpx.HTTPError."""
    url, timeout = f"{server.base}/{path}" if path else server.base, timeout or TIMEOUT
    headers = server.headers | request.pop("headers", {})
    with httpx.Client(timeout=timeout, transport=_transport(server), trust_env=False) as client:
        for attempt in range(1, server.tries + 1):
            with client.stream(method, url, headers=headers, **request) as response:
                pause = _pause(response, attempt) if attempt < server.tries else None
                if pause is None:
                    yield response
                    return
            time.sleep(pause)


@asynccontextmanager
async def asking_async(
    server: Server, method: str, path: str, **request: Any
) -> AsyncIterator[httpx.Response]:
    """As `asking` does."""
    url, headers, transport = f"{server.base}/{path}", server.headers, _async_transport(server)
    async with httpx.AsyncClient(timeout=TIMEOUT, transport=transport, trust_env=False) as client:
        for attempt in range(1, server.tries + 1):
            async with client.stream(method, url, headers=headers, **request) as response:
                pause = _pause(response, attempt) if attempt < server.tries else None
                if pause is None:
                    yield response
                    return
            await asyncio.sleep(pause)


def body_of(response: httpx.Response) -> bytes:
    """The whole body. Raises TooMuch."""
    body = bytearray()
    for block in response.iter_bytes():
        body += block
        if len(body) > MOST_BYTES:
            raise TooMuch
    return bytes(body)


async def blocks_of(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it comes. Raises TooMuch."""
    length = 0
    async for block in response.aiter_bytes():
        length += len(block)
        if length > MOST_BYTES:
            raise TooMuch
        yield block


def _pause(response: httpx.Response, attempt: int) -> float | None:
    """Seconds until the next try; None where another one is of no use."""
    if response.status_code not in BUSY:
        return None
    wished = _seconds(response.headers.get("Retry-After", ""))
    if wished > LONGEST_PAUSE:
        return None
    ours = FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(1, 1.5)
    return max(wished, ours)


def _seconds(retry_after: str) -> float:
    """What a Retry-After asks for, a number of seconds or a date; 0 for anything else."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return 0.0


class _Checked(httpx.HTTPTransport):
    """Connects to an address that was looked at, and speaks TLS with the name it was found by."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        *others, last = resolve(*_place(request))
        for address in others:
            try:
                return super().handle_request(_redirected(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return super().handle_request(_redirected(request, last))


class _CheckedAsync(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        *others, last = await asyncio.to_thread(resolve, *_place(request))
        for address in others:
            try:
                return await super().handle_async_request(_redirected(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await super().handle_async_request(_redirected(request, last))


def _place(request: httpx.Request) -> tuple[str, int]:
    """The name and port that a request is for. Raises NotPublic where it would go unencrypted."""
    url = request.url
    if url.scheme != "https":
        raise NotPublic(f"{url.host} is called without TLS")
    return url.host, url.port or 443


def _redirected(request: httpx.Request, address: str) -> httpx.Request:
    """The same request, Host header included, to an address instead of a name."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )


def _transport(server: Server) -> httpx.HTTPTransport:
    kind = httpx.HTTPTransport if server.is_trusted else _Checked
    return kind(verify=_tls(), trust_env=False)


def _async_transport(server: Server) -> httpx.AsyncHTTPTransport:
    kind = httpx.AsyncHTTPTransport if server.is_trusted else _CheckedAsync
    return kind(verify=_tls(), trust_env=False)


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()
