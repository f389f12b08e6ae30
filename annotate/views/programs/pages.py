"""For programs outside: tokens with which they call, and webhooks by which they are called."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from annotate.access import Request, Role, project_for, token_for, webhook_for
from annotate.audit.recording import about
from annotate.paging import page_of
from annotate.people.models import Project
from annotate.people.tokens import ApiToken
from annotate.webhooks.models import Event, Webhook


class TokenForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=ApiToken.Scope.choices,
        widget=forms.CheckboxSelectMultiple,
        label="It may",
        error_messages={"required": "Choose what the token may do."},
    )
    days = forms.IntegerField(
        min_value=1, max_value=3650, required=False, help_text="Until it expires. Empty: never."
    )

    class Meta:
        model = ApiToken
        fields = ("name", "scopes")


class WebhookForm(forms.ModelForm):
    events = forms.MultipleChoiceField(
        choices=Event.choices,
        widget=forms.CheckboxSelectMultiple,
        label="Tell it when",
        error_messages={"required": "Choose at least one event."},
    )

    class Meta:
        model = Webhook
        fields = ("url", "events", "is_slack")
        widgets = {"url": forms.URLInput({"size": 60, "spellcheck": "false"})}


@require_http_methods(["GET", "POST"])
def programs(request: Request, slug: str) -> HttpResponse:
    """Tokens and webhooks. A secret is on the page that answers its making, and on no other."""
    project = project_for(request, slug, Role.OPERATOR)
    act = request.POST.get("act", "")
    token_form = TokenForm(request.POST if act == "token" else None, prefix="token")
    webhook_form = WebhookForm(request.POST if act == "webhook" else None, prefix="webhook")
    made: dict[str, Any] = {}
    if act == "token" and token_form.is_valid():
        made, token_form = _issue(request, project, token_form), TokenForm(prefix="token")
    elif act == "webhook" and webhook_form.is_valid():
        made, webhook_form = _add(request, project, webhook_form), WebhookForm(prefix="webhook")
    context = {
        "project": project,
        "token_form": token_form,
        "webhook_form": webhook_form,
        "tokens": project.api_tokens.usable().select_related("user"),
        "webhooks": project.webhooks.with_trouble(),
        **made,
    }
    status = 422 if token_form.errors or webhook_form.errors else 200
    return render(request, "annotate/programs.html", context, status=status)


def _issue(request: Request, project: Project, form: TokenForm) -> dict[str, Any]:
    days = form.cleaned_data["days"]
    token, secret = ApiToken.issue(
        project=project,
        user=request.user,
        name=form.cleaned_data["name"],
        scopes=form.cleaned_data["scopes"],
        expires_at=timezone.now() + timedelta(days=days) if days else None,
    )
    about(token)
    return {"made": token, "secret": secret}


def _add(request: Request, project: Project, form: WebhookForm) -> dict[str, Any]:
    webhook = form.save(commit=False)
    webhook.project, webhook.created_by = project, request.user
    secret = webhook.make_secret()
    webhook.save()
    about(webhook)
    return {"made": webhook, "secret": secret}


@require_POST
def revoke(request: Request, slug: str, token_id: int) -> HttpResponse:
    token = token_for(request, slug, token_id)
    token.revoke()
    messages.success(request, f"The token {token.prefix}… is revoked.")
    return redirect("programs", slug)


@require_http_methods(["GET", "POST"])
def webhook(request: Request, slug: str, webhook_id: int) -> HttpResponse:
    """One webhook with its deliveries; a POST changes, pauses, resumes or deletes it."""
    found = webhook_for(request, slug, webhook_id)
    act = request.POST.get("act", "")
    form = WebhookForm(request.POST if act == "save" else None, instance=found)
    if act == "delete":
        found.delete()
        messages.success(request, f"The webhook to {found} is deleted.")
        return redirect("programs", slug)
    if act in ("pause", "resume"):
        {"pause": found.pause, "resume": found.resume}[act]()
        return redirect("programs_webhook", slug, webhook_id)
    if act == "save" and form.is_valid():
        form.save()
        messages.success(request, "Changes saved.")
        return redirect("programs_webhook", slug, webhook_id)
    page = page_of(found.deliveries.all(), request.GET, newest_first=True)
    context = {"project": found.project, "webhook": found, "form": form, "page": page}
    status = 422 if form.errors else 200
    return render(request, "annotate/programs_webhook.html", context, status=status)


@require_POST
def send_again(request: Request, slug: str, webhook_id: int, delivery_id: int) -> HttpResponse:
    found = webhook_for(request, slug, webhook_id)
    delivery = found.deliveries.numbered(delivery_id).first()
    if delivery is None:
        raise Http404("This delivery doesn't exist.")
    delivery.send_again()
    messages.success(request, "It is sent again, under the same id.")
    return redirect("programs_webhook", slug, webhook_id)


addresses = [
    path("", programs, name="programs"),
    path("tokens/<int:token_id>/revoke/", revoke, name="programs_revoke"),
    path("webhooks/<int:webhook_id>/", webhook, name="programs_webhook"),
    path(
        "webhooks/<int:webhook_id>/deliveries/<int:delivery_id>/",
        send_again,
        name="programs_send_again",
    ),
]
