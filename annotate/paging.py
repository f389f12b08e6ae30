"""Pages of long lists. A page begins after a row and not after a count of rows, so that the last
page costs what the first does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from annotate.ids import id_in

PAGE_SIZE = 50
COUNTED = 10_000  # beyond that, a list says "10,000+" and the database counts no further


@dataclass(frozen=True)
class Page:
    """`previous` and `next` are the ids between which this page lies, None at the ends."""

    rows: list[Any]
    previous: int | None
    next: int | None


def page_of(
    rows: QuerySet[Any], asked: Mapping[str, Any], *, size: int = PAGE_SIZE, newest_first: bool
) -> Page:
    """The page after the row `asked["after"]` or before `asked["before"]`; else the first."""
    after, before = id_in(asked.get("after")), id_in(asked.get("before"))
    onward, order = ("lt", "-pk") if newest_first else ("gt", "pk")
    if before is not None:
        back = "gt" if onward == "lt" else "lt"
        nearest = rows.filter(**{f"pk__{back}": before}).order_by(order).reverse()
        found = list(nearest[: size + 1])
        if len(found) > size:
            found = found[size - 1 :: -1]
            return Page(found, previous=found[0].pk, next=found[-1].pk)
        after = None  # fewer than a page: begin at the beginning
    if after is not None:
        rows = rows.filter(**{f"pk__{onward}": after})
    found = list(rows.order_by(order)[: size + 1])
    shown = found[:size]
    return Page(
        shown,
        previous=shown[0].pk if shown and after is not None else None,
        next=shown[-1].pk if len(found) > size else None,
    )


def counted(rows: QuerySet[Any]) -> str:
    """How many there are, in words: "1,234", or "10,000+"."""
    count = rows.order_by()[: COUNTED + 1].count()
    return f"{count:,}" if count <= COUNTED else f"{COUNTED:,}+"
