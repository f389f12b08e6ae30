"""How reliable each labeler is, from all rankings at once: who is right, as far as the others can
tell, whoever the others are.

One error rate a labeler (`feedback_site.votes`), over the comparisons that two or more made.
Agreement with peers, one by one, cannot tell who is off: a single random
clicker drags down everybody who shares prompts with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import sqrt

from annotate.labels.agreement import PEOPLE, Ranked, share_of
from feedback_site.votes.right import first_is_better, shares_right

Vote = tuple[int, bool]  # a labeler, and whether the first of two completions is the better one
Votes = dict[tuple[int, int, int], list[Vote]]  # by prompt and the two completions

# Who agrees with their like on a share PEOPLE of comparisons is right on so many.
CAREFUL = 0.5 + sqrt(2 * PEOPLE - 1) / 2
TELLING = 0.25  # of what one careful peer tells: a prompt on which the others tell less is none


@dataclass(frozen=True)
class Reliability:
    """How often somebody is right on a comparison, with the 95 % interval; 0.5 by chance."""

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Against:
    """One labeler's comparisons with what the others together say. `clusters`: of each prompt
    (agreed, compared), each comparison weighing what the others can tell there; `plain`: the same
    without weights; `wanted`: the share on which somebody careful would agree."""

    clusters: list[tuple[float, float]]
    plain: list[tuple[int, int]]
    wanted: float

    @property
    def reliability(self) -> Reliability | None:
        """Estimates it from how often they agree with the others: who is right with probability r
        agrees with people who are right with probability s as often as r s + (1 - r)(1 - s). None
        where the others tell nothing."""
        share = share_of(self.clusters)
        if share is None:
            return None
        scale = (2 * CAREFUL - 1) / (2 * self.wanted - 1)

        def right(agreed: float) -> float:
            return min(max(0.5 + (agreed - 0.5) * scale, 0.0), 1.0)

        low, high = map(right, share.interval)
        if low == high:  # beyond what is possible: the interval of the agreement itself is not
            low, high = share.interval
        return Reliability(right(share.value), (low, high))


def votes_of(rankings: Iterable[Ranked]) -> Votes:
    """Takes rankings apart into the comparisons that two or more people made."""
    votes: Votes = defaultdict(list)
    for ranked in rankings:
        for a, b in combinations(sorted(ranked.places), 2):
            if ranked.places[a] != ranked.places[b]:
                vote = (ranked.labeler, ranked.places[a] < ranked.places[b])
                votes[ranked.prompt, a, b].append(vote)
    return {key: cast for key, cast in votes.items() if len({name for name, _ in cast}) > 1}


def reliabilities(votes: Votes) -> dict[int, float]:
    """Labeler → how often they are right on a comparison, 0.5 by chance. Of two people nobody can
    tell which one errs: both are taken to be careful."""
    met = {labeler for cast in votes.values() for labeler, _ in cast}
    return dict.fromkeys(met, CAREFUL) if len(met) < 3 else shares_right(votes.values())[0]


def against_the_others(votes: Votes) -> dict[int, Against]:
    """Measures everybody against what the others say, each of whom counts by their reliability."""
    right = reliabilities(votes)
    met: dict[int, dict[int, list[tuple[float, float, bool]]]] = defaultdict(dict)
    for (prompt, _, _), cast in votes.items():
        for labeler, expected, agreed in _each_without_oneself(cast, right):
            weight = (2 * expected - 1) / (2 * PEOPLE - 1)
            met[labeler].setdefault(prompt, []).append((weight, expected, agreed))
    return {labeler: _against(by_prompt) for labeler, by_prompt in met.items()}


def _each_without_oneself(
    cast: list[Vote], right: Mapping[int, float]
) -> Iterator[tuple[int, float, bool]]:
    """(labeler, how probably somebody careful agrees with the others, whether this one did)."""
    for labeler, vote in cast:
        others = [other for other in cast if other[0] != labeler]
        if not others:
            continue
        first = first_is_better(others, right)
        surely = max(first, 1 - first)
        expected = CAREFUL * surely + (1 - CAREFUL) * (1 - surely)
        yield labeler, expected, vote == (first > 0.5)


def _against(by_prompt: dict[int, list[tuple[float, float, bool]]]) -> Against:
    clusters, plain = [], []
    wanted = weights = 0.0
    for met in by_prompt.values():
        weight = sum(w for w, _, _ in met)
        plain.append((sum(agreed for _, _, agreed in met), len(met)))
        if weight < TELLING * len(met):
            continue
        clusters.append((sum(w for w, _, agreed in met if agreed), weight))
        wanted += sum(w * expected for w, expected, _ in met)
        weights += weight
    return Against(clusters, plain, wanted / weights if weights else PEOPLE)
