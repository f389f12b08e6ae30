"""NVIDIA's HelpSteer: 1 and 2 rate each response to a prompt, in rows in succession, which makes a
ranking by helpfulness; 3 compares two, from -3 (the first is much better) to 3."""

from __future__ import annotations

from collections.abc import Iterator

from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.shapes.shape import (
    ABOUT,
    Raw,
    Reading,
    Shape,
    Skip,
    about,
    has,
    listed,
    number,
    ranking,
    text,
)
from annotate.exchange.turns import is_conversation, turns_of
from annotate.exchange.values import short

OTHERS = ("correctness", "coherence", "complexity", "verbosity")
MOST = 9


def _rates(row: Raw) -> bool:
    return has(row, "prompt", "response", "helpfulness")


def _read_ratings(row: Raw, reading: Reading) -> Iterator[Raw | Skip]:
    rows = row["prompt"]
    if len(rows) == 1:
        raise Skip("only one response to the prompt is rated: nothing to compare")
    if len(rows) > MOST:
        raise Skip(f"more than {MOST} responses to one prompt")
    helpful = [number(each.get("helpfulness"), "helpfulness") for each in rows]
    texts = [text(each, "response") for each in rows]
    ranks = [sorted(set(helpful), reverse=True).index(each) + 1 for each in helpful]
    yield ranking(text(rows[0], "prompt"), texts, ranks, **about(rows[0]))


RATINGS = Shape(
    name="helpsteer",
    label="HelpSteer 1 and 2: rated responses, ranked by helpfulness",
    recognises=_rates,
    read=_read_ratings,
    together="prompt",
    reads=ABOUT | {"prompt", "response", "helpfulness"},
    implied=frozenset(OTHERS),
)


def _compares(row: Raw) -> bool:
    return has(row, "context", "response1", "response2", "overall_preference")


def _read_comparison(row: Raw, reading: Reading) -> Iterator[Raw]:
    asked = listed(row.get("context"))
    prompt = turns_of(asked, reading)[0] if is_conversation(asked) else text(row, "context")
    by = number(row.get("overall_preference"), "overall_preference")
    if abs(by) > 3:
        raise BadRow(f"“overall_preference” must be from -3 to 3, not {short(by)}.")
    ranks = [1, 1] if not by else [1, 2] if by < 0 else [2, 1]
    strength = {"strength": round(abs(by)) + 1} if by else {}
    tags = [str(row[name]) for name in ("domain", "language") if row.get(name)]
    answers = [text(row, "response1"), text(row, "response2")]
    yield ranking(prompt, answers, ranks, **strength, **({"tags": tags} | about(row)))


COMPARISONS = Shape(
    name="helpsteer3",
    label="HelpSteer 3: two responses compared",
    recognises=_compares,
    read=_read_comparison,
    reads=ABOUT | {"context", "response1", "response2", "overall_preference", "domain", "language"},
    implied=frozenset(("individual_preference",)),
)
