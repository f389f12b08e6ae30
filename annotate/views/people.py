"""Signing in, and the page one lands on."""

from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import Request, membership_for
from annotate.home import to_do
from annotate.models import Membership
from annotate.sign_in import user_of_link


@login_not_required
@require_http_methods(["GET", "POST"])
def sign_in_by_link(request: HttpRequest, uid: str, token: str) -> HttpResponse:
    """A link is used up by the button, not by opening it: mail scanners open links."""
    user = user_of_link(uid, token)
    if user is None:
        return render(request, "annotate/link_used.html", status=410)
    if request.method == "POST":
        login(request, user, backend="annotate.sign_in.Backend")
        return redirect("home")
    return render(request, "annotate/sign_in_by_link.html", {"person": user})


@require_GET
def home(request: Request) -> HttpResponse:
    memberships = list(request.user.memberships.active())
    if len(memberships) == 1:
        return redirect("project", slug=memberships[0].project.slug)
    return render(request, "annotate/home.html", {"memberships": memberships})


@require_GET
def project(request: Request, slug: str) -> HttpResponse:
    membership = membership_for(request.user, slug)
    if membership.role == Membership.Role.GUEST:
        return redirect("chat", slug=slug)
    context = {"project": membership.project, "to_do": to_do(membership)}
    return render(request, "annotate/project.html", context)
