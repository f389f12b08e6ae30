"""What the ledger adds up to: calls, tokens, milliseconds, money."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db.models import Aggregate, Count, FloatField, Q, Sum

from annotate.costs.models import Call, CallQuerySet

MEASURED = 10_000  # calls, by which the milliseconds of a period are known
ANSWERED = Q(outcome=Call.Outcome.ANSWERED)


class Percentiles(Aggregate):
    """[median, 95th percentile], by PostgreSQL's percentile_cont."""

    function = "percentile_cont"
    template = "%(function)s(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = ArrayField(FloatField())


@dataclass(frozen=True)
class Milliseconds:
    """The median, and what 95 of 100 answers take at most."""

    p50: float
    p95: float


@dataclass(frozen=True)
class Times:
    """Until the first words of an answer, and until its end."""

    first: Milliseconds | None = None
    whole: Milliseconds | None = None


@dataclass(frozen=True)
class Total:
    """`priced`: how many answers stand behind `price`, which leaves out what nobody knows the price
    of."""

    calls: int = 0
    answered: int = 0
    stopped: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    priced: int = 0
    price: Decimal | None = None

    def __add__(self, other: Total) -> Total:
        prices = [each.price for each in (self, other) if each.price is not None]
        counts = {
            each.name: getattr(self, each.name) + getattr(other, each.name)
            for each in fields(Total)
            if each.name != "price"
        }
        return Total(price=sum(prices, Decimal(0)) if prices else None, **counts)

    @property
    def price_of_1000(self) -> Decimal | None:
        """What 1,000 answers cost, with the calls that failed or were stopped on the way."""
        return self.price * 1000 / self.priced if self.price is not None and self.priced else None

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out


def totals(calls: CallQuerySet, *by: str) -> dict[Any, Total]:
    """Adds up calls, without the milliseconds: the value of a field, or the values of several →
    what it comes to."""
    sums = _grouped(calls, *by).annotate(
        calls=Count("pk"),
        answered=Count("pk", filter=ANSWERED),
        stopped=Count("pk", filter=Q(outcome=Call.Outcome.STOPPED)),
        failed=Count("pk", filter=Q(outcome=Call.Outcome.FAILED)),
        tokens_in=Sum("tokens_in", default=0),
        tokens_out=Sum("tokens_out", default=0),
        # Before the sum of that name, which would be taken for the field.
        priced=Count("pk", filter=ANSWERED & Q(price__isnull=False)),
        price=Sum("price"),
    )
    return {
        _key(row, by): Total(**{name: value for name, value in row.items() if name not in by})
        for row in sums
    }


def times(calls: CallQuerySet, *by: str, among: Mapping[Any, Total]) -> dict[Any, Times]:
    """Measures how long answers took, by the same or fewer keys; `among`: the totals of the same
    calls. Of many calls about MEASURED, spread evenly."""
    every = sum(each.calls for each in among.values()) // MEASURED + 1
    answered = _grouped(calls.filter(ANSWERED).one_in(every), *by)
    took = answered.annotate(first=Percentiles("first_ms"), whole=Percentiles("total_ms"))
    return {_key(row, by): Times(_ms(row["first"]), _ms(row["whole"])) for row in took}


def together(found: Iterable[Total]) -> Total:
    return sum(found, Total())


def _grouped(calls: CallQuerySet, *by: str) -> Any:
    return calls.order_by().values(*by)


def _key(row: dict[str, Any], by: tuple[str, ...]) -> Any:
    return row[by[0]] if len(by) == 1 else tuple(row[name] for name in by)


def _ms(found: list[float] | None) -> Milliseconds | None:
    return Milliseconds(*found) if found else None
