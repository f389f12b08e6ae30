"""From single verdicts to opinions on pairs, and to a ranking: pure functions over the ids of
completions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations

from annotate.judges.words import A

Verdicts = Mapping[tuple[int, int | None], str]  # (first, second or None) → what was said
Opinions = Mapping[
    tuple[int, int], int
]  # two ids → -1: the first is better, 0: tied, 1: the second
GREATEST = 6  # distance of two ratings


def questions_of(form: str, completions: Iterable[int]) -> list[tuple[int, int | None]]:
    """What has to be asked to rank these: each alone, or each pair in both orders."""
    ids = sorted(completions)
    if form != "pair":
        return [(each, None) for each in ids]
    return [order for a, b in combinations(ids, 2) for order in ((a, b), (b, a))]


def opinions_of(form: str, verdicts: Verdicts) -> Opinions:
    """What is said of every two: the one with the better verdict, or the one that is chosen in both
    orders. Orders that disagree are a tie."""
    pairs = combinations(sorted({first for first, _ in verdicts}), 2)
    if form == "pair":
        return {(a, b): _in_both_orders(verdicts[a, b], verdicts[b, a]) for a, b in pairs}
    worth = {first: _worth(form, said) for (first, _), said in verdicts.items()}
    return {(a, b): (worth[b] > worth[a]) - (worth[a] > worth[b]) for a, b in pairs}


def _in_both_orders(said: str, other_way: str) -> int:
    if (said == A) == (other_way == A):
        return 0
    return -1 if said == A else 1


def _worth(form: str, said: str) -> float:
    return float(said) if form == "rating" else float(said == "yes")


def places_of(opinions: Opinions) -> dict[int, int]:
    """Completion id → place, the best first, ties share one: by how many of the others each beats,
    a tie counting half (Copeland)."""
    wins: dict[int, float] = defaultdict(float)
    for (a, b), opinion in opinions.items():
        wins[a] += (1 - opinion) / 2
        wins[b] += (1 + opinion) / 2
    tiers = sorted(set(wins.values()), reverse=True)
    return {each: tiers.index(value) + 1 for each, value in wins.items()}


def confidence_of(form: str, verdicts: Verdicts) -> float:
    """How sure a judge is of its ranking, 0 to 1: the share of pairs on which both orders agree, or
    the mean distance of two verdicts as a share of the greatest."""
    opinions = opinions_of(form, verdicts)
    if form == "rating":
        distances = [abs(int(verdicts[a, None]) - int(verdicts[b, None])) for a, b in opinions]
        return sum(distances) / len(distances) / GREATEST
    return sum(map(abs, opinions.values())) / len(opinions)


def firsts(verdicts: Verdicts) -> tuple[int, int]:
    """How often the answer that was shown first won, of how many times."""
    return sum(said == A for said in verdicts.values()), len(verdicts)
