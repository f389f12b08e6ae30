"""The thumbs of a project for those who look after it: found, counted, and dealt with."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta

from django.db.models import Count, Exists, OuterRef, Q
from django.db.models.functions import TruncWeek
from django.utils import timezone

from annotate.chat.feedback import Feedback, FeedbackQuerySet
from annotate.labels.agreement import Share, share_of
from annotate.people.models import Project
from annotate.plots import Plot, intervals
from annotate.prompts.policies import Policy
from annotate.work.tasks import Task

TREND = timedelta(weeks=12)
Guest = tuple[int, str]  # who gave thumbs; of a product, for which of its users
Guests = dict[Guest, list[tuple[int, int]]]  # guest → (thumbs up, thumbs) of each week


def thumbs_of(project: Project) -> FeedbackQuerySet:
    """Those given in the chat that may be seen outside of it: without the chats whose guest said
    no."""
    given = Feedback.objects.filter(message__conversation__project=project).trainable()
    queued = Task.objects.of_kind(Task.Kind.WRITE, Task.Kind.RANK).filter(
        completions=OuterRef("message__completion")
    )
    return given.annotate(is_queued=Exists(queued))


@dataclass(frozen=True)
class Trend:
    """How the answers of a policy were received: the share of thumbs that are up."""

    policy: Policy
    share: Share
    plot: Plot | None


def trends(project: Project) -> list[Trend]:
    """Of each policy that got thumbs in the last twelve weeks, the newest first. What one guest
    says is one cluster: a guest with a hundred thumbs is no hundred guests."""
    since = timezone.now() - TREND
    rows = (
        thumbs_of(project)
        .filter(created_at__gte=since, message__policy__isnull=False)
        .order_by()
        .annotate(week=TruncWeek("created_at"))
        .values_list("message__policy", "week", "user", "message__conversation__end_user")
        .annotate(ups=Count("pk", filter=Q(thumb_up=True)), n=Count("pk"))
    )
    whole: dict[int, Guests] = defaultdict(lambda: defaultdict(list))
    weekly: dict[int, dict[date, Guests]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for policy, week, user, end_user, ups, n in rows:
        whole[policy][user, end_user].append((ups, n))
        weekly[policy][week.date()][user, end_user].append((ups, n))
    found = []
    for each in Policy.objects.filter(pk__in=whole).order_by("-pk"):
        weeks = [(week, _share(guests)) for week, guests in sorted(weekly[each.pk].items())]
        shares = [(week, share) for week, share in weeks if share]
        share = _share(whole[each.pk])
        if share:
            plot = intervals(f"Thumbs up, {each}, by week", shares)
            found.append(Trend(each, share, plot))
    return found


def _share(by_guest: Guests) -> Share | None:
    return share_of(
        (sum(ups for ups, _ in each), sum(n for _, n in each)) for each in by_guest.values()
    )
