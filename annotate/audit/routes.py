"""Requests that change something are recorded: all of them, by the address they come to.

`audited(urlpatterns)` puts `recorded()`, and so a transaction, around every view. The views of
BY_HAND have it around the change alone, because they hash passwords, remove files or talk to other
servers and would keep a connection of the pool meanwhile. UNRECORDED says what needs no entry, and
why."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.apps import apps
from django.db import models
from django.http import HttpRequest, HttpResponseBase
from django.urls import URLPattern, URLResolver

from annotate.audit.recording import Act, performing, project_id, recorded, thing_of
from annotate.ids import id_in

SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
A_ROW = "What is said is a row that says who and when, and a change of mind is another one."
OF_ONES_OWN = "A draft that only its author sees."

UNRECORDED: Mapping[str, str] = {
    "assignment": f"{A_ROW} Labelers wait for it hundreds of times a day.",
    "review_one": A_ROW,
    **dict.fromkeys(["draft", "own_prompts_draft"], OF_ONES_OWN),
    "prompts_import": "An upload is a draft till it is imported, and that is recorded.",
    "preview": "Nothing is kept.",
    "api_nothing": "Answers that nothing is there.",
    **dict.fromkeys(["chat_new", "chat_send", "chat_regenerate", "chat_stop"], A_ROW),
    **dict.fromkeys(["chat_show", "chat_thumb", "chat_prefer", "chat_feedback"], A_ROW),
    **dict.fromkeys(["api_answers", "api_chat_completions", "api_feedback"], A_ROW),
    "playground_cell": "The answer of a trial, which nothing else is made from.",
    "connections_test": "What another server answered; nothing is set.",
}
BY_HAND = frozenset(
    {
        *("sign_in", "account", "invitation"),
        *("connections_new", "connections_one", "prompts_import_one"),
        *("policies_challenge", "policies_gate", "policies_roll_back", "policies_models"),
    }
)

# What is named in addresses and forms, and by which column.
Things = Mapping[str, tuple[str, str]]
THINGS: Things = {
    "membership_id": ("annotate.Membership", "pk"),
    "policy_id": ("annotate.Policy", "pk"),
    "connection_id": ("annotate.Connection", "pk"),
    "grid_id": ("annotate.Grid", "pk"),
    "upload_id": ("annotate.Upload", "pk"),
    "conversation_id": ("annotate.Conversation", "pk"),
    "assignment_id": ("annotate.Assignment", "pk"),
    "username": ("annotate.User", "username"),
    "member": ("annotate.Membership", "pk"),
    "invitation": ("annotate.Invitation", "pk"),
}
WORD = re.compile(r"[a-z_]{1,30}")


def audited(patterns: Sequence[URLPattern | URLResolver], *, things: Things | None = None) -> None:
    """Has what these addresses do recorded. `things` names more of them, like THINGS."""
    for each in patterns:
        if isinstance(each, URLResolver):
            audited(each.url_patterns, things=things)
        elif each.name not in UNRECORDED:
            each.callback = _audited(
                each.callback, {**THINGS, **(things or {})}, by_hand=each.name in BY_HAND
            )


def _audited(view: Callable[..., Any], things: Things, *, by_hand: bool) -> Callable[..., Any]:
    if iscoroutinefunction(view):
        return view

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method in SAFE:
            return view(request, *args, **kwargs)
        with performing(_act_of(request, kwargs, things)) as act:
            if by_hand:
                return view(request, *args, **kwargs)
            with recorded():
                response: HttpResponseBase = view(request, *args, **kwargs)
                act.details["status"] = response.status_code
        return response

    return answer


def _act_of(request: HttpRequest, kwargs: dict[str, Any], things: Things) -> Act:
    project = _project_of(kwargs)
    thing = _thing_of(request, kwargs, things, project)
    details = {}
    if (said := request.POST.get("act", "")) and WORD.fullmatch(said):
        details["act"] = said
    return Act(
        action=(request.resolver_match and request.resolver_match.url_name) or "",
        actor=request.user.pk,
        project=project_id(project) or project_id(thing),
        thing=thing,
        details=details,
        finish=partial(_finish, request),
    )


def _finish(request: HttpRequest, act: Act) -> None:
    """What only the view finds out: whom it let in, and by which token."""
    act.actor = act.actor or request.user.pk
    token = getattr(request, "auth", None)
    if token is not None:
        act.project = token.project_id
        act.details["token"] = token.pk


def _project_of(kwargs: Mapping[str, Any]) -> models.Model | None:
    if "slug" not in kwargs:
        return None
    projects = apps.get_model("annotate.Project")._base_manager
    return projects.filter(slug=kwargs["slug"]).first()


def _thing_of(
    request: HttpRequest,
    kwargs: dict[str, Any],
    things: Things,
    project: models.Model | None,
) -> models.Model | None:
    """The most particular thing that is named, in the address or else in what is sent; else the
    project."""
    sent = {name: id_in(value) for name, value in request.POST.items() if isinstance(value, str)}
    for name, value in (*reversed(kwargs.items()), *sent.items()):
        if name in things and value is not None:
            label, column = things[name]
            return thing_of(label, column, value, project=project.pk if project else None)
    return project
