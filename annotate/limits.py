"""How often what costs may be done: by an address, a name, a person, a token, an end user, and by
everybody together. Beyond that the answer is 429 and says when to come back.

Whoever is refused by the narrow bucket takes nothing from the wide one: nobody alone uses up what
is everybody's."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.shortcuts import render

from annotate.people.tokens import ApiToken
from feedback_site.models import Bucket, Rate
from feedback_site.web import api_errors as errors

# A password costs a core about 30 ms: beyond a burst they take an eighth of each.
PASSWORDS = Rate(200, 4 * (os.cpu_count() or 1))
# What is done → by whom → how often. The order is the one in which they are asked.
LIMITS: Mapping[str, Mapping[str, Rate]] = {
    "sign-in": {"address": Rate(30, 0.5), "name": Rate(20, 1 / 30), "everybody": PASSWORDS},
    "link": {"address": Rate(60, 1), "everybody": Rate(200, 20)},
    "code": {"address": Rate(30, 0.5), "asked": Rate(5, 1 / 120)},
    "mail": {
        "address": Rate(10, 1 / 60),
        "recipient": Rate(3, 1 / 600),
        "account": Rate(5, 1 / 120),
        "everybody": Rate(100, 1),
    },
    "password": {"account": Rate(10, 1 / 30)},
    "API": {"address": Rate(2000, 40), "token": Rate(600, 20), "everybody": Rate(4000, 100)},
    "API of an end user": {"end user": Rate(60, 1)},
    "chat": {"account": Rate(40, 0.5), "everybody": Rate(400, 20)},
    "playground": {"account": Rate(120, 2), "everybody": Rate(400, 20)},
    "connection": {"account": Rate(30, 0.2), "everybody": Rate(60, 1)},
    "import": {"account": Rate(40, 0.2), "everybody": Rate(80, 1)},
    "export": {"account": Rate(40, 0.2), "everybody": Rate(80, 1)},
    "preview": {"account": Rate(120, 4), "everybody": Rate(800, 40)},
}

# Address name → what is done there; of the methods that do it.
POSTS = {
    "sign_in": "sign-in",
    "sign_in_by_link": "link",
    **dict.fromkeys(["invitation", "password_reset", "verify_address"], "link"),
    "second_factor": "code",
    "sign_in_by_mail": "mail",
    **dict.fromkeys(["account", "security", "security_app", "security_key"], "password"),
    "chat_new": "chat",
    "chat_send": "chat",
    "chat_edit": "chat",
    "chat_regenerate": "chat",
    "talk_say": "chat",
    "talk_retry": "chat",
    "playground": "playground",
    "playground_cell": "playground",
    "playground_resume": "playground",
    "playground_rules": "playground",
    "connections_new": "connection",
    "connections_one": "connection",
    "connections_test": "connection",
    "prompts_import": "import",
    "prompts_import_one": "import",
    "preview": "preview",
}
ANY_METHOD = {
    "prompts_export": "export",
    **dict.fromkeys(["audit_export", "site_audit_export"], "export"),
    "chat_export": "export",
    **dict.fromkeys(["shared_chat", "provider", "provider_answer"], "link"),
}
OF_THE_API = "api_"  # with this, the names of all addresses of the API begin
FORGET_ONE_IN = 1000  # requests; then the buckets that are full again go


def seconds_to_wait(what: str, **who: str) -> float:
    """Takes a token out of the bucket of each of `who`; 0, or how long to wait for the next."""
    for kind, rate in LIMITS[what].items():
        if wait := Bucket.take(f"{what}/{kind}/{who.get(kind.replace(' ', '_'), '')}", rate):
            return wait
    if random.random() < 1 / FORGET_ONE_IN:
        Bucket.forget_full()
    return 0.0


class LimitsMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        name = request.resolver_match.url_name if request.resolver_match else ""
        what = "API" if (name or "").startswith(OF_THE_API) else ANY_METHOD.get(name or "")
        if what is None and request.method == "POST":
            what = POSTS.get(name or "")
        if what is None:
            return None
        wait = seconds_to_wait(what, **dict(_who(request, what)))
        return refusal(request, what, wait) if wait else None


def _who(request: HttpRequest, what: str) -> Iterator[tuple[str, str]]:
    yield "address", request.META.get("REMOTE_ADDR", "")
    if what == "sign-in":
        yield "name", request.POST.get("username", "").casefold()[:200]
    if what == "code":
        yield "asked", str((request.session.get("second_factor") or {}).get("person", ""))
    if what == "mail":
        yield "recipient", request.POST.get("address", "").casefold()[:254]
    if what == "API":
        yield "token", ApiToken.digest(request.headers.get("Authorization", ""))
    if not isinstance(request.user, AnonymousUser):
        yield "account", str(request.user.pk)


def refusal(request: HttpRequest, what: str, wait: float) -> HttpResponseBase:
    seconds = math.ceil(wait)
    response: HttpResponseBase
    if what == "API":
        said = f"Too many requests. Try again in {seconds} s."
        openai = errors.is_openai(request)
        as_body = errors.body if openai else errors.problem
        response = JsonResponse(as_body(429, said), status=429)
    else:
        response = render(request, "annotate/too_many.html", {"seconds": seconds}, status=429)
    response.headers["Retry-After"] = str(seconds)
    return response
