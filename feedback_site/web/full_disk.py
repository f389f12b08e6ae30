"""What nobody could save is said in a sentence, and what was sent is kept to be sent again."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render

from feedback_site import disk
from feedback_site.web.signed_in import is_by_script, sent_by

SENTENCE = "The disk of the site is full, so nothing can be saved now. Tell an operator."


class FullDiskMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not disk.is_full(error):
            return None
        if is_by_script(request):
            return HttpResponse(SENTENCE, status=507, content_type="text/plain; charset=utf-8")
        context = {"sentence": SENTENCE, "kept": sent_by(request)}
        return render(request, "full_disk.html", context, status=507)
