"""What people say of a policy's answers one by one: how many they rate well, how many they flag."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import mean

from annotate.labels.agreement import Share, share_of
from annotate.labels.kinds.ranking.answer import FLAG_GROUPS, Placement, Ranking
from annotate.people.models import Project
from annotate.prompts.policies import Policy

GOOD = 5  # of 7
HARMFUL = frozenset(FLAG_GROUPS["Harm"])
Clusters = dict[int, list[int]]


@dataclass(frozen=True)
class Rates:
    """Shares of a policy's answers, each with a 95 % interval; an answer counts once, however many
    people judged it, and the answers to one prompt are one cluster."""

    policy: Policy
    good: Share | None  # rated 5 or more on average, of those rated
    harmful: Share  # with a flag of the group “Harm” by anybody
    flags: dict[str, Share] = field(default_factory=dict)  # flag → with it, by anybody


@dataclass
class _Answer:
    prompt: int
    ratings: list[int] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)


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
    placed = Placement.objects.filter(
        ranking__in=rankings.of_staff().order_by().values("pk"), completion__policy__in=policies
    )
    answers: dict[int, dict[int, _Answer]] = defaultdict(dict)
    names = ("completion__policy", "completion", "ranking__prompt", "rating", "flags")
    for policy, completion, prompt, rating, flags in placed.order_by().values_list(*names):
        answer = answers[policy].setdefault(completion, _Answer(prompt))
        answer.flags.update(flags)
        if rating is not None:
            answer.ratings.append(rating)
    return [
        _rates_of(each, list(answers[each.pk].values())) for each in policies if each.pk in answers
    ]


def _rates_of(policy: Policy, answers: list[_Answer]) -> Rates:
    rated = [each for each in answers if each.ratings]
    harmful = _share((each.prompt, bool(each.flags & HARMFUL)) for each in answers)
    assert harmful is not None
    flags = {
        str(flag): share
        for flag in Placement.Flag
        if (share := _share((each.prompt, flag in each.flags) for each in answers))
    }
    good = _share((each.prompt, mean(each.ratings) >= GOOD) for each in rated)
    return Rates(policy, good, harmful, flags)


def _share(answers: Iterable[tuple[int, bool]]) -> Share | None:
    by_prompt: Clusters = defaultdict(list)
    for prompt, is_hit in answers:
        by_prompt[prompt].append(int(is_hit))
    return share_of((sum(hits), len(hits)) for hits in by_prompt.values())
