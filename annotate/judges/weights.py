"""What a judge's vote weighs beside a person's, where an operator lets it teach."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from annotate.judges.models import Judge
from annotate.judges.runs import JudgeRanking
from annotate.labels.agreement import Ranked
from annotate.labels.kinds.ranking.answer import Placement, Ranking
from annotate.people.models import Project
from annotate.quality.reliability import CAREFUL, Reliability, against_the_others, votes_of

LEAST = 0.05  # as the least reliable of people count


def reliability_of(judge: Judge, at: datetime | None = None) -> Reliability | None:
    """How often it is right on a comparison, 0.5 by chance, by the joint model of all who ranked
    the same completions; now, or at that moment. None where it has met nobody."""
    rankings = JudgeRanking.objects.of_judge(judge).complete(at).select_related("task")
    own = [Ranked(each.task.prompt_id, -1, each.places_by_id) for each in rankings]
    votes = votes_of([*own, *_of_people(judge.project, {each.prompt for each in own}, at)])
    found = against_the_others(votes).get(-1)
    return found.reliability if found else None


def _of_people(project: Project, prompts: Iterable[int], at: datetime | None) -> list[Ranked]:
    rankings = Ranking.objects.about(prompts).in_force(project, at).ordinary().of_staff()
    ranked = rankings.filter(outcome=Ranking.Outcome.RANKED).order_by().values("pk")
    rows = Placement.objects.filter(ranking__in=ranked).values_list(
        "ranking_id", "ranking__prompt_id", "ranking__labeler_id", "completion_id", "place"
    )
    places: dict[tuple[int, int, int], dict[int, int]] = defaultdict(dict)
    for ranking, prompt, labeler, completion, place in rows:
        places[ranking, prompt, labeler][completion] = place
    return [Ranked(prompt, labeler, order) for (_, prompt, labeler), order in places.items()]


def weight_of(judge: Judge, at: datetime | None = None) -> float | None:
    """Its vote, where that of a careful person weighs 1. Who is right with probability r and else
    errs at random carries 2r - 1 of what is known by one who never errs; r is taken at the lower
    end of its interval, so that a judge hardly measured counts little. None: never measured."""
    measured = reliability_of(judge, at)
    if measured is None:
        return None
    weight = (2 * measured.interval[0] - 1) / (2 * CAREFUL - 1)
    return round(min(max(weight, LEAST), 1.0), 4)


def weights_of(judges: Iterable[Judge], at: datetime | None = None) -> dict[int, float]:
    """Id of a judge → its weight, as `weight_of`; without those that were never measured."""
    weights = {
        judge.pk: weight_of(judge, at) for judge in {each.pk: each for each in judges}.values()
    }
    return {pk: weight for pk, weight in weights.items() if weight is not None}
