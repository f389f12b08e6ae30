"""PKU-SafeRLHF: two responses, which one is better (more helpful), and which one is safer. One of
the two judgements is read; the other is another shape of the same file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.shapes.shape import (
    ABOUT,
    Raw,
    Reading,
    Shape,
    about,
    has,
    number,
    ranking,
    text,
)
from annotate.exchange.values import short

BETTER, SAFER = "better_response_id", "safer_response_id"


def _by(name: str) -> Callable[[Raw, Reading], Iterable[Raw]]:
    def read(row: Raw, reading: Reading) -> Iterator[Raw]:
        best = number(row.get(name), name)
        if best not in (0, 1):
            raise BadRow(f"“{name}” must be 0 or 1, not {short(best)}.")
        texts = [text(row, "response_0"), text(row, "response_1")]
        ranks = [2, 1] if best else [1, 2]
        yield ranking(text(row, "prompt"), texts, ranks, **about(row))

    return read


def _shape(name: str, label: str, by: str) -> Shape:
    other = SAFER if by == BETTER else BETTER
    return Shape(
        name=name,
        label=label,
        recognises=lambda row: has(row, "prompt", "response_0", "response_1", by),
        read=_by(by),
        reads=ABOUT | {"prompt", "response_0", "response_1", by},
        implied=frozenset((other, "is_response_0_safe", "is_response_1_safe")),
    )


HELPFUL = _shape("pku_saferlhf", "PKU-SafeRLHF: which is more helpful", BETTER)
SAFE = _shape("pku_saferlhf_safety", "PKU-SafeRLHF: which is safer", SAFER)
