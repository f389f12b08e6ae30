"""One's account, and the page one lands on."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import logout
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import (
    Request,
    invitation_for,
    may_begin_projects,
    membership_for,
    own_membership_for,
)
from annotate.accounts.addresses import address_of
from annotate.accounts.mails import is_set_up
from annotate.audit.recording import recorded
from annotate.erasure import CannotErase, erase
from annotate.people.invitations import Invitation
from annotate.people.models import Membership, User
from annotate.views.home import effects_of, glances_of, greeting, to_do, work_of


class NameForm(forms.ModelForm):
    class Meta:
        model = User
        fields = ("first_name", "last_name")


class NoticesForm(forms.ModelForm):
    class Meta:
        model = User
        fields = ("notices_by_mail",)


@require_http_methods(["GET", "POST"])
def account(request: Request) -> HttpResponse:
    """One's name, as others see it, and one's projects."""
    person = request.user
    act = request.POST.get("act", "")
    name = NameForm(request.POST if act == "name" else None, instance=person)
    if name.is_valid():
        with recorded():
            name.save()
        messages.success(request, f"Your name is now {person.display_name}.")
        return redirect("account")
    by_mail = NoticesForm(request.POST if act == "notices" else None, instance=person)
    if by_mail.is_valid():
        with recorded():
            by_mail.save()
        messages.success(request, "Saved.")
        return redirect("account")
    if act == "leave":
        _leave(request, person)
        return redirect("account")
    if act == "erase" and _erase(request, person):
        return redirect("sign_in")
    context: dict[str, Any] = {"name": name, "memberships": person.memberships.active()}
    if is_set_up() and person.memberships.operating().exists():
        context |= {"by_mail": by_mail, "address": address_of(person)}
    status = 422 if name.errors else 200
    return render(request, "annotate/account.html", context, status=status)


def _leave(request: Request, person: User) -> None:
    member = own_membership_for(person, request.POST.get("member", ""))
    try:
        with recorded():
            member.leave()
    except ValidationError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"You have left {member.project}. Your labels stay there.")


def _erase(request: Request, person: User) -> bool:
    """Whoever types their own name means it."""
    if request.POST.get("erase_name", "") != person.username:
        messages.error(request, "Nothing was erased: type your user name to confirm.")
        return False
    try:
        erase(person)
    except CannotErase as error:
        messages.error(request, str(error))
        return False
    logout(request)
    return True


@require_http_methods(["GET", "POST"])
def home(request: Request) -> HttpResponse:
    """The projects one is in, and those to which people one knows invite."""
    invitations = Invitation.objects.known_to(request.user)
    if request.method == "POST":
        invitation = invitation_for(request.user, request.POST.get("invitation", ""))
        if request.POST.get("act") == "accept":
            invitation.accept(request.user)
        else:
            invitation.end()
        return redirect("home")
    memberships = list(request.user.memberships.active())
    if len(memberships) == 1 and not invitations:
        return redirect("project", slug=memberships[0].project.slug)
    context = {
        "greeting": greeting(),
        "memberships": memberships,
        "invitations": invitations,
        "may_begin": may_begin_projects(request.user),
    }
    return render(request, "annotate/home.html", context)


@require_GET
def project(request: Request, slug: str) -> HttpResponse:
    membership = membership_for(request, slug)
    if membership.role == Membership.Role.GUEST:
        return redirect("chat", slug=slug)
    context = {
        "project": membership.project,
        "greeting": greeting(),
        "to_do": to_do(membership),
        "work": work_of(membership),
        "effects": effects_of(membership),
        "glances": glances_of(membership),
    }
    return render(request, "annotate/project.html", context)
