"""Which figures somebody has chosen to see drawn: remembered in their session, for all rounds."""

from __future__ import annotations

from collections.abc import Iterable

from django.urls import reverse

from annotate.access import Request
from rlhf.models.runs import Run

MOST_PANELS = 24
LONGEST = 200  # characters of a name
PANELS = "panels"


def panels_of(request: Request) -> list[str]:
    """Returns the figures that were chosen, each as kind:name."""
    return list(request.session.get(PANELS, []))


def remember_panels(request: Request, chosen: Iterable[str]) -> None:
    """Keeps what was chosen, each once, up to MOST_PANELS of them."""
    known = dict.fromkeys(each for each in chosen if ":" in each and len(each) <= LONGEST)
    request.session[PANELS] = list(known)[:MOST_PANELS]


def sources_of(slug: str, runs: Iterable[Run]) -> dict[str, str]:
    """Maps each run to the address of its numbers."""
    return {str(run.pk): reverse("rounds_metrics", args=[slug, run.pk]) for run in runs}
