"""What stands in the page header: the project one is in, and the rooms one may enter there."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from annotate.access import MAY_ACT_AS
from annotate.people.models import Membership, User

# name of the URL, its label, the role it needs
ROOMS = (
    ("label", "Label", Membership.Role.LABELER),
    ("my_work", "My work", Membership.Role.LABELER),
    ("reviews", "Review", Membership.Role.REVIEWER),
    ("feedback", "Feedback", Membership.Role.REVIEWER),
    ("progress", "Progress", Membership.Role.REVIEWER),
    ("labelers", "Labelers", Membership.Role.REVIEWER),
    ("prompts", "Prompts", Membership.Role.OPERATOR),
    ("rounds", "Rounds", Membership.Role.OPERATOR),
    ("policies", "Policies", Membership.Role.OPERATOR),
    ("playground", "Playground", Membership.Role.OPERATOR),
    ("chat", "Chat", Membership.Role.GUEST),
)


def navigation(request: HttpRequest) -> dict[str, Any]:
    match = request.resolver_match
    user = getattr(request, "user", None)
    if match is None or "slug" not in match.kwargs or not isinstance(user, User):
        return {}
    membership = user.here
    if membership is None or membership.project.slug != match.kwargs["slug"]:
        return {}
    rooms = [
        {"url_name": name, "label": label, "is_here": _is_in(name, request)}
        for name, label, role in ROOMS
        if membership.role in MAY_ACT_AS[role]
    ]
    return {"here": {"project": membership.project, "role": membership.role, "rooms": rooms}}


def _is_in(room: str, request: HttpRequest) -> bool:
    """By its address, or by the name of that: `policies_suites` belongs to the policies."""
    match = request.resolver_match
    assert match is not None
    address = reverse(room, args=[match.kwargs["slug"]])
    return request.path.startswith(address) or str(match.url_name).startswith(f"{room}_")
