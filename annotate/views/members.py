"""Who is in a project and as what: operators invite people and hand out their sign-in links."""

from __future__ import annotations

from dataclasses import dataclass

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from annotate.access import Request, Role, may_make_links_for, member_for, project_for
from annotate.ids import id_in
from annotate.paging import counted, page_of
from annotate.people.models import Membership, Project, User
from annotate.people.sign_in import login_link

MOST_AT_ONCE = 50


class InviteForm(forms.Form):
    names = forms.CharField(
        label="Names",
        widget=forms.Textarea({"rows": 3}),
        help_text="One a line: letters, digits and @ . + - _, without spaces.",
    )
    role = forms.ChoiceField(choices=Role.choices, initial=Role.LABELER)

    def __init__(self, project: Project, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.project = project

    def clean_names(self) -> list[str]:
        lines = (line.strip() for line in self.cleaned_data["names"].splitlines())
        names = list(dict.fromkeys(filter(None, lines)))
        if len(names) > MOST_AT_ONCE:
            raise ValidationError(f"These are {len(names)} names; {MOST_AT_ONCE} fit at once.")
        members = set(self.project.memberships.values_list("user__username", flat=True))
        for name in names:
            if name in members:
                raise ValidationError(f"“{name}” is a member already: see below.")
            try:
                User._meta.get_field("username").clean(name, None)
            except ValidationError:
                raise ValidationError(
                    f"“{name[:80]}” is no name: use letters, digits and @ . + - _ alone, "
                    "150 at most."
                )
        return names


@dataclass(frozen=True)
class Invited:
    """`link` signs the person in once. None: they have an account, and sign in as ever."""

    person: User
    link: str | None


@require_http_methods(["GET", "POST"])
def members(request: Request, slug: str) -> HttpResponse:
    project = project_for(request.user, slug, Role.OPERATOR)
    act = request.POST.get("act", "")
    form = InviteForm(project, request.POST if act == "invite" else None)
    invited: list[Invited] = []
    if act == "invite" and form.is_valid():
        role = form.cleaned_data["role"]
        admitted = [project.admit(name=name, role=role) for name in form.cleaned_data["names"]]
        invited = _invited(request.user, admitted)
        form = InviteForm(project)
    elif act == "link":
        invited = _invited(request.user, [_member(request, slug).user])
    elif act == "role":
        _change_role(request, _member(request, slug))
        return redirect("labelers_members", slug)
    shown = project.memberships.of_real_people().select_related("user")
    role = request.GET.get("role", "")
    if role in Role.values:
        shown = shown.in_role(role)
    page = page_of(shown, request.GET, newest_first=False)
    context = {
        "project": project,
        "form": form,
        "invited": invited,
        "roles": Role.choices,
        "role": role,
        "count": counted(shown),
        "page": page,
        "linkable": may_make_links_for(request.user, [each.user for each in page.rows]),
    }
    status = 422 if form.errors else 200
    return render(request, "annotate/members.html", context, status=status)


def _invited(operator: User, people: list[User]) -> list[Invited]:
    linkable = may_make_links_for(operator, people)
    return [Invited(each, login_link(each) if each.pk in linkable else None) for each in people]


def _member(request: Request, slug: str) -> Membership:
    return member_for(request.user, slug, id_in(request.POST.get("member")) or 0)


def _change_role(request: Request, member: Membership) -> None:
    role = request.POST.get("role", "")
    if role not in Role.values:
        return
    try:
        member.act_as(role)
    except ValidationError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"{member.user.display_name} is {role} now.")
