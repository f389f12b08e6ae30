"""After how many answers a trained policy has paid for its training: a prompted teacher, dear to
ask, against a student that was taught to answer like it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil

from annotate.costs.models import CallQuerySet
from annotate.costs.totals import Total, totals
from annotate.models import Policy
from rlhf.costs.runs import Spent, runs_behind, seconds_of_labels, spent_on, total_of
from rlhf.evaluation.matches import WinRate, matches_of, win_rate
from rlhf.models.runs import Run


@dataclass(frozen=True)
class BreakEven:
    """Prices of 1,000 answers, what the training cost, and how many answers the student has given;
    None: not known."""

    teacher: Decimal | None
    student: Decimal | None
    training: Decimal | None
    given: int = 0

    @property
    def saved_on_1000(self) -> Decimal | None:
        if self.teacher is None or self.student is None:
            return None
        return self.teacher - self.student

    @property
    def answers(self) -> int | None:
        """After how many answers what they save is what the training cost, at the least; None:
        never, or not known."""
        if not self.is_known or not self.can_pay:
            return None
        assert self.training is not None and self.saved_on_1000 is not None
        if not self.training:
            return 0
        return ceil(Fraction(self.training) * 1000 / Fraction(self.saved_on_1000))

    @property
    def is_known(self) -> bool:
        return self.saved_on_1000 is not None and self.training is not None

    @property
    def can_pay(self) -> bool:
        """Tells whether an answer of the student is the cheaper one, or the training was free and
        none is dearer."""
        saved = self.saved_on_1000
        return saved is not None and (saved > 0 or (saved == 0 and self.training == 0))

    @property
    def has_paid(self) -> bool:
        return self.answers is not None and self.given >= self.answers

    @property
    def left(self) -> int | None:
        """How many answers are still to be given until it has paid."""
        return None if self.answers is None else max(self.answers - self.given, 0)

    @property
    def balance(self) -> Decimal | None:
        """What the answers so far have saved, less the training."""
        if self.saved_on_1000 is None or self.training is None:
            return None
        return self.saved_on_1000 * self.given / 1000 - self.training


@dataclass(frozen=True)
class Paying:
    """The reckoning for two policies, with what it rests on. `quality`: how often people prefer the
    student, blind; None: they have not compared the two. `missing`: what has to be set or done
    first."""

    teacher: Policy
    student: Policy
    even: BreakEven
    training: Spent
    labels: Decimal | None
    quality: WinRate | None
    missing: list[str]

    @property
    def lost(self) -> tuple[float, float | None, float | None] | None:
        """How much less than half of the comparisons the student wins, with the ends of the 95 %
        interval."""
        if self.quality is None:
            return None
        rate = self.quality.overall
        low, high = (None if end is None else 0.5 - end for end in (rate.high, rate.low))
        return 0.5 - rate.win_rate, low, high


def paying(teacher: Policy, student: Policy, *, calls: CallQuerySet, with_labels: bool) -> Paying:
    """Reckons for two policies. `calls`: those by which answers are priced; what the student has
    given so far counts guests and products alone, of any time."""
    found = totals(calls.of_policies(teacher, student), "policy")
    asked, taught = (found.get(each.pk, Total()) for each in (teacher, student))
    runs = runs_behind(student, until=teacher)
    training = total_of(spent_on(student.project, runs).values())
    wage = student.project.wage
    seconds = seconds_of_labels(runs) if with_labels else 0
    labels = Decimal(0) if not seconds else None if wage is None else seconds * wage / 3600
    cost = None if training.cost is None or labels is None else training.cost + labels
    given = student.calls.of_products().answered().count()
    even = BreakEven(asked.price_of_1000, taught.price_of_1000, cost, given)
    missing = [
        *_unpriced(teacher, asked),
        *_unpriced(student, taught),
        *_unpaid(student, runs, training, labels),
    ]
    quality = win_rate(matches_of(student.project), student.pk, teacher.pk)
    return Paying(teacher, student, even, training, labels, quality, missing)


def _unpriced(policy: Policy, total: Total) -> list[str]:
    if total.price_of_1000 is not None:
        return []
    if not total.answered:
        return [
            f"{policy} gave no answer in this period. Ask it something, or choose a longer one."
        ]
    if not policy.connection:
        return [
            f"It is not known what an answer of {policy} costs. Set “Price of a machine hour” in "
            "the settings of the project; it counts for answers from then on."
        ]
    if policy.connection.price_in is None or policy.connection.price_out is None:
        return [
            f"It is not known what an answer of {policy} costs. Set both prices of the connection "
            f"{policy.connection}; they count for answers from then on."
        ]
    return [
        f"The answers of {policy} were given before {policy.connection} had prices, or it does not "
        "count tokens. Ask it something now."
    ]


def _unpaid(policy: Policy, runs: list[Run], spent: Spent, labels: Decimal | None) -> list[str]:
    missing = []
    if spent.machine is None:
        missing.append(
            f"It is not known what the training of {policy} cost. Set “Price of a machine hour” in "
            "the settings of the project."
        )
    if spent.unpriced:
        missing.append(
            f"{spent.unpriced} answers that {policy} learnt from have no known price: their "
            "connection had none."
        )
    if labels is None:
        missing.append("Set “Wage per hour” in the settings of the project to count the labels.")
    if not runs:
        missing.append(f"{policy} was not trained here, so nothing of its training is counted.")
    return missing
