"""How one's own account is kept: password, second factor, address, sessions and history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.safestring import mark_safe
from django.views.decorators.http import require_http_methods

from annotate.access import Request
from annotate.accounts import addresses as mail_addresses
from annotate.accounts import mails, second_factor
from annotate.accounts import provider as identity
from annotate.accounts.mails import Mail, tell
from annotate.accounts.sign_ins import end_others, stay
from annotate.audit.recording import recorded
from annotate.ids import id_in
from annotate.people.models import User
from annotate.views.accounts.signing_in import AddressForm

SHOWN = 20
KEY_NAME_LENGTH = 60


@require_http_methods(["GET", "POST"])
def security(request: Request) -> HttpResponse:
    person = request.user
    act = request.POST.get("act", "")
    kind = PasswordChangeForm if person.has_usable_password() else SetPasswordForm
    password = kind(person, request.POST if act in ("password", "first_password") else None)
    address = AddressForm(request.POST if act == "address" else None)
    if password.is_valid():
        _set_password(request, password)
        return redirect("security")
    if address.is_valid() and mails.is_set_up() and _ask_to_verify(person, address):
        messages.success(request, "Open the link in the message that is on its way to you.")
        return redirect("security")
    if act == "codes" and second_factor.is_protected(person):
        return _show_codes(request, _new_codes(person))
    if act == "connect" and identity.is_set_up():
        return _leave_for_provider(request)
    if act in ACTS:
        with recorded():
            ACTS[act](request)
        return redirect("security")
    status = 422 if password.errors or address.errors else 200
    context = _shown(request) | {"password": password, "address_form": address}
    return render(request, "annotate/accounts/security.html", context, status=status)


def _shown(request: Request) -> dict[str, Any]:
    person = request.user
    waiting = mail_addresses.waiting_address_of(person)
    return {
        "factors": second_factor.factors_of(person),
        "has_app": second_factor.has_app(person),
        "codes_left": len(second_factor.unused_codes(person)),
        "by_mail": mails.is_set_up(),
        "address": mail_addresses.address_of(person),
        "waiting": waiting,
        "mail_trouble": Mail.objects.trouble_of(person) if waiting else "",
        "provider_name": settings.OIDC_NAME if identity.is_set_up() else "",
        "is_connected": identity.connected(person),
        "sessions": person.sign_ins.open(),
        "this_session": request.session.session_key,
        "history": person.sign_ins.all()[:SHOWN],
        "links": person.sign_in_links.select_related("by", "project")[:SHOWN],
    }


def _set_password(request: Request, form: Any) -> None:
    person = request.user
    form.save(commit=False)  # hashes it, which holds no connection
    with recorded():
        person.save(update_fields=["password"])
        stay(request, person)
        tell(person, "Its password was changed.")
    messages.success(request, "Password set. All other browsers are signed out.")


def _ask_to_verify(person: User, form: AddressForm) -> bool:
    address = form.cleaned_data["address"].lower()
    if address == mail_addresses.address_of(person):
        form.add_error("address", "This is your address already.")
        return False
    with recorded():
        mail_addresses.ask_to_verify(person, address)
        Mail.write(Mail.Kind.VERIFY, address, person=person)
    return True


@recorded()
def _new_codes(person: User) -> list[str]:
    return second_factor.new_codes(person)


def _leave_for_provider(request: Request) -> HttpResponse:
    """A page with a link: a form may lead to no other site."""
    try:
        where = identity.begin(request, to=reverse("security"), connects=request.user.pk)
    except identity.CannotSignIn as error:
        messages.error(request, str(error))
        return redirect("security")
    context = {"where": where, "provider_name": settings.OIDC_NAME}
    return render(request, "annotate/accounts/provider_connect.html", context)


def _remove_factor(request: Request) -> None:
    person = request.user
    if second_factor.remove(person, id_in(request.POST.get("factor")) or 0):
        tell(person, "An app or security key was removed.")
        messages.success(request, "Removed.")


def _forget_address(request: Request) -> None:
    if before := mail_addresses.drop(request.user):
        tell(request.user, "This address was removed from it.", to=before)
        messages.success(request, "Your address is removed.")


def _disconnect(request: Request) -> None:
    identity.disconnect(request.user)
    tell(request.user, f"{settings.OIDC_NAME} can no longer be used to sign in.")
    messages.success(request, f"{settings.OIDC_NAME} is disconnected.")


def _end(request: Request) -> None:
    number = id_in(request.POST.get("session")) or 0
    for each in request.user.sign_ins.open().besides(request).numbered(number):
        each.end()
        messages.success(request, "That browser is signed out.")


def _end_others(request: Request) -> None:
    end_others(request, request.user)
    messages.success(request, "All other browsers are signed out.")


ACTS: dict[str, Callable[[Request], None]] = {
    "remove": _remove_factor,
    "forget_address": _forget_address,
    "disconnect": _disconnect,
    "end": _end,
    "end_others": _end_others,
}


class CodeForm(forms.Form):
    code = forms.CharField(
        label="Code",
        max_length=20,
        widget=forms.TextInput({"inputmode": "numeric", "autocomplete": "one-time-code"}),
    )


@require_http_methods(["GET", "POST"])
def app(request: Request) -> HttpResponse:
    """An app that shows codes: added once it has shown one."""
    person = request.user
    if second_factor.has_app(person):
        return redirect("security")
    form = CodeForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            codes = second_factor.add_app(request, person, form.cleaned_data["code"])
        except ValidationError as error:
            form.add_error("code", error)
        else:
            return _protected(request, "An app was added as second factor.", codes)
    secret = second_factor.secret_for_app(request)
    context = {
        "form": form,
        "secret": secret,
        # Drawn here, of the person's name in base 256: no text of theirs is in it.
        "qr_code": mark_safe(second_factor.qr_code(person, secret)),  # noqa: S308
    }
    status = 422 if form.errors else 200
    return render(request, "annotate/accounts/app.html", context, status=status)


@require_http_methods(["GET", "POST"])
def key(request: Request) -> HttpResponse:
    """A security key, or what the device itself has for one."""
    trouble = ""
    if request.method == "POST":
        name = request.POST.get("name", "").strip()[:KEY_NAME_LENGTH]
        try:
            codes = second_factor.add_key(request.user, name, request.POST.get("key", ""))
        except ValidationError as error:
            trouble = str(error.message)
        else:
            return _protected(request, "A security key was added as second factor.", codes)
    context = {"key": second_factor.key_to_add(request.user), "trouble": trouble}
    status = 422 if trouble else 200
    return render(request, "annotate/accounts/key.html", context, status=status)


def _protected(request: Request, said: str, codes: list[str]) -> HttpResponse:
    tell(request.user, said)
    messages.success(request, "From now on you are asked for it when you sign in.")
    return _show_codes(request, codes) if codes else redirect("security")


def _show_codes(request: Request, codes: list[str]) -> HttpResponse:
    return render(request, "annotate/accounts/codes.html", {"codes": codes})


@require_http_methods(["GET", "POST"])
def verify_address(request: Request, signed: str) -> HttpResponse:
    """Only the account that named the address can verify it, in a browser where it is signed in."""
    person = request.user
    waiting = mail_addresses.waiting_for(person, signed)
    if waiting is None:
        return render(request, "annotate/link_used.html", status=410)
    if request.method == "POST":
        try:
            before = mail_addresses.verify(person, waiting.email)
        except ValidationError as error:
            messages.error(request, error.message)
        else:
            if before:
                tell(person, f"Its address is {waiting.email} now, no longer this one.", to=before)
            messages.success(request, f"{waiting.email} is your address now.")
        return redirect("security")
    return render(request, "annotate/accounts/verify_address.html", {"waiting": waiting})


addresses = [
    path("", security, name="security"),
    path("app/", app, name="security_app"),
    path("key/", key, name="security_key"),
    path("address/<str:signed>/", verify_address, name="verify_address"),
]
