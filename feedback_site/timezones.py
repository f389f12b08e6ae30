"""Shows times in the viewer's zone."""

import zoneinfo
from collections.abc import Callable

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.decorators import sync_and_async_middleware


def _zone(request: HttpRequest) -> zoneinfo.ZoneInfo | None:
    """The zone the browser named in its cookie (set by site.js), if it is one."""
    try:
        return zoneinfo.ZoneInfo(request.COOKIES.get("timezone", ""))
    except (ValueError, zoneinfo.ZoneInfoNotFoundError, OSError):
        return None


@sync_and_async_middleware
def ViewerTimezoneMiddleware(get_response: Callable):  # noqa: N802 - named as Django names them
    if iscoroutinefunction(get_response):

        async def middleware(request: HttpRequest) -> HttpResponse:
            with timezone.override(_zone(request)):
                return await get_response(request)
    else:

        def middleware(request: HttpRequest) -> HttpResponse:
            with timezone.override(_zone(request)):
                return get_response(request)

    return middleware
