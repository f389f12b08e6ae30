"""Figures with their uncertainty: accuracy over comparisons, intervals clustered by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    value: float
    low: float
    high: float


def clustered_mean(
    values: Sequence[float],
    weights: Sequence[float],
    clusters: Sequence[str],
    resamples: int,
    seed: int = 0,
) -> Estimate:
    """Weighted mean with a 95 % bootstrap interval that draws whole prompts.

    Comparisons of one prompt share their completions; drawing them singly would make the
    interval far too narrow.
    """
    names = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    sums, counts = np.zeros(len(names)), np.zeros(len(names))
    for value, weight, cluster in zip(values, weights, clusters, strict=True):
        sums[names[cluster]] += value * weight
        counts[names[cluster]] += weight
    drawn = np.random.default_rng(seed).integers(0, len(names), (resamples, len(names)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(sums.sum() / counts.sum()), float(low), float(high))


def correct(difference: float) -> float:
    """1 when the score puts the better completion first, 1/2 when it cannot tell them apart."""
    return 0.5 if difference == 0 else float(difference > 0)


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    if len(a) < 2 or np.std(a) == 0 or np.std(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def calibration_error(
    probabilities: Sequence[float], weights: Sequence[float], bins: int = 10
) -> float:
    """Expected calibration error of P(better wins), which should come true every time it is said.

    Each comparison is folded to the side the model believes in, as its labels are symmetric.
    """
    p, w = np.asarray(probabilities), np.asarray(weights)
    believed, won = np.maximum(p, 1 - p), (p >= 0.5).astype(float)
    bin_of = np.minimum((believed * bins).astype(int), bins - 1)
    error = 0.0
    for each in range(bins):
        here = bin_of == each
        if w[here].sum() > 0:
            gap = np.average((believed - won)[here], weights=w[here])
            error += abs(gap) * w[here].sum() / w.sum()
    return float(error)
