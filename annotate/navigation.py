"""What stands in the page header: the project one is in, and the rooms one may enter there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse

from annotate.access import MAY_ACT_AS, Role, may_try
from annotate.labelling.hot_queries import memberships_of
from annotate.notices.models import unseen_of
from annotate.people.models import Membership
from feedback_site import disk

View = TypeVar("View", bound=Callable[..., HttpResponseBase])


@dataclass(frozen=True)
class Page:
    """A page of every project, and the role it needs."""

    url_name: str
    label: str
    role: str
    words: str = ""  # by which people look for it, beside its label
    is_to_try: bool = False  # also for labelers, where the project lets them

    def is_open_to(self, membership: Membership) -> bool:
        """Whether this member may enter it."""
        if membership.role in MAY_ACT_AS[self.role]:
            return True
        return self.is_to_try and may_try(membership)


# Room → its pages, the first of them the one most people come for.
ROOMS: dict[str, tuple[Page, ...]] = {
    "Work": (
        Page("label", "Label", Role.LABELER, "annotate tasks rank write"),
        Page("my_work", "My work", Role.LABELER, "answers returned"),
        Page("reviews", "Review", Role.REVIEWER, "disagreement"),
        Page("guideline", "Guideline", Role.LABELER, "instructions"),
        Page("chat", "Chat", Role.GUEST, "talk"),
    ),
    "Data": (
        Page("prompts", "Prompts", Role.OPERATOR, "export tasks tags"),
        Page("prompts_import", "Import", Role.OPERATOR, "upload csv jsonl parquet"),
        Page(
            "documents", "Documents", Role.OPERATOR, "pre-training texts passages retrieval", True
        ),
        Page("talks", "Talks", Role.OPERATOR, "conversations red team"),
        Page("gold", "Gold", Role.REVIEWER, "qualification practice"),
        Page("policies_doubted", "Doubted rankings", Role.OPERATOR, "reward model second person"),
        Page("feedback", "Feedback", Role.REVIEWER, "thumbs guests"),
    ),
    "Train": (
        Page("rounds", "Rounds", Role.OPERATOR, "runs training"),
        Page("rounds_new", "New round", Role.OPERATOR, "launch train sft ppo dpo"),
        Page("rounds_compare", "Compare rounds", Role.OPERATOR, "charts side by side"),
        Page("rounds_queue", "Queue and machines", Role.OPERATOR, "gpu workers disk"),
        Page("policies_models", "Published models", Role.OPERATOR, "checkpoints prune download"),
    ),
    "Serve": (
        Page("policies", "Policies", Role.OPERATOR, "models live promote roll back"),
        Page("policies_evaluation", "Evaluation", Role.OPERATOR, "win rate compare"),
        Page("policies_suites", "Behaviour suites", Role.OPERATOR, "scorecard tests benchmark"),
        Page("policies_limits", "Gate", Role.OPERATOR, "limits challenger promotion"),
        Page("policies_production", "Production", Role.OPERATOR, "latency thumbs traffic"),
        Page("policies_costs", "Costs", Role.OPERATOR, "price tokens break-even wage"),
        Page("policies_decisions", "Decisions", Role.OPERATOR, "promotions history"),
        Page("playground", "Playground", Role.OPERATOR, "grids sampling", True),
        Page("playground_templates", "Templates", Role.OPERATOR, "system prompt versions", True),
        Page("playground_rules", "Rules of prompting", Role.OPERATOR, "system prompt"),
        Page("connections", "Connections", Role.OPERATOR, "endpoints openai keys"),
    ),
    "Team": (
        Page("progress", "Progress", Role.REVIEWER, "agreement pace"),
        Page("batches", "Batches", Role.OPERATOR, "deadline priority language skill"),
        Page("labelers", "Labelers", Role.REVIEWER, "people quality reliability"),
        Page("judges", "Judges", Role.OPERATOR, "llm as judge rubric"),
        Page("labelers_guests", "New guests", Role.REVIEWER, "vouch"),
        Page("labelers_members", "Members", Role.OPERATOR, "invite people roles"),
        Page("notices", "Notices", Role.OPERATOR, "inbox bell alerts"),
        Page("audit", "Audit log", Role.OPERATOR, "history who changed"),
        Page("programs", "API and webhooks", Role.OPERATOR, "tokens integrations slack"),
        Page("project_settings", "Settings", Role.OPERATOR, "project options"),
    ),
}
MOST_WITHOUT_MENUS = 5  # so many pages are links side by side


@dataclass(frozen=True)
class Room:
    """The pages of a room that somebody may enter, and whether they are on one of them."""

    name: str
    pages: list[Page]
    is_here: bool


def navigation(request: HttpRequest) -> dict[str, Any]:
    """Adds `here` to the context of a project's pages: the project, the reader's role, the page,
    the rooms that role may enter, or their pages where these are few."""
    membership: Membership | None = getattr(request, "membership", None)
    if membership is None:
        return {}
    page = _page_of(request, membership.project.slug)
    rooms = [Room(name, pages, page in pages) for name, pages in _rooms_of(membership)]
    pages = [each for room in rooms for each in room.pages]
    are_few = len(pages) <= MOST_WITHOUT_MENUS
    here = {
        "project": membership.project,
        "role": membership.role,
        "page": page,
        "rooms": [] if are_few else rooms,
        "pages": pages if are_few else [],
    }
    if membership.role != Role.GUEST:
        here["others"] = partial(_elsewhere, membership, page)  # asked where there is a header
    if membership.role == Role.OPERATOR:
        here["disk_trouble"] = disk.trouble()
        person, project = membership.user_id, membership.project_id
        here["unseen"] = partial(unseen_of, person, project)  # asked where there is a header
    return {"here": here}


def pages_of(membership: Membership) -> Iterator[tuple[str, Page]]:
    """Lists every page that this member may enter, with the name of its room."""
    for name, pages in _rooms_of(membership):
        for page in pages:
            yield name, page


def in_room(name: str) -> Callable[[View], View]:
    """Says to which page of ROOMS a view belongs whose address lies outside of all of them."""

    def mark(view: View) -> View:
        view.room = name  # type: ignore[attr-defined]
        return view

    return mark


def _rooms_of(membership: Membership) -> Iterator[tuple[str, list[Page]]]:
    """Without those in which they have nothing to look for."""
    for name, pages in ROOMS.items():
        if mine := [page for page in pages if page.is_open_to(membership)]:
            yield name, mine


def _page_of(request: HttpRequest, slug: str) -> Page | None:
    """The page at whose address, or below it, one is; else the one that the view names."""
    every = {page.url_name: page for pages in ROOMS.values() for page in pages}
    addresses = {reverse(name, args=[slug]): page for name, page in every.items()}
    at = [address for address in addresses if request.path.startswith(address)]
    if at:
        return addresses[max(at, key=len)]
    match = request.resolver_match
    return every.get(getattr(match.func, "room", "")) if match else None


def _elsewhere(membership: Membership, page: Page | None) -> list[tuple[str, str]]:
    """(name, address) of one's other projects: of the same page where one may enter it there."""
    found = []
    for other in memberships_of(user=membership.user_id):
        if other.project_id != membership.project_id:
            is_open = page is not None and page.is_open_to(other)
            name = page.url_name if page and is_open else "project"
            found.append((other.project.name, reverse(name, args=[other.project.slug])))
    return found
