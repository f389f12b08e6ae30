"""The answers of one labeler, for leads who look at them: how far they agree with those of others,
and all of them side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from annotate.labels.agreement import Ranked, by_prompt
from annotate.labels.kinds.ranking.answer import Placement, Ranking
from annotate.prompts.policies import Completion
from annotate.quality.labelers import with_peers
from annotate.work.assignments import Assignment

MOST_BESIDE = 6
Met = tuple[int, int]


def met_on(rankings: Iterable[Ranked], labeler: int) -> dict[int, Met]:
    """Prompt → (agreed, compared): the comparisons there with the others who ranked it."""
    met = {}
    for same in by_prompt(rankings):
        if clusters := with_peers(same).get(labeler):
            met[same[0].prompt] = clusters[0]
    return met


def at_odds(met: Mapping[int, Met]) -> list[int]:
    """The prompts on which they agree in less than half of the comparisons."""
    return [prompt for prompt, (agreed, compared) in met.items() if 2 * agreed < compared]


@dataclass(frozen=True)
class Sheet:
    """Each completion with the place that each of the people named gave it, if they had it."""

    names: list[str]
    rows: list[tuple[Completion, list[tuple[str, Placement | None]]]]


def side_by_side(work: Assignment, own: Ranking) -> Sheet:
    """A ranking beside the right one of a gold task, or else those that others gave the prompt."""
    columns = [(own.labeler.display_name, own)]
    if work.task.gold:
        columns.append(("Gold", work.task.gold))
    else:
        others = work.task.prompt.rankings.current().ordinary().not_by(own.labeler).order_by("pk")
        shown = enumerate(others.with_placements()[:MOST_BESIDE], start=1)
        columns += [(f"L{number}", ranking) for number, ranking in shown]
    placed = [
        (name, {each.completion_id: each for each in ranking.placed}) for name, ranking in columns
    ]
    completions = work.task.completions.in_bulk(own.shown_order)
    rows = [
        (completions[pk], [(name, of_one.get(pk)) for name, of_one in placed])
        for pk in own.shown_order
    ]
    return Sheet([name for name, _ in columns], rows)
