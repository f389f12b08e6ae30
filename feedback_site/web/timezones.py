"""Shows times in the viewer's zone."""

import zoneinfo

from django.http import HttpRequest
from django.utils import timezone
from django.utils.deprecation import MiddlewareMixin


def _zone(request: HttpRequest) -> zoneinfo.ZoneInfo | None:
    """The zone the browser named in its cookie (set by site.js), if it is one."""
    try:
        return zoneinfo.ZoneInfo(request.COOKIES.get("timezone", ""))
    except (ValueError, zoneinfo.ZoneInfoNotFoundError, OSError):
        return None


class ViewerTimezoneMiddleware(MiddlewareMixin):
    def process_request(self, request: HttpRequest) -> None:
        timezone.activate(_zone(request) or timezone.get_default_timezone())
