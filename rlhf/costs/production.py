"""What guests and products got from each policy over time, and whether the challenger is better."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Count, Min, Q
from django.db.models.functions import TruncDay, TruncHour, TruncWeek
from django.utils import timezone

from annotate.chat.inbox import thumbs_of
from annotate.costs.models import CallQuerySet
from annotate.costs.totals import Times, Total, times, together, totals
from annotate.labels.agreement import Share, share_of
from annotate.models import Call, Feedback, Message, Policy, Project
from rlhf.costs.page import TIMES, in_ms
from rlhf.evaluation.sequential import Sequential, Thumbs, compare
from rlhf.models.outcomes import Promotion, TrainedPolicy
from rlhf.models.runs import Round
from rlhf.stages.chart import colours_of

DRAWN = 6  # policies, those with the most answers
NEWEST = 10  # rated answers that are shown
ROWS = 60  # of the table of moments; all are in the CSV
# Up to so many days back, what is drawn is one of these long.
MOMENTS = {1: ("hour", TruncHour), 30: ("day", TruncDay), 90: ("week", TruncWeek)}
Guest = tuple[int, str]  # who gave thumbs; of a product, for which of its users
Clusters = dict[Guest, tuple[int, int]]


@dataclass(frozen=True)
class Served:
    """One policy in the period. `thumbs`: the share that is up; `round`: the one that made it."""

    policy: Policy
    total: Total
    times: Times
    thumbs: Share | None
    guests: int
    round: Round | None
    logged: int = 0  # answers of other servers, which no call of ours asked for


@dataclass(frozen=True)
class Moment:
    """A day, or an hour, of one policy."""

    at: datetime
    policy: Policy
    total: Total
    times: Times
    thumbs: Share | None


@dataclass(frozen=True)
class Duel:
    """Live against challenger: the first thumb that each guest gave to each of the two since the
    challenge began."""

    live: Policy
    challenger: Policy
    since: datetime
    test: Sequential


@dataclass(frozen=True)
class Production:
    served: list[Served]
    moments: list[Moment]
    more_moments: bool
    unit: str
    charts: list[dict[str, Any]]
    not_drawn: int
    duel: Duel | None
    newest: list[tuple[Feedback, Round | None]] = field(default_factory=list)


def production(project: Project, *, days: int) -> Production:
    seen = over_time(project, days=days)
    rounds, logged = _rounds(project), _logged(project, days=days)
    by_policy: dict[Policy, list[Total]] = defaultdict(list)
    for moment in seen.moments:
        by_policy[moment.policy].append(moment.total)
    took = times(seen.calls, "policy", among=seen.totals)
    served = [
        Served(
            policy,
            together(found),
            took.get(policy.pk, Times()),
            *_over_all(clusters for (pk, _), clusters in seen.thumbs.items() if pk == policy.pk),
            rounds.get(policy.pk),
            logged.get(policy.pk, 0),
        )
        for policy, found in by_policy.items()
    ]
    served.sort(key=lambda each: (-each.total.answered, -each.policy.pk))
    drawn = [each.policy for each in served[:DRAWN]]
    newest = list(thumbs_of(project).for_inbox().order_by("-pk")[:NEWEST])
    return Production(
        served=served,
        moments=seen.moments[:ROWS],
        more_moments=len(seen.moments) > ROWS,
        unit=seen.unit,
        charts=charts(drawn, seen.moments, project.currency),
        not_drawn=len(served) - len(drawn),
        duel=duel_of(project),
        newest=[(each, _made_by(each, rounds)) for each in newest],
    )


def _made_by(thumb: Feedback, rounds: dict[int, Round]) -> Round | None:
    """The round that made the policy whose answer it is about."""
    assert thumb.message
    policy = thumb.message.policy_id
    return rounds.get(policy) if policy else None


@dataclass(frozen=True)
class OverTime:
    """`unit`: how long a moment is; the newest come first."""

    unit: str
    calls: CallQuerySet
    totals: Mapping[tuple[int, datetime], Total]
    moments: list[Moment]
    thumbs: Mapping[tuple[int, datetime], Clusters]


def over_time(project: Project, *, days: int) -> OverTime:
    """What each policy gave and got in each hour, day or week of the period."""
    unit, truncated = next(each for most, each in MOMENTS.items() if days <= most)
    since = timezone.now() - timedelta(days=days)
    calls = Call.objects.of_project(project).between(since).of_products()
    by_moment = calls.annotate(moment=truncated("at"))
    thumbs = _thumbs(project, since, truncated)
    found = totals(by_moment, "policy", "moment")
    took = times(by_moment, "policy", "moment", among=found)
    policies = {each.pk: each for each in project.policies.all()}
    moments = _moments(policies, found, took, thumbs)
    return OverTime(unit, calls, found, moments, thumbs)


HEADER = (
    *("from", "policy", "answers", "stopped", "failed", "tokens in", "tokens out", *TIMES),
    *("price", "currency", "thumbs", "thumbs up", "low", "high"),
)


def csv_rows(project: Project, *, days: int) -> Iterator[tuple[Any, ...]]:
    """Lists the moments of each policy, below HEADER; the policy's name is the second."""
    yield HEADER
    for each in over_time(project, days=days).moments:
        total, share = each.total, each.thumbs
        yield (
            *(timezone.localtime(each.at).isoformat(), each.policy.name),
            *(total.answered, total.stopped, total.failed, total.tokens_in, total.tokens_out),
            *(*in_ms(each.times), total.price, project.currency),
            *((share.trials, share.value, *share.interval) if share else (0, None, None, None)),
        )


def _rounds(project: Project) -> dict[int, Round]:
    """Policy → the round that made it."""
    made = TrainedPolicy.objects.of_project(project).select_related("checkpoint__run__round")
    found = {each.policy_id: each.checkpoint.run.round for each in made}
    return {pk: round for pk, round in found.items() if round}


def _logged(project: Project, *, days: int) -> dict[int, int]:
    """Policy → how many answers of other servers were logged."""
    since = timezone.now() - timedelta(days=days)
    answers = Message.objects.filter(
        role=Message.Role.ASSISTANT, conversation__project=project, created_at__gte=since
    ).exclude(conversation__external_id="")
    return dict(answers.order_by().values_list("policy").annotate(n=Count("pk")))


def _thumbs(
    project: Project, since: datetime, truncated: Any
) -> dict[tuple[int, datetime], Clusters]:
    """(policy, moment) → guest → (ups, thumbs)."""
    given = thumbs_of(project).given_since(since).order_by()
    rows = given.annotate(moment=truncated("created_at")).values_list(
        "message__policy", "moment", "user", "message__conversation__end_user"
    )
    counted = rows.annotate(ups=Count("pk", filter=Q(thumb_up=True)), n=Count("pk"))
    found: dict[tuple[int, datetime], Clusters] = defaultdict(dict)
    for policy, moment, *guest, ups, n in counted:
        found[policy, moment][guest[0], guest[1]] = (ups, n)
    return found


def _over_all(several: Iterable[Clusters]) -> tuple[Share | None, int]:
    guests: dict[Guest, list[int]] = defaultdict(lambda: [0, 0])
    for clusters in several:
        for guest, (ups, n) in clusters.items():
            guests[guest][0] += ups
            guests[guest][1] += n
    return share_of((ups, n) for ups, n in guests.values()), len(guests)


def _moments(
    policies: Mapping[int, Policy],
    found: Mapping[tuple[int, datetime], Total],
    took: Mapping[tuple[int, datetime], Times],
    thumbs: Mapping[tuple[int, datetime], Clusters],
) -> list[Moment]:
    keys = [key for key in found.keys() | thumbs.keys() if key[0] in policies]
    return [
        Moment(
            key[1],
            policies[key[0]],
            found.get(key, Total()),
            took.get(key, Times()),
            share_of(thumbs.get(key, {}).values()),
        )
        for key in sorted(keys, key=lambda key: (key[1], key[0]), reverse=True)
    ]


def duel_of(project: Project) -> Duel | None:
    """Compares the challenger with the live policy; None while there are not both."""
    live, challenger = project.policies.live().first(), project.policies.challenger().first()
    if live is None or challenger is None:
        return None
    since = _begun(challenger)
    given = thumbs_of(project).given_since(since).on_policies(live, challenger).order_by()
    guest = ("message__policy", "user", "message__conversation__end_user")
    firsts = given.values(*guest).annotate(first=Min("pk")).values("first")
    counted = dict.fromkeys((live.pk, challenger.pk), Thumbs(0, 0))
    rows = Feedback.objects.filter(pk__in=firsts).order_by().values_list("message__policy")
    for pk, ups, n in rows.annotate(ups=Count("pk", filter=Q(thumb_up=True)), n=Count("pk")):
        counted[pk] = Thumbs(ups, n - ups)
    return Duel(live, challenger, since, compare(counted[live.pk], counted[challenger.pk]))


def _begun(challenger: Policy) -> datetime:
    """When the newest decision came to let it answer; of one made by hand, when it was added."""
    acts = challenger.promotions.filter(act=Promotion.Act.CHALLENGE).order_by("-pk")
    promotion = acts.first()
    return promotion.created_at if promotion else challenger.created_at


@dataclass(frozen=True)
class Line:
    """What a chart shows of each policy: `figure` of a moment, None where there is none."""

    label: str
    figure: Callable[[Moment], Any]


@dataclass(frozen=True)
class Drawing:
    title: str
    unit: str
    lines: tuple[Line, ...]


def _seconds(which: str) -> tuple[Line, ...]:
    def of(part: str) -> Callable[[Moment], float | None]:
        def figure(moment: Moment) -> float | None:
            took = getattr(moment.times, which)
            return getattr(took, part) / 1000 if took else None

        return figure

    return Line("median", of("p50")), Line("95th percentile", of("p95"))


DRAWINGS = (
    Drawing("Answers", "", (Line("", lambda moment: moment.total.answered or None),)),
    Drawing("Time to the first words", "seconds", _seconds("first")),
    Drawing("Time to the whole answer", "seconds", _seconds("whole")),
    Drawing("Tokens", "", (Line("", lambda moment: moment.total.tokens or None),)),
    Drawing("Cost", "", (Line("", lambda moment: moment.total.price),)),
    Drawing("Thumbs up", "share", (Line("", lambda m: m.thumbs.value if m.thumbs else None),)),
)


def charts(policies: list[Policy], moments: list[Moment], currency: str) -> list[dict[str, Any]]:
    """Draws the policies over time, each in one colour in all charts. `step`: seconds since 1970,
    of the wall clock of the site."""
    shown: dict[Policy, list[Moment]] = {policy: [] for policy in policies}
    for moment in reversed(moments):
        if moment.policy in shown:
            shown[moment.policy].append(moment)
    found = []
    for each in DRAWINGS:
        unit = currency if each.title == "Cost" else each.unit
        series, rows = _drawn(each, shown)
        if series:
            look = {"title": each.title, "unit": unit, "x": "time"}
            found.append({**look, "series": series, "rows": rows})
    return found


def _drawn(
    drawing: Drawing, shown: dict[Policy, list[Moment]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    series, values = [], defaultdict[datetime, dict[str, float]](dict)
    colours = colours_of(policy.pk for policy in shown)
    for policy, moments in shown.items():
        for place, line in enumerate(drawing.lines):
            known = [(each, line.figure(each)) for each in moments]
            known = [(each, value) for each, value in known if value is not None]
            if not known:
                continue
            metric = f"{policy.pk} {place}"
            label = f"{policy}, {line.label}" if line.label else str(policy)
            look = {"split": "train", "colour": colours[policy.pk], "dashed": place > 0}
            series.append({"label": label, "metric": metric, **look})
            for each, value in known:
                values[each.at][metric] = float(value)
                if drawing.title == "Thumbs up" and each.thumbs:
                    low, high = each.thumbs.interval
                    values[each.at] |= {f"{metric} low": low, f"{metric} high": high}
    return series, [_row(at, numbers) for at, numbers in sorted(values.items())]


def _row(at: datetime, values: dict[str, float]) -> dict[str, Any]:
    clock = timezone.localtime(at).replace(tzinfo=UTC)
    rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
    return {"step": int(clock.timestamp()), "split": "train", "values": rounded}
