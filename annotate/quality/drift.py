"""Labelers who agree with the others less than they used to: a tired one, or one who has read the
guideline otherwise of late."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from annotate.labels.agreement import Ranked
from annotate.notices.models import News
from annotate.people.models import Membership, Project
from annotate.quality.labelers import doubly_ranked
from annotate.quality.reliability import Reliability, against_the_others, votes_of
from annotate.webhooks.models import Event, announce

LATELY = timedelta(days=7)
EVERY = timedelta(days=1)


@dataclass(frozen=True)
class Drift:
    """How reliable somebody was before the last days, and in them."""

    before: Reliability
    lately: Reliability


def drifts(rankings: Iterable[Ranked], today: date) -> Iterator[tuple[int, Drift]]:
    """(labeler, drift) of everybody whose reliability in the last days surely lies below that of
    the days before: their 95 % intervals have nothing in common."""
    since = today - LATELY
    # Somebody of late and the same person before count as two people.
    twice = [
        replace(each, labeler=2 * each.labeler + (each.day is not None and each.day > since))
        for each in rankings
    ]
    found = {name: each.reliability for name, each in against_the_others(votes_of(twice)).items()}
    for name, lately in sorted(found.items()):
        before = found.get(name - 1)
        if name % 2 and before and lately and lately.interval[1] < before.interval[0]:
            yield name // 2, Drift(before, lately)


def look_for_drifts() -> int:
    """Looks over one project whose day it is; returns how many of its labelers drift."""
    project = Project.objects.to_look_over(EVERY).first()
    if project is None:
        return 0
    Project.objects.filter(pk=project.pk).update(labelers_seen_at=timezone.now())
    return tell_of_drifts(project)


def tell_of_drifts(project: Project) -> int:
    """Tells the operators and the webhooks of everybody who drifts, each once in so many days as
    are looked at; returns of how many."""
    now = timezone.now()
    members = {each.user_id: each for each in project.memberships.untold_of_drift(now - LATELY)}
    found = [
        (members[labeler], drift)
        for labeler, drift in drifts(doubly_ranked(project), timezone.localdate())
        if labeler in members
    ]
    for member, drift in found:
        _tell(member, drift)
    return len(found)


@transaction.atomic
def _tell(member: Membership, drift: Drift) -> None:
    Membership.objects.filter(pk=member.pk).update(drift_told_at=timezone.now())
    name, slug = member.user.display_name, member.project.slug
    before, lately = (f"{each.value:.0%}" for each in (drift.before, drift.lately))
    line = f"{name} drifts: right on {lately} of comparisons in the last week, on {before} before"
    told: dict[str, Any] = {
        "labeler": member.user.username,
        "before": round(drift.before.value, 4),
        "lately": round(drift.lately.value, 4),
    }
    announce(
        member.project_id,
        Event.DRIFT,
        subject=f"labeler {member.user_id}",
        data=lambda: told,
        news=News(line, reverse("labeler", args=[slug, member.pk])),
    )
