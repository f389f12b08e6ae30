"""Accounts that do not look like a person who says what they think. A reviewer looks at them;
nothing is left out by itself.

Of guests in the last thirty days, four signs: nearly all thumbs of one side, far from what the
others give; more thumbs in a minute than one can read answers; several accounts made within an hour
that together give thumbs of one side; the same questions as another account. Of labelers, one: the
same order as somebody else's, time after time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import combinations
from math import exp, lgamma, log

from django.db import connection
from django.utils import timezone

from annotate.chat.feedback import Feedback
from annotate.people.models import Membership, Project

LOOKED_BACK = timedelta(days=30)
BY_CHANCE = 0.001  # of all guests looked at together, as often is an honest one found one-sided
ONE_SIDED = 0.9  # of somebody's thumbs; below, they only judge in their own way
FEWEST = 10  # thumbs; of fewer nothing can be told
BURST, WITHIN = 10, timedelta(minutes=1)
GROUP, MADE_WITHIN = 3, timedelta(hours=1)
THUMBS_SHOWN = 3  # of each, to judge them by
SAME_QUESTIONS, SAME_SHARE = 5, 0.8  # as another account; so many, and so much of what each asks
COMMON = 10  # accounts: what more of them ask is a common question

# Two labelers, how often both put a prompt's completions in an order, and how often in the same.
SAME_ORDERS = """
WITH whole AS MATERIALIZED (
    SELECT ranking.prompt_id AS prompt, ranking.labeler_id AS labeler,
           string_agg(completion_id || ':' || place, ' ' ORDER BY completion_id) AS verdict
    FROM annotate_placement AS placement
    JOIN annotate_ranking AS ranking ON ranking.id = placement.ranking_id
    WHERE ranking.id = ANY(%s) GROUP BY ranking.id)
SELECT one.labeler, other.labeler,
       count(*) FILTER (WHERE one.verdict = other.verdict), count(*)
FROM whole AS one
JOIN whole AS other ON other.prompt = one.prompt AND other.labeler > one.labeler
GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass
class Given:
    """What one guest gave."""

    joined: datetime
    times: list[datetime] = field(default_factory=list)
    ups: int = 0
    asked: set[str] = field(default_factory=set)  # by their spelling

    @property
    def count(self) -> int:
        return len(self.times)


@dataclass(frozen=True)
class Unusual:
    member: Membership
    ups: int
    downs: int
    why: list[str]
    shown: list[Feedback]  # their latest thumbs


def unusual_guests(project: Project) -> list[Unusual]:
    """Those who count for training, or will once they are no longer new; the most thumbs first."""
    since = timezone.now() - LOOKED_BACK
    thumbs = Feedback.objects.of_project(project).trainable().of_trusted().undismissed()
    guests = project.memberships.filter(role=Membership.Role.GUEST).select_related("user")
    members = {each.user_id: each for each in guests}
    given: dict[int, Given] = {}
    rows = thumbs.filter(created_at__gte=since, user__in=members).order_by("created_at")
    asked = "message__completion__prompt__spelling"  # what was imported is nobody's question
    for user, at, is_up, question in rows.values_list("user", "created_at", "thumb_up", asked):
        mine = given.setdefault(user, Given(members[user].user.date_joined))
        mine.times.append(at)
        mine.ups += is_up
        mine.asked |= {question} if question else set()
    found = [
        Unusual(
            members[user],
            given[user].ups,
            given[user].count - given[user].ups,
            why,
            list(thumbs.filter(user=user).on_data().with_answers().order_by("-pk")[:THUMBS_SHOWN]),
        )
        for user, why in reasons(given).items()
    ]
    return sorted(found, key=lambda each: (-each.ups - each.downs, each.member.pk))


def reasons(given: dict[int, Given]) -> dict[int, list[str]]:
    """Guest → why they are unusual, a sentence each; without those who are not."""
    why: dict[int, list[str]] = defaultdict(list)
    for user, mine in given.items():
        if _is_one_sided([mine], given.values(), looks=len(given)):
            why[user].append(f"{_side([mine])}, unlike the other guests.")
        if most := _most_within(mine.times):
            why[user].append(f"{most} thumbs within a minute.")
    for users in _made_together(given):
        group = [given[user] for user in users]
        if _is_one_sided(group, given.values(), looks=len(given)):
            for user in users:
                why[user].append(
                    f"One of {len(users)} accounts made within an hour: together {_side(group)}."
                )
    for user, same in _same_questions(given).items():
        count = len(given[user].asked)
        why[user].append(f"{same} of {count} questions are those of another account.")
    return dict(why)


def _same_questions(given: dict[int, Given]) -> dict[int, int]:
    """Guest → how many questions they have in common with another one, if nearly all."""
    who: dict[str, list[int]] = defaultdict(list)
    for user, mine in given.items():
        for question in mine.asked:
            who[question].append(user)
    common = Counter(
        pair for users in who.values() if len(users) <= COMMON for pair in combinations(users, 2)
    )
    found: dict[int, int] = {}
    for pair, same in common.items():
        most = max(len(given[user].asked) for user in pair)
        if same >= max(SAME_QUESTIONS, SAME_SHARE * most):
            for user in pair:
                found[user] = max(same, found.get(user, 0))
    return found


@dataclass(frozen=True)
class Twins:
    """Two labelers who hardly ever differ."""

    labelers: tuple[int, int]
    same: int
    shared: int

    def other_than(self, labeler: int) -> int:
        return sum(self.labelers) - labeler


def twins(rankings: list[int]) -> list[Twins]:
    """Labelers who put the same things in the same order far more often than any other two do, by
    these rankings: ONE_SIDED of FEWEST prompts and more, and by chance less than BY_CHANCE."""
    with connection.cursor() as cursor:
        cursor.execute(SAME_ORDERS, [rankings])
        met = [Twins((one, other), same, n) for one, other, same, n in cursor.fetchall()]
    return [each for each in met if _are_alike(each, met)]


def _are_alike(two: Twins, everybody: Sequence[Twins]) -> bool:
    if two.shared < FEWEST or two.same < ONE_SIDED * two.shared:
        return False
    others = [each for each in everybody if not set(each.labelers) & set(two.labelers)]
    # Laplace's rule; of a pair alone, six of ten orders of two are the same.
    same, n = sum(each.same for each in others), sum(each.shared for each in others)
    share = (same + 6) / (n + 10)
    return _at_least(two.same, two.shared, share) < BY_CHANCE / len(everybody)


def _is_one_sided(some: Sequence[Given], everybody: Iterable[Given], *, looks: int) -> bool:
    """Whether so many thumbs of one side would hardly come about if these gave them as the others
    do. Each guest of the others counts once, however much they give: many thumbs make no rule."""
    ours = {id(each) for each in some}
    others = [each for each in everybody if id(each) not in ours]
    # Laplace's rule: an up and a down that nobody gave.
    up = (1 + sum(each.ups / each.count for each in others)) / (2 + len(others))
    ups, count = sum(each.ups for each in some), sum(each.count for each in some)
    if count < FEWEST or max(ups, count - ups) < ONE_SIDED * count:
        return False
    chance = min(_at_least(ups, count, up), _at_least(count - ups, count, 1 - up))
    return chance < BY_CHANCE / (2 * looks)


def _at_least(hits: int, trials: int, share: float) -> float:
    """The chance of so many hits, or more, where each has this chance: the binomial's tail."""

    def of(k: int) -> float:
        ways = lgamma(trials + 1) - lgamma(k + 1) - lgamma(trials - k + 1)
        return exp(ways + k * log(share) + (trials - k) * log(1 - share))

    return min(1.0, sum(of(k) for k in range(hits, trials + 1)))


def _side(some: Sequence[Given]) -> str:
    ups, count = sum(each.ups for each in some), sum(each.count for each in some)
    return f"{max(ups, count - ups)} of {count} thumbs {'up' if 2 * ups > count else 'down'}"


def _most_within(times: Sequence[datetime]) -> int:
    """The most of these times in a minute, if they are a burst; else 0. The earliest first."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= WITHIN:
            first += 1
        most = max(most, last - first + 1)
    return most if most >= BURST else 0


def _made_together(given: dict[int, Given]) -> Iterator[list[int]]:
    """Accounts made within an hour of the first of them, no account in two groups."""
    by_age = sorted(given, key=lambda user: (given[user].joined, user))
    group = by_age[:1]
    for user in by_age[1:]:
        if given[user].joined - given[group[0]].joined > MADE_WITHIN:
            if len(group) >= GROUP:
                yield group
            group = []
        group.append(user)
    if len(group) >= GROUP:
        yield group
