"""Acts that could take an account away from its owner ask first who sits at the browser, unless
they have shown it within the last quarter of an hour.

What was sent is kept on the page that asks, and sent again with the answer. Whoever has neither a
password nor a second factor has nothing to be asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone

from annotate.accounts.second_factor import has_key, is_protected, key_to_use, use_code, use_key
from annotate.accounts.sign_ins import PROVED_AT, prove
from annotate.limits import refusal, seconds_to_wait
from annotate.people.models import User
from feedback_site.web.signed_in import sent_by

LASTS = timedelta(minutes=15)
ANYTHING = frozenset[str]()

# Address name → which of its acts. A change of the password asks for the old one by itself.
SENSITIVE: Mapping[str, frozenset[str]] = {
    "security": frozenset(
        {"first_password", "address", "forget_address", "codes", "remove", "connect", "disconnect"}
    ),
    **dict.fromkeys(["security_app", "security_key"], ANYTHING),
    "account": frozenset({"erase"}),
    "labelers_members": frozenset({"link"}),
    "programs": frozenset({"token", "webhook"}),
    **dict.fromkeys(["connections_new", "connections_one"], ANYTHING),
}
ANSWERS = ("confirm_password", "confirm_code", "confirm_key")


class ConfirmMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        person = request.user
        if request.method != "POST" or not isinstance(person, User) or not _is_sensitive(request):
            return None
        if _has_proved(request) or not may_be_asked(person):
            return None
        return _ask(request, person)


def may_be_asked(person: User) -> bool:
    """Whether there is anything by which they can show who they are."""
    return person.has_usable_password() or is_protected(person)


def _is_sensitive(request: HttpRequest) -> bool:
    name = request.resolver_match.url_name if request.resolver_match else None
    acts = SENSITIVE.get(name or "")
    return acts is not None and (not acts or request.POST.get("act", "") in acts)


def _has_proved(request: HttpRequest) -> bool:
    since = timezone.now().timestamp() - request.session.get(PROVED_AT, 0)
    return bool(since < LASTS.total_seconds())


def _ask(request: HttpRequest, person: User) -> HttpResponseBase | None:
    """None: they have answered rightly."""
    said = {name: request.POST[name] for name in ANSWERS if request.POST.get(name)}
    if said:
        if wait := seconds_to_wait("password", account=str(person.pk)):
            return refusal(request, "password", wait)
        if _is_right(person, **said):
            prove(request)
            return None
    context = {
        "kept": [(name, value) for name, value in sent_by(request) if name not in ANSWERS],
        "by_code": is_protected(person),
        "key": key_to_use(person) if has_key(person) else "",
        "is_wrong": bool(said),
    }
    return render(request, "annotate/accounts/confirm.html", context, status=403)


def _is_right(
    person: User, confirm_password: str = "", confirm_code: str = "", confirm_key: str = ""
) -> bool:
    """Where there is a second factor, the password alone is not enough."""
    if is_protected(person):
        return bool(use_key(person, confirm_key) if confirm_key else use_code(person, confirm_code))
    return person.check_password(confirm_password)
