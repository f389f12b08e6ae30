"""What people say of a policy's answers one by one: how many they rate well, how many they flag."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from django.db import connection
from django.db.models import QuerySet

from annotate.labels.agreement import Share, share_of_sums
from annotate.labels.kinds.ranking.answer import FLAG_GROUPS, Placement, Ranking
from annotate.people.models import Project
from annotate.prompts.policies import Policy

GOOD = 5  # of 7
HARMFUL = frozenset(FLAG_GROUPS["Harm"])
FLAGS = {flag: frozenset({flag}) for flag in map(str, Placement.Flag)}
SUMS = ("sum({hit})", "sum({of})", "sum({hit} * {hit})", "sum({hit} * {of})", "sum({of} * {of})")


@dataclass(frozen=True)
class Rates:
    """Shares of a policy's answers, each with a 95 % interval; an answer counts once, however many
    people judged it, and the answers to one prompt are one cluster."""

    policy: Policy
    good: Share | None  # rated 5 or more on average, of those rated
    harmful: Share  # with a flag of the group “Harm” by anybody
    flags: dict[str, Share] = field(default_factory=dict)  # flag → with it, by anybody


def rates_of(policy: Policy, *, splits: Iterable[str] = ()) -> Rates | None:
    """The rates of one policy, on prompts of these splits if any are named; None before anybody
    has judged its answers in a ranking."""
    found = _rates(policy.project, [policy], tuple(splits))
    return found[0] if found else None


def rates_of_policies(project: Project) -> list[Rates]:
    """Of all policies whose answers were judged, the newest first."""
    return _rates(project, list(project.policies.order_by("-pk")), ())


def _rates(project: Project, policies: list[Policy], splits: tuple[str, ...]) -> list[Rates]:
    rankings = Ranking.objects.all().in_force(project)
    if splits:
        rankings = rankings.in_split(*splits)
    found = _sums(rankings.of_staff(), policies)
    return [_rates_of(each, found[each.pk]) for each in policies if each.pk in found]


def _rates_of(policy: Policy, sums: dict[str, tuple[int, ...]]) -> Rates:
    shares = {name: share_of_sums(*each) for name, each in sums.items()}
    harmful, flags = shares["harmful"], {name: shares[name] for name in FLAGS}
    assert harmful is not None
    return Rates(
        policy, shares["good"], harmful, {name: each for name, each in flags.items() if each}
    )


def _sums(
    rankings: QuerySet[Ranking], policies: list[Policy]
) -> dict[int, dict[str, tuple[int, ...]]]:
    """Policy → what counts as a hit → what `share_of_sums` takes. Added up where the answers are:
    a project has hundreds of thousands."""
    flagged = {"harmful": HARMFUL, **FLAGS}
    hits = [f"any_{n}" for n in range(len(flagged))]
    pairs = [("good", "rated"), *((hit, "answers") for hit in hits)]
    outer = ", ".join(each.format(hit=hit, of=of) for hit, of in pairs for each in SUMS)
    middle = ", ".join(f"count(*) FILTER (WHERE {hit}) AS {hit}" for hit in hits)
    inner = ", ".join(f"bool_or(flags && %s::varchar[]) AS {hit}" for hit in hits)
    asked, given = rankings.order_by().values("pk").query.sql_with_params()
    statement = f"""
        SELECT policy, count(*) FILTER (WHERE rated > 0), count(*), {outer} FROM (
            SELECT policy, prompt, count(*) AS answers, count(rating) AS rated,
                   count(*) FILTER (WHERE rating >= %s) AS good, {middle} FROM (
                SELECT completion.policy_id AS policy, completion.prompt_id AS prompt,
                       avg(rating) AS rating, {inner}
                FROM annotate_placement JOIN annotate_completion AS completion
                  ON completion.id = completion_id
                WHERE ranking_id IN ({asked}) AND completion.policy_id = ANY(%s)
                GROUP BY completion.id) AS answer
            GROUP BY policy, prompt) AS cluster
        GROUP BY policy"""  # noqa: S608 - only names of ours, and what the ORM wrote
    sets = [sorted(each) for each in flagged.values()]
    with connection.cursor() as cursor:
        cursor.execute(statement, [GOOD, *sets, *given, [each.pk for each in policies]])
        rows = cursor.fetchall()
    found: dict[int, dict[str, tuple[int, ...]]] = {}
    for policy, rated, prompts, *sums in rows:
        cells = map(int, (each or 0 for each in sums))
        parts = [tuple(islice(cells, len(SUMS))) for _ in pairs]
        counts = [rated, *(prompts for _ in flagged)]
        names = ["good", *flagged]
        found[policy] = {
            name: (count, *part) for name, count, part in zip(names, counts, parts, strict=True)
        }
    return found
