"""How well the people of a project judge: read from their labels when asked, never stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import combinations
from typing import Any

from django.db.models import Aggregate, Count, Exists, FloatField, OuterRef, Q, Sum
from django.db.models.functions import Length
from django.utils import timezone

from annotate.chat.feedback import Feedback
from annotate.chat.messages import NOT_ALLOWED, NOT_WHOLE, TOO_MANY, Message
from annotate.chat.preferences import Preference
from annotate.labels.agreement import (
    Agreement,
    Ranked,
    Share,
    agreement,
    by_prompt,
    concordance,
    is_careless,
    share_of,
)
from annotate.labels.gold import compare_with_gold
from annotate.labels.kinds.ranking.answer import Placement, Ranking
from annotate.labels.label import FROM_GUEST, LabelQuerySet
from annotate.people.models import Membership, Project
from annotate.prompts.withdrawals import withdrawn_from
from annotate.quality.reliability import Against, Reliability, against_the_others, votes_of
from annotate.quality.unusual import Twins, twins
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task

LOOKED_BACK = timedelta(days=30)  # for thumbs that do not count

LATEST = 500
MOST_TOLD = 1000
FASTEST, FEWEST_TIMED = 4.0, 10  # seconds an answer; answers behind such a median
Clusters = list[tuple[int, int]]


class Median(Aggregate):
    function = "PERCENTILE_CONT"
    template = "%(function)s(0.5) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = FloatField()


def rankings_of(project: Project) -> LabelQuerySet:
    """What counts as judgement: current, ordinary, in an order, and of nobody who withdrew."""
    current = Ranking.objects.of_project(project).current().ordinary().of_staff()
    kept = current.exclude(labeler__in=withdrawn_from(project))
    return kept.filter(outcome=Ranking.Outcome.RANKED)


def doubly_ranked(project: Project) -> list[Ranked]:
    """The rankings of prompts that more than one person ranked."""
    return _doubly(rankings_of(project))


def trusted_doubly_ranked(project: Project) -> list[Ranked]:
    """The same without those of people who are excluded from snapshots."""
    return _doubly(rankings_of(project).of_trusted())


def newest_doubly_ranked(rankings: LabelQuerySet) -> list[Ranked]:
    """The same of the MOST_TOLD newest of these rankings, to be quick."""
    newest = rankings.order_by("-pk").values("pk")[:MOST_TOLD]
    return _doubly(Ranking.objects.filter(pk__in=newest))


def _doubly(rankings: LabelQuerySet) -> list[Ranked]:
    other = rankings.filter(prompt=OuterRef("ranking__prompt")).exclude(
        labeler=OuterRef("ranking__labeler")
    )
    rows = (
        Placement.objects.filter(Exists(other), ranking__in=rankings.order_by().values("pk"))
        .order_by("ranking_id")
        .values_list(
            "ranking_id",
            "ranking__prompt_id",
            "ranking__labeler_id",
            "ranking__guideline_version",
            "ranking__created_at__date",
            "completion_id",
            "place",
        )
    )
    found: dict[int, tuple[Any, dict[int, int]]] = {}
    for pk, prompt, labeler, version, day, completion, place in rows:
        found.setdefault(pk, ((prompt, labeler, version, day), {}))[1][completion] = place
    return [
        Ranked(prompt, labeler, places, version, day)
        for (prompt, labeler, version, day), places in found.values()
    ]


def with_peers(rankings: Iterable[Ranked]) -> dict[int, Clusters]:
    """Labeler → for each prompt, how often they agreed with the others of how many comparisons."""
    clusters: dict[int, Clusters] = defaultdict(list)
    for same in by_prompt(rankings):
        of_each: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for one, other in combinations(same, 2):
            if one.labeler != other.labeler:
                met = concordance(one.places, other.places)
                for labeler in (one.labeler, other.labeler):
                    of_each[labeler].append((met.concordant, met.compared))
        for labeler, met_all in of_each.items():
            hits, trials = (sum(column) for column in zip(*met_all, strict=True))
            clusters[labeler].append((hits, trials))
    return clusters


def with_gold(project: Project) -> dict[int, Clusters]:
    """Labeler → how they did on hidden gold."""
    hidden = Assignment.objects.of_project(project).of_trial(Assignment.Trial.HIDDEN).ended()
    answers = list(hidden.with_gold())
    clusters: dict[int, Clusters] = defaultdict(list)
    for answer, result in zip(answers, compare_with_gold(answers), strict=True):
        clusters[answer.labeler_id].append(result)
    return clusters


@dataclass(frozen=True)
class Figures:
    """One labeler in a row of the leads' list. `reliability`: how often they are right, as far as
    all rankings together tell; `peers`: agreement with what the others together say, each of whom
    counts by their reliability."""

    member: Membership
    reliability: Reliability | None
    peers: Share | None
    gold: Share | None
    is_careless: bool
    answered: int
    skipped: int
    seconds: int
    median_seconds: float | None
    twin: str = ""  # who hardly ever differs from them
    twins: Twins | None = None

    @property
    def is_too_fast(self) -> bool:
        """Tells whether most answers came before anybody could have read two."""
        seconds = self.median_seconds
        return seconds is not None and seconds < FASTEST and self.answered >= FEWEST_TIMED

    @property
    def per_hour(self) -> float | None:
        return self.answered * 3600 / self.seconds if self.seconds else None

    @property
    def skip_rate(self) -> float | None:
        ended = self.answered + self.skipped
        return self.skipped / ended if ended else None


def labelers(project: Project, rankings: Iterable[Ranked]) -> list[Figures]:
    """Everybody who has answered or skipped something here, those in doubt first. `rankings`: those
    that `doubly_ranked` finds."""
    others, gold = against_the_others(votes_of(rankings)), with_gold(project)
    state = Assignment.State
    is_timed = Q(state=state.SUBMITTED, active_seconds__gt=0)
    work = (
        Assignment.objects.of_project(project)
        .exclude(task__batch=FROM_GUEST)
        .order_by()
        .values("labeler")
        .annotate(
            answered=Count("pk", filter=Q(state=state.SUBMITTED)),
            skipped=Count("pk", filter=Q(state=state.SKIPPED)),
            seconds=Sum("active_seconds", filter=is_timed, default=0),
            median_seconds=Median("active_seconds", filter=is_timed),
        )
    )
    done = {row["labeler"]: {n: v for n, v in row.items() if n != "labeler"} for row in work}
    members = project.memberships.select_related("user", "project").order_by("user__username")
    alike = {
        name: each
        for each in twins(list(rankings_of(project).values_list("pk", flat=True)))
        for name in each.labelers
    }
    names = {member.user_id: member.user.display_name for member in members}
    nothing = {"answered": 0, "skipped": 0, "seconds": 0, "median_seconds": None}
    figures = [
        Figures(
            member=member,
            reliability=others[member.user_id].reliability if member.user_id in others else None,
            peers=share_of(others[member.user_id].plain) if member.user_id in others else None,
            gold=share_of(gold[member.user_id]),
            is_careless=_stands_out(others.get(member.user_id), gold[member.user_id]),
            twins=(two := alike.get(member.user_id)),
            twin=names.get(two.other_than(member.user_id), "") if two else "",
            **done.get(member.user_id, nothing),
        )
        for member in members
        if member.user_id in done or member.user_id in others
    ]
    return sorted(figures, key=_in_doubt_first)


def _in_doubt_first(one: Figures) -> tuple[bool, ...]:
    return not one.is_careless, not one.twins, not one.is_too_fast


def _stands_out(others: Against | None, gold: Clusters) -> bool:
    """Measured by what somebody careful would agree with the others, and with gold."""
    own = [*(others.clusters if others else ()), *gold]
    return is_careless(own, others.wanted if others else None)


# One labeler's habits


@dataclass(frozen=True)
class Habits:
    """What somebody's order depends on besides what is written in the completions."""

    first_on_top: Share | None
    by_chance: float | None
    longer_wins: Share | None


def habits(member: Membership) -> Habits:
    """Over the latest rankings: how often what was shown first got the first place, and how often
    the longer of two wins. By chance the first one is on top as often as any other."""
    latest = rankings_of(member.project).by(member.user).order_by("-pk")[:LATEST]
    rows = Placement.objects.filter(ranking__in=latest.values("pk")).values_list(
        "ranking_id", "ranking__shown_order", "completion_id", "place", Length("completion__text")
    )
    boards: dict[int, tuple[list[int], dict[int, int], dict[int, int]]] = {}
    for pk, shown, completion, place, length in rows:
        _, places, lengths = boards.setdefault(pk, (shown, {}, {}))
        places[completion], lengths[completion] = place, -length
    tops: Clusters = []
    chances = []
    longer: Clusters = []
    for shown, places, lengths in boards.values():
        met = concordance(lengths, places)
        longer.append((met.concordant, met.compared))
        top = [pk for pk, place in places.items() if place == 1]
        if shown and len(top) < len(places):
            tops.append((int(places.get(shown[0]) == 1), 1))
            chances.append(len(top) / len(places))
    chance = sum(chances) / len(chances) if chances else None
    return Habits(share_of(tops), chance, share_of(longer))


# Guests

THUMBS_SHOWN = 8


@dataclass(frozen=True)
class Newcomer:
    """A new guest, with the thumbs and comparisons that wait for a look, the latest first."""

    member: Membership
    thumbs: list[Feedback]
    preferences: list[Preference]

    @property
    def ups(self) -> int:
        return sum(each.thumb_up for each in self.thumbs)

    @property
    def downs(self) -> int:
        return len(self.thumbs) - self.ups

    @property
    def shown(self) -> list[Feedback]:
        return self.thumbs[:THUMBS_SHOWN]

    @property
    def shown_preferences(self) -> list[Preference]:
        return self.preferences[:THUMBS_SHOWN]

    @property
    def given(self) -> int:
        return len(self.thumbs) + len(self.preferences)


def newcomers(project: Project) -> list[Newcomer]:
    """New guests who said of answers what could train, those who said the most first."""
    given = Feedback.objects.of_project(project).trainable().on_data().of_trusted()
    by_guest: dict[int, list[Feedback]] = defaultdict(list)
    for thumb in given.of_newcomers().with_answers().order_by("-pk"):
        by_guest[thumb.user_id].append(thumb)
    preferred: dict[int, list[Preference]] = defaultdict(list)
    compared = Preference.objects.of_new_guests(project).select_related("ranking__prompt")
    compared = compared.prefetch_related("ranking__placements__completion")
    for preference in compared.order_by("-pk"):
        preferred[preference.user_id].append(preference)
    members = project.memberships.filter(user__in={*by_guest, *preferred}).select_related("user")
    found = [Newcomer(each, by_guest[each.user_id], preferred[each.user_id]) for each in members]
    return sorted(found, key=lambda each: -each.given)


def left_out(project: Project) -> list[tuple[str, int]]:
    """(why, how many) of the thumbs of the last thirty days that do not count."""
    given = Feedback.objects.of_project(project).left_out(since=timezone.now() - LOOKED_BACK)
    private = Q(message__conversation__improves_model=False)
    whole = Q(message__state=Message.State.DONE) & Q(message__text__regex=r"\S")
    counts = given.aggregate(
        private=Count("pk", filter=private),
        broken=Count("pk", filter=~private & ~whole),
        many=Count("pk", filter=~private & whole),
    )
    why = {NOT_ALLOWED: "private", NOT_WHOLE: "broken", TOO_MANY: "many"}
    return [(sentence, counts[name]) for sentence, name in why.items() if counts[name]]


# Over time and by guideline


def over_time(rankings: Sequence[Ranked], labeler: int | None = None) -> list[tuple[date, Share]]:
    """(Monday, agreement) of each week; a prompt belongs to the week of its last ranking."""
    weeks: dict[date, list[Ranked]] = defaultdict(list)
    for same in by_prompt(rankings):
        last = max(each.day for each in same if each.day)
        weeks[last - timedelta(days=last.weekday())] += same
    shares = [(week, agreement(weeks[week], labeler=labeler).share) for week in sorted(weeks)]
    return [(week, share) for week, share in shares if share]


def by_guideline(rankings: Sequence[Ranked]) -> list[tuple[int, Agreement]]:
    """(version, agreement of those who followed it)."""
    versions = sorted({each.guideline_version for each in rankings if each.guideline_version})
    return [
        (version, agreement(r for r in rankings if r.guideline_version == version))
        for version in versions
    ]


# Gold


def golds(project: Project) -> list[tuple[Task, Share | None]]:
    """Open gold and practice tasks, with how far those who answered agree with the gold."""
    trials = Assignment.objects.of_project(project).exclude(trial="").ended()
    answers = list(trials.with_gold())
    results: dict[int, Clusters] = defaultdict(list)
    for answer, result in zip(answers, compare_with_gold(answers), strict=True):
        results[answer.task_id].append(result)
    tasks = project.tasks.open().exclude(gold=None).select_related("prompt").order_by("pk")
    return [(task, share_of(results[task.pk])) for task in tasks]


def gold_candidates(project: Project) -> LabelQuerySet:
    """The latest rankings of reviewers and operators that are not gold."""
    leads = project.memberships.exclude(role__in=[Membership.Role.LABELER, Membership.Role.GUEST])
    own = rankings_of(project).filter(labeler__in=leads.values("user"), gold_tasks=None)
    return own.select_related("prompt").order_by("-pk")[:25]
