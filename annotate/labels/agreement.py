"""How far people agree: pure statistics over rankings, each a mapping of completion id → place.

Agreement is the share of comparisons on which two people who both prefer something prefer the same
(the non-tied votes of Zheng et al. 2023, "Judging LLM-as-a-Judge", section 4.1). The two orders of
one prompt answer several comparisons at once, so intervals count prompts and not comparisons."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from math import sqrt

import numpy as np

Order = Mapping[int, int]
TWO_SIDED_95 = 1.959964


@dataclass(frozen=True)
class Concordance:
    """Every two things in both orders: put the same way, the other way, or tied by somebody."""

    concordant: int
    discordant: int
    tied_in_first: int
    tied_in_second: int

    @property
    def compared(self) -> int:
        """How many pairs both put in an order."""
        return self.concordant + self.discordant

    @property
    def tau(self) -> float | None:
        """Kendall's τ-b (Kendall 1945), -1 … 1; None where an order ties everything."""
        first = self.compared + self.tied_in_second
        second = self.compared + self.tied_in_first
        if not first or not second:
            return None
        return (self.concordant - self.discordant) / sqrt(first * second)


def concordance(first: Order, second: Order) -> Concordance:
    """Compares two orders by what is in both of them."""
    n = Counter(
        (_sign(first[a] - first[b]), _sign(second[a] - second[b]))
        for a, b in combinations(sorted(first.keys() & second.keys()), 2)
    )
    return Concordance(
        concordant=n[1, 1] + n[-1, -1],
        discordant=n[1, -1] + n[-1, 1],
        tied_in_first=n[0, 1] + n[0, -1],
        tied_in_second=n[1, 0] + n[-1, 0],
    )


def _sign(difference: int) -> int:
    return (difference > 0) - (difference < 0)


def share_agreed(orders: Sequence[Order]) -> float | None:
    """Of the comparisons that any two of these orders make, those they decide alike."""
    met = [concordance(one, other) for one, other in combinations(orders, 2)]
    compared = sum(each.compared for each in met)
    return sum(each.concordant for each in met) / compared if compared else None


def wilson(share: float, n: float, z: float = TWO_SIDED_95) -> tuple[float, float]:
    """The score interval of a share out of `n` independent trials (Wilson 1927)."""
    middle = share + z * z / (2 * n)
    reach = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


@dataclass(frozen=True)
class Share:
    """So many of so many, gathered in clusters of which only each whole is independent."""

    hits: float
    trials: float
    clusters: int
    effective: float

    @property
    def value(self) -> float:
        return self.hits / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval."""
        return wilson(self.value, self.effective)


def share_of(clusters: Iterable[tuple[float, float]]) -> Share | None:
    """The share of hits in clusters of (hits, trials), which may be weighted. None without a trial.

    The interval takes the effective number of trials (Korn and Graubard 1998): as many as would,
    independent, vary like the share does between clusters, and never more than there are."""
    found = [(hits, trials) for hits, trials in clusters if trials]
    hits, trials = (sum(column) for column in zip(*found, strict=True)) if found else (0, 0)
    if not trials:
        return None
    value = hits / trials
    return _share(hits, trials, len(found), sum((h - value * t) ** 2 for h, t in found))


def share_of_sums(
    clusters: int, hits: int, trials: int, hits_squared: int, products: int, trials_squared: int
) -> Share | None:
    """The same of the sums over all clusters, where a database has added them up: of hits, trials,
    squares of both, and hits times trials."""
    if not trials:
        return None
    value = hits / trials
    deviations = hits_squared - 2 * value * products + value**2 * trials_squared
    return _share(hits, trials, clusters, deviations if deviations > ROUNDING * trials else 0.0)


def _share(hits: float, trials: float, n: int, deviations: float) -> Share:
    """`deviations`: of the hits from what the share makes of the trials, squared and added up."""
    value, spread = hits / trials, deviations * n / max(n - 1, 1)
    effective = value * (1 - value) * trials**2 / spread if spread else trials
    return Share(hits, trials, n, min(effective, trials) if n > 1 else 1.0)


ROUNDING = 1e-12
FEWEST_CLUSTERS, HORIZON = 10, 50
ERRORS_BELOW = 1.95
ONE_SIDED_90 = 1.281552
PEOPLE = 0.726  # of InstructGPT's labelers with each other, section 3.4
CHANCE = 0.5


def is_careless(own: Iterable[tuple[float, float]], others: float | None = None) -> bool:
    """Whether somebody who agreed so often, in (agreed, compared) of each prompt, surely does not
    judge like the others, who agree with each other in a share `others` of comparisons.

    It is asked again after each prompt. Up to HORIZON of them, the boundary is that of O'Brien and
    Fleming (1979), a constant deficit of agreements, counted as if a prompt were one comparison:
    early looks then cost next to nothing, and of answers to pairs it finds almost as many as the
    best test of one look at the end (95 % where that finds 96 %, sparing 95 % of PEOPLE). Whoever
    is closer to them than to chance is spared in any case. Beyond, also: the upper end of the
    one-sided 90 % interval is below the middle between chance and them."""
    share = share_of(own)
    if share is None or share.clusters < FEWEST_CLUSTERS:
        return False
    wanted = PEOPLE if others is None else others
    error = sqrt(wanted * (1 - wanted) / HORIZON)
    boundary = ERRORS_BELOW * error * max(1.0, HORIZON / share.clusters)
    if wanted - share.value >= max(boundary, (wanted - CHANCE) / 2):
        return True
    _, upper = wilson(share.value, share.effective, ONE_SIDED_90)
    return share.clusters > HORIZON and upper < (CHANCE + wanted) / 2


def krippendorff_alpha(units: Iterable[Sequence[int]]) -> float | None:
    """Krippendorff's α for ordinal values: each unit has the values its judges gave it.

    α = 1 - observed / expected disagreement over the coincidence matrix (Krippendorff 2011,
    "Computing Krippendorff's Alpha-Reliability"). None where no two judges met or all values are
    one, so that nothing could have been disagreed upon."""
    judged = [values for values in units if len(values) > 1]
    ranks = {value: i for i, value in enumerate(sorted({v for values in judged for v in values}))}
    if len(ranks) < 2:
        return None
    counts_UV = np.zeros((len(judged), len(ranks)))
    for unit, values in enumerate(judged):
        for value in values:
            counts_UV[unit, ranks[value]] += 1
    weighted_UV = counts_UV / (counts_UV.sum(axis=1, keepdims=True) - 1)
    coincidences_VV = weighted_UV.T @ counts_UV - np.diag(weighted_UV.sum(axis=0))
    n_V = coincidences_VV.sum(axis=0)
    middle_V = n_V.cumsum() - n_V / 2
    distance_VV = (middle_V[:, None] - middle_V[None, :]) ** 2
    observed = (coincidences_VV * distance_VV).sum()
    expected = (np.outer(n_V, n_V) * distance_VV).sum() / (n_V.sum() - 1)
    return float(1 - observed / expected)


@dataclass(frozen=True)
class Ranked:
    """One person's ranking of a prompt's completions, as agreement sees it."""

    prompt: int
    labeler: int
    places: Order
    guideline_version: int | None = None
    day: date | None = None


@dataclass(frozen=True)
class Agreement:
    share: Share | None
    tau: float | None
    alpha: float | None


def agreement(rankings: Iterable[Ranked], *, labeler: int | None = None) -> Agreement:
    """Of every two people who ranked the same prompt; with `labeler`, of this one and the others.

    τ is the mean over pairs of people; α takes each completion as a unit and its places as the
    values."""
    clusters, taus, units = [], [], []
    for same in by_prompt(rankings):
        if labeler is not None and all(each.labeler != labeler for each in same):
            continue
        met = [
            concordance(one.places, other.places)
            for one, other in combinations(same, 2)
            if one.labeler != other.labeler and labeler in (None, one.labeler, other.labeler)
        ]
        clusters.append((sum(m.concordant for m in met), sum(m.compared for m in met)))
        taus += [m.tau for m in met if m.tau is not None]
        things = {thing for each in same for thing in each.places}
        units += [[r.places[thing] for r in same if thing in r.places] for thing in sorted(things)]
    tau = sum(taus) / len(taus) if taus else None
    return Agreement(share_of(clusters), tau, krippendorff_alpha(units))


def by_prompt(rankings: Iterable[Ranked]) -> list[list[Ranked]]:
    """Groups rankings by prompt, without the prompts that one person alone has ranked."""
    groups: dict[int, list[Ranked]] = defaultdict(list)
    for ranked in rankings:
        groups[ranked.prompt].append(ranked)
    return [group for group in groups.values() if len(group) > 1]
