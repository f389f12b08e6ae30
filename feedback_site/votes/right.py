"""Who is right, as far as the votes of all of them tell: one error rate a voter (Dawid and Skene
1979), by expectation maximisation over the questions that two or more voted on.

The site shows it, and trainers weigh rankings by it: the standard library alone is needed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from math import exp, log
from typing import TypeVar

Voter = TypeVar("Voter", bound=Hashable)

PSEUDO = 4.0  # votes at everybody's mean, so that a newcomer counts as the average voter does
START = 0.75
ROUNDS = 20


def shares_right(
    questions: Collection[Sequence[tuple[Voter, bool]]],
) -> tuple[dict[Voter, float], float]:
    """Voter → how often they are right, 0.5 by chance, and the mean over all votes. Each question
    has the votes of two people or more; without one nobody is known, and the mean is START."""
    met = Counter(voter for cast in questions for voter, _ in cast)
    right, mean = dict.fromkeys(met, START), START
    for _ in range(ROUNDS if met else 0):
        agreed: dict[Voter, float] = defaultdict(float)
        for cast in questions:
            first = first_is_better(cast, right)
            for voter, vote in cast:
                agreed[voter] += first if vote else 1 - first
        mean = sum(agreed.values()) / met.total()
        right = {name: (agreed[name] + PSEUDO * mean) / (met[name] + PSEUDO) for name in met}
    return right, mean


def first_is_better(cast: Iterable[tuple[Voter, bool]], right: Mapping[Voter, float]) -> float:
    """The chance that the first of the two is better, as these people voted."""
    odds = sum((1 if vote else -1) * _logit(right[voter]) for voter, vote in cast)
    return 1 / (1 + exp(-max(min(odds, 30.0), -30.0)))


def _logit(p: float) -> float:
    p = max(min(p, 0.99), 0.01)
    return log(p / (1 - p))
