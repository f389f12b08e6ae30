"""A name for each request, in the reply and in every line of the log that it causes."""

import logging
import re
import uuid
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

HEADER = "X-Request-Id"
GIVEN = re.compile(r"[\w.:-]{1,64}", re.ASCII)

current: ContextVar[str] = ContextVar("request_id", default="-")


class RequestIdMiddleware:
    """Takes over the id that a client or proxy gave, where it is a plain word."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if iscoroutinefunction(self.get_response):
            return self._answer(request)
        name = _name(request)
        response = self.get_response(request)
        response.headers[HEADER] = name
        return response

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        name = _name(request)
        response = await self.get_response(request)  # type: ignore[misc]
        response.headers[HEADER] = name
        return response


class WithRequestId(logging.Filter):
    """Gives each record its `request_id`."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = current.get()
        return True


def _name(request: HttpRequest) -> str:
    given = request.headers.get(HEADER, "")
    name = given if GIVEN.fullmatch(given) else uuid.uuid4().hex
    current.set(name)
    return name
