"""Figures with their uncertainty: accuracy over comparisons, intervals clustered by prompt."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from . import intervals
from .records import Judged


@dataclass(frozen=True)
class Estimate:
    """A share with its 95 % interval; without one if it is of a single prompt."""

    value: float
    low: float | None
    high: float | None

    def named(self, name: str, of: str = "") -> dict[str, float]:
        """The figures `name`, `name_low` and `name_high`, of a slice if there is one."""
        found = {name + of: self.value}
        if self.low is not None and self.high is not None:
            found |= {f"{name}_low{of}": self.low, f"{name}_high{of}": self.high}
        return found


def clustered_mean(
    values: Sequence[float], weights: Sequence[float], clusters: Sequence[str]
) -> Estimate:
    """Weighted mean of values from 0 to 1, with a 95 % interval that counts whole prompts."""
    names = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    sums, counts = np.zeros(len(names)), np.zeros(len(names))
    for value, weight, cluster in zip(values, weights, clusters, strict=True):
        sums[names[cluster]] += value * weight
        counts[names[cluster]] += weight
    low, high = intervals.of_share(sums.tolist(), counts.tolist()) or (None, None)
    return Estimate(float(sums.sum() / counts.sum()), low, high)


def correct(difference: float) -> float:
    """1 when the score puts the better completion first, 1/2 when it cannot tell them apart."""
    return 0.5 if difference == 0 else float(difference > 0)


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's correlation; 0 where it is not defined."""
    if len(a) < 2 or np.std(a) == 0 or np.std(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def calibration_error(
    probabilities: Sequence[float], weights: Sequence[float], bins: int = 10
) -> float:
    """Expected calibration error of P(better wins), which should come true every time it is said.

    Each comparison is folded to the side the model believes in, as its labels are symmetric.
    """
    diagram = reliability_diagram(probabilities, weights, bins)
    whole = sum(weight for _, _, _, weight in diagram)
    return sum(abs(said - came) * weight for _, said, came, weight in diagram) / whole


def reliability_diagram(
    probabilities: Sequence[float], weights: Sequence[float], bins: int = 10
) -> list[tuple[float, float, float, float]]:
    """(upper end of the bin, mean of what was said, share that came true, weight) of each bin."""
    p, w = np.asarray(probabilities), np.asarray(weights)
    believed, won = np.maximum(p, 1 - p), (p > 0.5) + 0.5 * (p == 0.5)
    bin_of = np.minimum((believed * bins).astype(int), bins - 1)
    return [
        (
            (each + 1) / bins,
            float(np.average(believed[here], weights=w[here])),
            float(np.average(won[here], weights=w[here])),
            float(w[here].sum()),
        )
        for each in range(bins)
        if w[here := bin_of == each].sum() > 0
    ]


def ranking_figures(
    judged: Sequence[Judged],
    scores: Sequence[Sequence[float]],
    lengths: Sequence[Sequence[int]],
) -> dict[str, float]:
    """How well scores tell apart what people told apart; `scores` and `lengths` by completion."""
    differences, longer, weights, clusters = [], [], [], []
    for element, mine in zip(judged, scores, strict=True):
        words = [len(text.split()) for text in element.completions]
        for pair in element.comparisons:
            differences.append(mine[pair.better] - mine[pair.worse])
            longer.append(correct(words[pair.better] - words[pair.worse]))
            weights.append(pair.weight)
            clusters.append(element.prompt.key)
    right = [correct(each) for each in differences]
    accuracy = clustered_mean(right, weights, clusters)
    means = _weighted(weights)
    believed = [_sigmoid(each) for each in differences]
    flat = [score for mine in scores for score in mine]
    return {
        "loss": means([_softplus(-each) for each in differences]),
        **accuracy.named("reward/accuracy"),
        "reward/ceiling": means(
            [max(pair.share, 1 - pair.share) for each in judged for pair in each.comparisons]
        ),
        "reward/longer_wins": means(longer),
        "reward/margin": means(differences),
        "reward/calibration_error": calibration_error(believed, weights),
        "reward/score_length_correlation": correlation(
            flat, [float(length) for mine in lengths for length in mine]
        ),
        "data/prompts": len(set(clusters)),
        "data/comparisons": len(weights),
        **{
            f"reward/reliability_{round(100 * end)}": came
            for end, _, came, _ in reliability_diagram(believed, weights)
        },
    }


def agreement_figures(
    judged: Sequence[Judged],
    scores: Sequence[Sequence[float]],
    known_labelers: AbstractSet[str],
) -> dict[str, float]:
    """Accuracy on single votes: by agreement among people, by labeler, by who wrote the answers.

    A slice without a vote is left out. `known_labelers` are those who were learnt from.
    """
    slices: dict[str, list[tuple[float, str]]] = defaultdict(list)
    agreed, met = 0, 0
    for element, mine in zip(judged, scores, strict=True):
        votes = Counter(pair for each in element.rankings for pair in each.comparisons())
        for ranking in element.rankings:
            for better, worse in ranking.comparisons():
                one = (correct(mine[better] - mine[worse]), element.prompt.key)
                with_me, against = votes[better, worse] - 1, votes[worse, better]
                agreed, met = agreed + with_me, met + with_me + against
                if with_me + against:
                    slices["disputed" if against else "unanimous"].append(one)
                if ranking.labeler:
                    slices[f"labeler/{ranking.labeler}"].append(one)
                    if ranking.labeler not in known_labelers:
                        slices["unseen_labelers"].append(one)
                if by := ranking.policies:
                    slices["same_policy" if by[better] == by[worse] else "cross_policy"].append(one)
    numbers = {"reward/human_agreement": agreed / met} if met else {}
    for name, ones in sorted(slices.items()):
        values, clusters = zip(*ones, strict=True)
        estimate = clustered_mean(values, [1.0] * len(values), clusters)
        numbers |= estimate.named("reward/accuracy", of=f"/{name}")
    return numbers


def _weighted(weights: Sequence[float]) -> Callable[[Sequence[float]], float]:
    return lambda values: float(np.average(values, weights=weights))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
