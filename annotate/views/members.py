"""Who is in a project and as what: operators invite people and hand out their sign-in links."""

from __future__ import annotations

from dataclasses import dataclass

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from annotate.access import (
    Request,
    Role,
    may_make_links_for,
    member_for,
    open_invitation_for,
    project_for,
)
from annotate.accounts.mails import Mail, is_set_up
from annotate.ids import id_in
from annotate.paging import counted, page_of
from annotate.people.invitations import Invitation, SignInLink
from annotate.people.models import Membership, Project, User

MOST_AT_ONCE = 50
WITH_ADDRESS = " To send the invitation by e-mail, add the address: nora nora@example.org."


class InviteForm(forms.Form):
    names = forms.CharField(
        label="Names",
        widget=forms.Textarea({"rows": 3}),
        help_text="One per line: letters, digits and @ . + - _, no spaces.",
    )
    role = forms.ChoiceField(choices=Role.choices, initial=Role.LABELER)

    def __init__(self, project: Project, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.project = project
        if is_set_up():
            self.fields["names"].help_text += WITH_ADDRESS

    def clean_names(self) -> list[tuple[str, str]]:
        """(name, address) of each line; most have no address."""
        lines = (line.strip() for line in self.cleaned_data["names"].splitlines())
        asked = dict(_name_and_address(line) for line in dict.fromkeys(filter(None, lines)))
        if len(asked) > MOST_AT_ONCE:
            raise ValidationError(
                f"That is {len(asked)} names. Invite at most {MOST_AT_ONCE} at once."
            )
        here = self.project.memberships.here()
        members = set(here.values_list("user__username", flat=True))
        for name in asked:
            if name in members:
                raise ValidationError(f"“{name}” is already a member.")
            try:
                User._meta.get_field("username").clean(name, None)
            except ValidationError:
                raise ValidationError(_why_no_name(name))
        return list(asked.items())


def _name_and_address(line: str) -> tuple[str, str]:
    """“nora nora@example.org” has both. Raises ValidationError where no e-mail is sent."""
    name, _, last = line.rpartition(" ")
    address = last.strip("<>").lower()
    if not name or "@" not in address:
        return line, ""
    validate_email(address)
    if not is_set_up():
        raise ValidationError("This site sends no e-mail: enter names only, and hand on the links.")
    return name.strip(), address


def _why_no_name(name: str) -> str:
    if " " in name:
        return f"Names cannot contain spaces: “{name[:80]}”."
    return f"“{name[:80]}” is not a valid name: use 150 letters, digits and @ . + - _ at most."


@dataclass(frozen=True)
class Invited:
    """`link` is for one person, once. None: there is none for an operator to make, or it is on its
    way to `address`."""

    name: str
    link: str | None
    address: str = ""


@require_http_methods(["GET", "POST"])
def members(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    act = request.POST.get("act", "")
    form = InviteForm(project, request.POST if act == "invite" else None)
    invited: list[Invited] = []
    if act == "invite" and form.is_valid():
        role = form.cleaned_data["role"]
        invited = [
            _invite(name, address, project=project, role=role, by=request.user)
            for name, address in form.cleaned_data["names"]
        ]
        form = InviteForm(project)
    elif act == "link":
        invited = [_sign_in_link(request.user, _member(request, slug))]
    elif act == "role":
        _change_role(request, _member(request, slug))
        return redirect("labelers_members", slug)
    elif act == "remove":
        _remove(request, _member(request, slug))
        return redirect("labelers_members", slug)
    elif act == "withdraw":
        open_invitation_for(request, slug, request.POST.get("member", "")).end()
        return redirect("labelers_members", slug)
    shown = project.memberships.here().of_real_people().select_related("user")
    role = request.GET.get("role", "")
    if role in Role.values:
        shown = shown.in_role(role)
    page = page_of(shown, request.GET, newest_first=False)
    context = {
        "project": project,
        "form": form,
        "invited": invited,
        "is_sign_in": act == "link",
        "invitations": project.invitations.open().select_related("mail"),
        "roles": Role.choices,
        "role": role,
        "count": counted(shown),
        "page": page,
        "linkable": may_make_links_for(request.user, [each.user for each in page.rows], project),
    }
    status = 422 if form.errors else 200
    return render(request, "annotate/members.html", context, status=status)


def _invite(name: str, address: str, *, project: Project, role: str, by: User) -> Invited:
    if address:
        Mail.invite(address, project=project, name=name, role=role, by=by)
        return Invited(name, None, address)
    return Invited(name, Invitation.issue(project=project, name=name, role=role, by=by))


def _sign_in_link(operator: User, member: Membership) -> Invited:
    person, project = member.user, member.project
    if not may_make_links_for(operator, [person], project):
        return Invited(person.display_name, None)
    return Invited(person.display_name, SignInLink.hand_out(person, by=operator, project=project))


def _remove(request: Request, member: Membership) -> None:
    try:
        member.leave()
    except ValidationError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"{member.user.display_name} is no longer a member.")


def _member(request: Request, slug: str) -> Membership:
    return member_for(request, slug, id_in(request.POST.get("member")) or 0)


def _change_role(request: Request, member: Membership) -> None:
    role = request.POST.get("role", "")
    if role not in Role.values:
        return
    try:
        member.act_as(role)
    except ValidationError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"{member.user.display_name} is now {role}.")
