"""95 % intervals of shares that never collapse and invent no certainty.

What was said of one prompt resembles each other, so prompts are counted, and not comparisons: of
one prompt, however often it was judged, there is no interval."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sqrt, tan
from statistics import NormalDist

import numpy as np

Interval = tuple[float, float]
TWO_SIDED_95 = 0.975


def student(p: float, freedom: int) -> float:
    """Quantile of Student's t, for `p` above 1/2; `freedom`: degrees of freedom, at least 1.

    Exact for one and two; beyond, four terms of the expansion around the normal quantile, off by
    less than 1 % up to p = 0.995 (Abramowitz and Stegun 1964, 26.7.5)."""
    if freedom == 1:
        return tan(pi * (p - 0.5))
    if freedom == 2:
        return (2 * p - 1) / sqrt(2 * p * (1 - p))
    z = NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z + sum(term / freedom**power for power, term in enumerate(terms, start=1)))


def wilson(share: float, trials: float, quantile: float | None = None) -> Interval:
    """The score interval of a share out of so many independent trials (Wilson 1927). `quantile`: of
    the error, that of the normal distribution unless given."""
    z = NormalDist().inv_cdf(TWO_SIDED_95) if quantile is None else quantile
    middle = share + z * z / (2 * trials)
    reach = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def of_share(points: Sequence[float], weights: Sequence[float]) -> Interval | None:
    """The 95 % interval of sum(points) / sum(weights), a share from 0 to 1. `points`, `weights`: of
    each prompt what it gave, and at most could have given.

    Wilson's interval with as many trials as would vary like the prompts do (Korn and Graubard 1998)
    and with Student's quantile for their number. Where no prompt differs from another, nothing can
    be seen to vary: each then counts as one trial. None: of one prompt."""
    given_P, could_P = np.asarray(points, float), np.asarray(weights, float)
    prompts = int((could_P > 0).sum())
    if prompts < 2:
        return None
    share = float(given_P.sum() / could_P.sum())
    off_P = (given_P - share * could_P) / could_P.sum()
    variance = float((off_P**2).sum()) * prompts / (prompts - 1)
    if variance < 1e-12:
        return wilson(share, float(could_P.sum() ** 2 / (could_P**2).sum()))
    return wilson(share, share * (1 - share) / variance, student(TWO_SIDED_95, prompts - 1))
