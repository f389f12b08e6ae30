"""Answers to requests that no view sees."""

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.views.defaults import bad_request


def too_large() -> HttpResponse:
    said = "This is too much for one request. Send less at once, or upload a file."
    return HttpResponse(said, status=413, content_type="text/plain")


def refused(request: HttpRequest, exception: Exception) -> HttpResponse:
    if isinstance(exception, RequestDataTooBig):
        return too_large()
    return bad_request(request, exception)
