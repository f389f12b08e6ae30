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
from annotate.people.tokens import ApiToken

SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
A_ROW = "What is said is a row that says who and when, and a change of mind is another one."
OF_ONES_OWN = "A draft that only its author sees."
OF_A_TALK = "A turn of a talk, which its labeler can take back till the whole is submitted."
A_LEASE = "As the page of it, which says who holds a task and till when."
NOTHING_THERE = "Answers that nothing is there."
AN_UPLOAD = "An upload is a draft till it is imported, and that is recorded."

UNRECORDED: Mapping[str, str] = {
    "assignment": f"{A_ROW} Labelers wait for it hundreds of times a day.",
    "review_one": A_ROW,
    **dict.fromkeys(["draft", "own_prompts_draft"], OF_ONES_OWN),
    **dict.fromkeys(["talk_say", "talk_choose", "talk_think_again", "talk_correct"], OF_A_TALK),
    **dict.fromkeys(["talk_go_back", "talk_retry", "talk_look"], OF_A_TALK),
    **dict.fromkeys(["prompts_import", "api_imports", "api_import"], AN_UPLOAD),
    "sign_in_by_mail": "Anybody may ask, and whether it has an effect is nobody's to see.",
    "preview": "Nothing is kept.",
    **dict.fromkeys(["api_nothing", "api_unknown"], NOTHING_THERE),
    **dict.fromkeys(["chat_new", "chat_send", "chat_regenerate", "chat_stop"], A_ROW),
    **dict.fromkeys(["chat_show", "chat_thumb", "chat_prefer", "chat_feedback"], A_ROW),
    **dict.fromkeys(["chat_edit", "chat_reasons", "api_label", "api_decision"], A_ROW),
    **dict.fromkeys(["api_answers", "api_chat_completions"], A_ROW),
    **dict.fromkeys(["api_responses", "api_raw_completions"], A_ROW),
    **dict.fromkeys(["api_feedback", "api_preferences"], A_ROW),
    **dict.fromkeys(["chat_rename", "chat_version"], "How a guest looks at a chat of their own."),
    "notices": "How operators look at notices of their own.",
    "rounds_charts": "Which charts somebody looks at, kept in their session.",
    **dict.fromkeys(["api_assignments_next", "api_reviews_next"], A_LEASE),
    "playground_cell": "The answer of a trial, which nothing else is made from.",
    "connections_test": "What another server answered; nothing is set.",
}
BY_HAND = frozenset(
    {
        *("sign_in", "account", "invitation", "password_reset", "security"),
        *("connections_new", "connections_one", "prompts_import_one"),
        *("policies_challenge", "policies_gate", "policies_roll_back", "policies_models"),
        *("api_import_run", "api_promote", "api_challenge", "api_roll_back"),
    }
)

# What is named in addresses and forms, and by which column.
Things = Mapping[str, tuple[str, str]]
THINGS: Things = {
    "membership_id": ("annotate.Membership", "pk"),
    "policy_id": ("annotate.Policy", "pk"),
    "connection_id": ("annotate.Connection", "pk"),
    "grid_id": ("annotate.Grid", "pk"),
    "judge_id": ("annotate.Judge", "pk"),
    "upload_id": ("annotate.Upload", "pk"),
    "conversation_id": ("annotate.Conversation", "pk"),
    "assignment_id": ("annotate.Assignment", "pk"),
    "prompt_id": ("annotate.Prompt", "pk"),
    "share_id": ("annotate.Share", "pk"),
    "token_id": ("annotate.ApiToken", "pk"),
    "webhook_id": ("annotate.Webhook", "pk"),
    "delivery_id": ("annotate.Delivery", "pk"),
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
    # Who calls with a token comes without the cookie that CSRF is about.
    is_program = getattr(view, "csrf_exempt", False)

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method in SAFE:
            return view(request, *args, **kwargs)
        with performing(_act_of(request, kwargs, things, is_program=is_program)) as act:
            if by_hand:
                return view(request, *args, **kwargs)
            with recorded():
                response: HttpResponseBase = view(request, *args, **kwargs)
                act.details["status"] = response.status_code
        return response

    return answer


def _act_of(
    request: HttpRequest, kwargs: dict[str, Any], things: Things, *, is_program: bool
) -> Act:
    project = _project_of_token(request) if is_program else _project_of(kwargs)
    # Programs name things in the address; what they send is read by the view alone.
    sent = {} if is_program else request.POST
    thing = _thing_of(sent, kwargs, things, project)
    details = {}
    if (said := sent.get("act", "")) and WORD.fullmatch(said):
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


def _project_of_token(request: HttpRequest) -> models.Model | None:
    secret = ApiToken.secret_in(request.headers.get("Authorization", ""))
    token = None if secret is None else ApiToken.objects.with_secret(secret)
    return token.project if token else None


def _project_of(kwargs: Mapping[str, Any]) -> models.Model | None:
    if "slug" not in kwargs:
        return None
    projects = apps.get_model("annotate.Project")._base_manager
    return projects.filter(slug=kwargs["slug"]).first()


def _thing_of(
    posted: Mapping[str, Any],
    kwargs: dict[str, Any],
    things: Things,
    project: models.Model | None,
) -> models.Model | None:
    """The most particular thing that is named, in the address or else in what is sent; else the
    project."""
    sent = {name: id_in(value) for name, value in posted.items() if isinstance(value, str)}
    for name, value in (*reversed(kwargs.items()), *sent.items()):
        if name in things and value is not None:
            label, column = things[name]
            return thing_of(label, column, value, project=project.pk if project else None)
    return project
