"""Which of several answers won, however it is said: by letter, number or name."""

from __future__ import annotations

import re
from typing import Any

from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.values import Raw, short

TIES = {"tie", "tied", "draw", "both", "equal", "same", "both_good", "neither_better"}
ALL_BAD = {"both_bad", "bothbad", "tie_bothbad", "all_bad", "neither", "none"}
LEFT_RIGHT = {"left": 0, "right": 1, "first": 0, "second": 1}


def ranked(row: Raw) -> Raw:
    """The row with ranks in place of its winner. `winner_names` are the names of the columns its
    completions came from, if they were several."""
    row = dict(row)
    names = row.pop("winner_names", None)
    from_0 = "winner_from_0" in row
    winner = row.pop("winner_from_0" if from_0 else "winner")
    texts = row.get("completions")
    if not isinstance(texts, list) or "ranks" in row:
        raise BadRow("A winner is one of several completions; say which columns are these.")
    count = len(texts)
    spelled = re.sub(r"\W+", "_", str(winner).strip().lower()).strip("_")
    if spelled in ALL_BAD:
        return row | {"outcome": "all_bad", "ranks": [None] * count}
    if spelled in TIES:
        return row | {"ranks": [1] * count}
    place = _place(winner, spelled, texts, [names, row.get("policies")], from_0)
    if place is None or not 0 <= place < count:
        raise BadRow(f"The winner {short(winner)} is none of the {count} completions.")
    return row | {"ranks": [1 if i == place else 2 for i in range(count)]}


def _place(
    winner: Any, spelled: str, texts: list[Any], names: list[Any], from_0: bool
) -> int | None:
    for known in (*names, texts):
        if isinstance(known, list) and [str(each) for each in known].count(str(winner)) == 1:
            return [str(each) for each in known].index(str(winner))
    if spelled in LEFT_RIGHT:
        return LEFT_RIGHT[spelled]
    end = spelled.rpartition("_")[2]
    if re.fullmatch(r"\d+(_0)?", spelled):
        place = int(spelled.partition("_")[0])
        if not place and not from_0:
            raise BadRow("The winner is 0: say that the column is counted from 0.")
        return place if from_0 else place - 1
    for known in names:  # model_a won, and the columns are answer_a and answer_b
        if isinstance(known, list) and len(end) <= 2:
            ends = [re.split(r"[\W_]", str(each).lower())[-1] for each in known]
            if ends.count(end) == 1:
                return ends.index(end)
    if re.fullmatch("[a-i]", end):
        return ord(end) - ord("a")
    return int(end) - 1 if re.fullmatch("[1-9]", end) else None
