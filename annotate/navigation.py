"""What stands in the page header: the project one is in, and the rooms one may enter there."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse

from annotate.access import MAY_ACT_AS
from annotate.people.models import Membership
from feedback_site import disk

View = TypeVar("View", bound=Callable[..., HttpResponseBase])

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
    """Adds `here` to the context of a project's pages: the project, the reader's role, and the
    rooms that role may enter."""
    membership: Membership | None = getattr(request, "membership", None)
    if membership is None:
        return {}
    rooms = [
        {"url_name": name, "label": label, "is_here": _is_in(name, membership, request)}
        for name, label, role in ROOMS
        if membership.role in MAY_ACT_AS[role]
    ]
    here = {"project": membership.project, "role": membership.role, "rooms": rooms}
    if membership.role == Membership.Role.OPERATOR:
        here["disk_trouble"] = disk.trouble()
    return {"here": here}


def in_room(name: str) -> Callable[[View], View]:
    """Says in the header in which room of ROOMS a page is whose address lies outside of it."""

    def mark(view: View) -> View:
        view.room = name  # type: ignore[attr-defined]
        return view

    return mark


def _is_in(room: str, membership: Membership, request: HttpRequest) -> bool:
    match = request.resolver_match
    named = getattr(match.func, "room", None) if match else None
    address = reverse(room, args=[membership.project.slug])
    return room == named if named else request.path.startswith(address)
