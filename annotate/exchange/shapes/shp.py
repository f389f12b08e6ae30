"""The Stanford Human Preferences Dataset: two comments on a post; `labels` is 1 where A is the
better one."""

from __future__ import annotations

from collections.abc import Iterator

from annotate.exchange.shapes.shape import (
    ABOUT,
    Raw,
    Reading,
    Shape,
    about,
    has,
    ranking,
    text,
    truth,
)


def _recognises(row: Raw) -> bool:
    return has(row, "history", "human_ref_A", "human_ref_B", "labels")


def _read(row: Raw, reading: Reading) -> Iterator[Raw]:
    ranks = [1, 2] if truth(row.get("labels"), "labels") else [2, 1]
    texts = [text(row, "human_ref_A"), text(row, "human_ref_B")]
    domain = text(row, "domain")
    tags = {"tags": [domain[:50]]} if domain.strip() else {}
    yield ranking(text(row, "history"), texts, ranks, **(tags | about(row)))


SHAPE = Shape(
    name="shp",
    label="SHP: two comments on a post",
    recognises=_recognises,
    read=_read,
    reads=ABOUT | {"history", "human_ref_A", "human_ref_B", "labels", "domain"},
    implied=frozenset(("score_A", "score_B", "score_ratio")),
)
