"""The two clients. What is sent again, and when, is the same for both."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, Self
from urllib.parse import parse_qsl, urlsplit

import httpx

from feedback_site_client.calls import ApiError, Call, Data, Page, Round, retrieve_round

AGAIN = frozenset({429, 502, 503, 504})
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds
OVER = frozenset({"succeeded", "failed", "cancelled", "paused"})


@dataclass(frozen=True)
class Reply(Generic[Data]):
    """What was answered, and by which `etag` it is known when it is to be changed."""

    data: Data
    etag: str


def _request(call: Call[Any]) -> dict[str, Any]:
    sent: dict[str, Any] = {"params": dict(call.query), "headers": call.headers}
    if call.files is not None:
        return sent | {"files": dict(call.files)}
    return sent if call.body is None else sent | {"json": call.body}


def _may_repeat(call: Call[Any]) -> bool:
    """All that is known by a key, by its version, or changes nothing."""
    return call.method in ("GET", "POST", "DELETE")


def _pause(attempt: int, response: httpx.Response | None) -> float:
    """Seconds until the next attempt."""
    wished = response.headers.get("Retry-After", "") if response is not None else ""
    ours: float = FIRST_PAUSE * 2**attempt * random.uniform(1, 1.5)
    return min(max(float(wished) if wished.isdigit() else 0.0, ours), LONGEST_PAUSE)


def _read(call: Call[Data], response: httpx.Response) -> Reply[Data]:
    etag = response.headers.get("ETag", "")
    if response.is_success:
        data: Any = response.content if call.is_raw else None
        if not call.is_raw and response.status_code != 204:
            data = response.json()
        return Reply(data, etag)
    try:
        said = response.json()
    except ValueError:
        said = {}
    said = said if isinstance(said, dict) else {}
    detail = str(said.get("detail") or response.reason_phrase)
    raise ApiError(response.status_code, str(said.get("code", "")), detail, said.get("fields", {}))


def _next(call: Call[Page[Data]], page: Page[Data]) -> Call[Page[Data]] | None:
    """The call for the page after this one."""
    if page["next"] is None:
        return None
    return replace(call, query=dict(parse_qsl(urlsplit(page["next"]).query)))


def _options(site: str, token: str, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "base_url": f"{site.rstrip('/')}/api/v1/",
        "headers": {"Authorization": f"Bearer {token}"},
        "timeout": 60.0,
        **options,
    }


class Client:
    """Sends calls, one after the other. `options` are httpx's."""

    def __init__(self, site: str, token: str, *, tries: int = 6, **options: Any) -> None:
        self.tries = tries
        self.http = httpx.Client(**_options(site, token, options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def send(self, call: Call[Data]) -> Data:
        """What the site answers. Raises ApiError, httpx.TransportError."""
        return self.ask(call).data

    def ask(self, call: Call[Data]) -> Reply[Data]:
        """The same, with its ETag."""
        for attempt in range(self.tries):
            is_last = attempt == self.tries - 1 or not _may_repeat(call)
            try:
                response = self.http.request(call.method, call.path, **_request(call))
            except httpx.TransportError:
                if is_last:
                    raise
                time.sleep(_pause(attempt, None))
                continue
            if is_last or response.status_code not in AGAIN:
                return _read(call, response)
            time.sleep(_pause(attempt, response))
        raise AssertionError("the last try returns or raises")

    def every(self, call: Call[Page[Data]]) -> Iterator[Data]:
        """The rows of all pages."""
        further: Call[Page[Data]] | None = call
        while further is not None:
            page = self.send(further)
            yield from page["results"]
            further = _next(call, page)

    def watch_round(self, number: int, *, every: float = 5.0) -> Iterator[Round]:
        """The state of a round, every so many seconds, until nothing happens any more."""
        while True:
            state = self.send(retrieve_round(number))
            yield state
            if state["state"] in OVER:
                return
            time.sleep(every)


class AsyncClient:
    """The same for asyncio."""

    def __init__(self, site: str, token: str, *, tries: int = 6, **options: Any) -> None:
        self.tries = tries
        self.http = httpx.AsyncClient(**_options(site, token, options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def send(self, call: Call[Data]) -> Data:
        """What the site answers. Raises ApiError, httpx.TransportError."""
        return (await self.ask(call)).data

    async def ask(self, call: Call[Data]) -> Reply[Data]:
        """The same, with its ETag."""
        for attempt in range(self.tries):
            is_last = attempt == self.tries - 1 or not _may_repeat(call)
            try:
                response = await self.http.request(call.method, call.path, **_request(call))
            except httpx.TransportError:
                if is_last:
                    raise
                await asyncio.sleep(_pause(attempt, None))
                continue
            if is_last or response.status_code not in AGAIN:
                return _read(call, response)
            await asyncio.sleep(_pause(attempt, response))
        raise AssertionError("the last try returns or raises")

    async def every(self, call: Call[Page[Data]]) -> AsyncIterator[Data]:
        """The rows of all pages."""
        further: Call[Page[Data]] | None = call
        while further is not None:
            page = await self.send(further)
            for row in page["results"]:
                yield row
            further = _next(call, page)

    async def watch_round(self, number: int, *, every: float = 5.0) -> AsyncIterator[Round]:
        """The state of a round, every so many seconds, until nothing happens any more."""
        while True:
            state = await self.send(retrieve_round(number))
            yield state
            if state["state"] in OVER:
                return
            await asyncio.sleep(every)
