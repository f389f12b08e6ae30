"""Nobody gets in who is not signed in, and what they are told is of use to whatever asked."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render

SIGNED_OUT = "You've been signed out."
SOMEBODY_ELSE = "You're signed in as {name} now, and this page belongs to another account."
STALE = "You've signed in again since this page was opened. Reload it."


class SignedInMiddleware(LoginRequiredMiddleware):
    """Sends people who are signed out to the sign-in page, and back to where they wanted to go.

    A script is answered with 401 and a sentence instead: it would put the sign-in page into its
    own. So it is when somebody else has signed in since its page was opened; the page names its
    person, by id, in the header X-Person. What a form sends is answered with 401 and a page that
    keeps it, to be sent again: after a redirect it would be lost."""

    def process_view(
        self, request: HttpRequest, view_func: Any, view_args: Any, view_kwargs: Any
    ) -> HttpResponseBase | None:
        refused = super().process_view(request, view_func, view_args, view_kwargs)
        return refused or _refuse_somebody_else(request)

    def handle_no_permission(self, request: HttpRequest, view_func: Any) -> Any:
        if is_by_script(request):
            return _sentence(SIGNED_OUT, status=401)
        if request.method in ("GET", "HEAD"):
            return super().handle_no_permission(request, view_func)
        return render(request, "signed_out.html", {"kept": sent_by(request)}, status=401)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answers a request without the token of its session: mostly, the person signed out or in
    since the page was opened. What a page of ours sent can be sent again, with the token of now and
    after a look at who is signed in; what comes from elsewhere is not kept."""
    is_here = request.user.is_authenticated
    if is_by_script(request):
        return _sentence(STALE, status=403) if is_here else _sentence(SIGNED_OUT, status=401)
    is_ours = request.headers.get("Origin") == f"{request.scheme}://{request.get_host()}"
    kept = sent_by(request) if is_ours else []
    return render(request, "signed_out.html", {"is_back": is_here, "kept": kept}, status=403)


def sent_by(request: HttpRequest) -> list[tuple[str, str]]:
    """What a form sent, field by field: without its token, and without passwords, which no page
    repeats."""
    return [
        (name, value)
        for name, values in request.POST.lists()
        for value in values
        if name != "csrfmiddlewaretoken" and "password" not in name
    ]


def is_by_script(request: HttpRequest) -> bool:
    """Whether htmx, `fetch` or an event source asks, and not a person who follows a link or sends
    a form. Browsers tell by Sec-Fetch-Dest, over plain HTTP only by what they accept."""
    return (
        "HX-Request" in request.headers
        or request.headers.get("Sec-Fetch-Dest") == "empty"
        or not request.accepts("text/html")
    )


def _refuse_somebody_else(request: HttpRequest) -> HttpResponse | None:
    expected = request.headers.get("X-Person")
    if not expected or not request.user.is_authenticated or expected == str(request.user.pk):
        return None
    return _sentence(SOMEBODY_ELSE.format(name=request.user), status=401)


def _sentence(text: str, *, status: int) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
