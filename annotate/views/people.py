"""Signing in, and the page one lands on."""

from django import forms
from django.contrib import messages
from django.contrib.auth import logout, update_session_auth_hash
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import (
    Request,
    invitation_for,
    may_begin_projects,
    membership_for,
    own_membership_for,
)
from annotate.erasure import CannotErase, erase
from annotate.people.invitations import Invitation
from annotate.people.models import Membership, User
from annotate.people.sign_in import sign_in_by, user_of_link
from annotate.views.home import effects_of, greeting, to_do, work_of

SHOWN_LINKS = 20


@login_not_required
@require_http_methods(["GET", "POST"])
def sign_in_by_link(request: HttpRequest, uid: str, token: str) -> HttpResponse:
    """A link is used up by the button, not by opening it: mail scanners open links."""
    if request.method == "POST" and sign_in_by(request, uid, token):
        return redirect("home")
    user = user_of_link(uid, token)
    if user is None:
        return render(request, "annotate/link_used.html", status=410)
    return render(request, "annotate/sign_in_by_link.html", {"person": user})


class NameForm(forms.ModelForm):
    class Meta:
        model = User
        fields = ("first_name", "last_name")


@require_http_methods(["GET", "POST"])
def account(request: Request) -> HttpResponse:
    """One's name, as others see it, and one's password: with one, nobody needs a sign-in link."""
    person = request.user
    kind = PasswordChangeForm if person.has_usable_password() else SetPasswordForm
    act = request.POST.get("act", "")
    name = NameForm(request.POST if act == "name" else None, instance=person)
    password = kind(person, request.POST if act == "password" else None)
    if name.is_valid():
        name.save()
        messages.success(request, f"Your name is now {person.display_name}.")
        return redirect("account")
    if password.is_valid():
        password.save()
        update_session_auth_hash(request, person)
        messages.success(request, "Password set. You can sign in with it from now on.")
        return redirect("account")
    if act == "leave":
        _leave(request, person)
        return redirect("account")
    if act == "erase" and _erase(request, person):
        return redirect("sign_in")
    context = {
        "name": name,
        "password": password,
        "memberships": person.memberships.active(),
        "links": person.sign_in_links.select_related("by", "project")[:SHOWN_LINKS],
    }
    status = 422 if name.errors or password.errors else 200
    return render(request, "annotate/account.html", context, status=status)


def _leave(request: Request, person: User) -> None:
    member = own_membership_for(person, request.POST.get("member", ""))
    try:
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
    }
    return render(request, "annotate/project.html", context)
