"""How many labels of each kind a round would learn from.

Rankings are read once: a page asks a dozen things about them before a launch, and they may be a
hundred thousand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from django.db import connection, models

from annotate.models import Demonstration, Project
from rlhf.data.selection import (
    EVERYTHING,
    HELD_OUT,
    TRAIN,
    Filters,
    all_rankings,
    demonstrations,
    documents,
    judge_rankings,
    outdone,
    pairs,
    prompts,
    thumbs,
    training_rankings,
)

COMPARISONS = """
SELECT ranking_id, ((sum(n) * sum(n) - sum(n * n)) / 2)::int
FROM (SELECT ranking_id, count(*) AS n FROM annotate_placement
      WHERE ranking_id = ANY(%s) GROUP BY ranking_id, place) AS tiers
GROUP BY ranking_id
"""


class Row(NamedTuple):
    pk: int
    prompt: int
    labeler: int
    split: str
    comparisons: int  # 0: it prefers nothing to anything


@dataclass(frozen=True)
class RankingCounts:
    """All that pass the filters, ties only among them."""

    rows: list[Row]
    held_out_labelers: tuple[int, ...]

    @cached_property
    def by_others(self) -> list[Row]:
        """Leaves out the rankings of held-out labelers, which never train."""
        return [row for row in self.rows if row.labeler not in self.held_out_labelers]

    @cached_property
    def learnt(self) -> list[Row]:
        """Picks what the reward model would learn from."""
        return [row for row in self.by_others if row.comparisons and row.split in TRAIN]

    @property
    def counts(self) -> dict[str, int]:
        held_out = [row for row in self.by_others if row.comparisons and row.split in HELD_OUT]
        trained = {row.prompt for row in self.learnt}
        by_held_out_labelers = [
            row
            for row in self.rows
            if row.comparisons
            and row.labeler in self.held_out_labelers
            and row.prompt not in trained
        ]
        return {
            "rankings": len(self.learnt),
            "comparisons": sum(row.comparisons for row in self.learnt),
            "held_out_rankings": len(held_out),
            "held_out_labelers_rankings": len(by_held_out_labelers),
        }

    @property
    def labelers(self) -> list[tuple[int, int]]:
        """Counts the rankings to learn from by labeler: [(labeler, rankings)], the most first."""
        return Counter(row.labeler for row in self.learnt).most_common()

    @property
    def repeated(self) -> list[int]:
        """Ids of rankings by somebody who ranked the same prompt more than once."""
        times = Counter((row.labeler, row.prompt) for row in self.learnt)
        return [row.pk for row in self.learnt if times[row.labeler, row.prompt] > 1]


def count(
    project: Project, filters: Filters = EVERYTHING, rankings: RankingCounts | None = None
) -> dict[str, int]:
    """Counts what would be learnt from, and what is held out: name of a kind of label → how
    many."""
    by_split = dict(
        prompts(project, filters).order_by().values_list("split").annotate(n=models.Count("pk"))
    )
    given = thumbs(project, filters).in_split(*TRAIN)
    return {
        "demonstrations": demonstrations(project, filters).in_split(*TRAIN).count(),
        **(rankings or count_rankings(project, filters)).counts,
        "prompts": sum(by_split.get(split, 0) for split in TRAIN),
        "held_out_prompts": sum(by_split.get(split, 0) for split in HELD_OUT),
        **given.by_side(),
        "documents": documents(project, filters).in_split(*TRAIN).count(),
        **count_of_guests(project, filters),
        "judge_rankings": len(judge_rankings(project, filters)),
    }


def count_of_guests(project: Project, filters: Filters = EVERYTHING) -> dict[str, int]:
    """Counts what among the labels to learn from guests of the chat have said, beside thumbs."""
    written = demonstrations(project, filters).of_guests().in_split(*TRAIN)
    preferred = training_rankings(project, filters).of_guests().in_split(*TRAIN)
    return {"guest_demonstrations": written.count(), "guest_rankings": preferred.count()}


def count_rankings(project: Project, filters: Filters) -> RankingCounts:
    names = ("pk", "prompt", "labeler", "prompt__split")
    found = list(all_rankings(project, filters).order_by("pk").values_list(*names))
    comparisons = _comparisons(pk for pk, *_ in found)
    rows = [Row._make((*facts, comparisons.get(facts[0], 0))) for facts in found]
    for _, labels in pairs(project, filters):
        # Each is a ranking of two. Its id is negative, to be that of no ranking.
        rows += [Row._make((-pk, *facts, 1)) for pk, *facts in labels.values_list(*names)]
    better = {each.demonstration: len(each.completions) for each in outdone(project, filters)}
    written = Demonstration.objects.filter(pk__in=better).order_by("pk").values_list(*names)
    rows += [Row._make((-pk, *facts, better[pk])) for pk, *facts in written]
    return RankingCounts(rows, filters.held_out_labelers)


def _comparisons(rankings: Iterable[int]) -> dict[int, int]:
    """Ranking → in how many of its pairs one is better than the other."""
    with connection.cursor() as cursor:
        cursor.execute(COMPARISONS, [list(rankings)])
        return dict(cursor.fetchall())
