"""Whether a reward model can be trusted: what it gets right beside what costs nothing, and what
people themselves reach."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from annotate.templatetags.show import interval
from rlhf.models.metrics import Metric
from rlhf.models.runs import Run

CHANCE = 0.5
FOLLOWS = 0.5  # a correlation of score and length from which on the score is mostly length


@dataclass(frozen=True)
class Health:
    """On held-out comparisons. `longer`: how often the longer answer wins, which is what a rule
    that counts words gets right, turned round where the shorter wins; `ceiling`: the share that
    always following the majority of people gets right; `by_length`: correlation of score and
    length; `off_by`: expected calibration error."""

    accuracy: float
    low: float | None
    high: float | None
    longer: float | None
    ceiling: float | None
    by_length: float | None
    off_by: float | None
    comparisons: int

    @property
    def length_rule(self) -> float | None:
        """Gives the accuracy of whichever rule of length is better: longer wins, or shorter."""
        return None if self.longer is None else max(self.longer, 1 - self.longer)

    @property
    def prefers(self) -> str:
        return "shorter" if self.longer is not None and self.longer < CHANCE else "longer"

    @property
    def warnings(self) -> list[str]:
        """Says what makes its judgement doubtful."""
        found = []
        if self.low is None or self.low <= CHANCE:
            found.append("It may be no better than chance.")
        if self.length_rule is not None and (self.low or 0) <= self.length_rule:
            found.append(f"Choosing the {self.prefers} answer may be right as often.")
        if self.by_length is not None and abs(self.by_length) >= FOLLOWS:
            more = "long" if self.by_length > 0 else "short"
            found.append(f"Its score follows length: it pays for {more} answers.")
        return found


def health_of(run: Run) -> Health | None:
    """Reads the final figures of a reward model's training; None where nothing was held out."""
    if run.kind != Run.Kind.REWARD:
        return None
    final = Metric.objects.of(run).in_split("final").last()
    values = final.values if final else {}
    if values.get("reward/accuracy") is None:
        return None
    return Health(
        accuracy=values["reward/accuracy"],
        low=values.get("reward/accuracy_low"),
        high=values.get("reward/accuracy_high"),
        longer=values.get("reward/longer_wins"),
        ceiling=values.get("reward/ceiling"),
        by_length=values.get("reward/score_length_correlation"),
        off_by=values.get("reward/calibration_error"),
        comparisons=int(values.get("data/comparisons", 0)),
    )


@dataclass(frozen=True)
class Accuracy:
    """The share of held-out comparisons that a training gets right, with its 95 % interval."""

    share: float
    low: float | None
    high: float | None
    comparisons: int | None

    def __str__(self) -> str:
        of = f" of {self.comparisons}" if self.comparisons else ""
        return f"{self.share:.0%} {interval(self.low, self.high)}{of}"


def accuracies_of(runs: Iterable[Run]) -> dict[int, Accuracy]:
    """Reads the accuracy of those runs that have measured one, by their ids."""
    told = {run.pk: run.summary for run in runs if run.summary.get("accuracy") is not None}
    comparisons = Metric.objects.comparisons_of(told) if told else {}
    return {
        pk: Accuracy(
            summary["accuracy"],
            summary.get("accuracy_low"),
            summary.get("accuracy_high"),
            comparisons.get(pk),
        )
        for pk, summary in told.items()
    }
