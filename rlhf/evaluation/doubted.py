"""Doubted rankings: where a reward model is confident that people have it the wrong way round.

One of the two is wrong. A second person says which; where two or more people hold against the
reward model, it is the model, and the prompt can become a probe of a suite."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import exp, log

from django.core.exceptions import ValidationError
from django.db import transaction

from annotate.models import Completion, Placement, Project, Prompt, Task
from annotate.work.tasks import TaskQuerySet
from rlhf.data.selection import all_rankings
from rlhf.models.outcomes import RewardModel
from rlhf.models.probes import written
from rlhf.models.runs import Run
from rlhf.models.suites import Suite

CONFIDENT = 0.9  # the chance of being preferred from which on a reward model is confident
SUREST = 0.99  # said of whatever is surer
GAP = log(CONFIDENT / (1 - CONFIDENT))
SETTLED = 2  # people against it, from which on the reward model is wrong
MOST_PLACES = 60_000  # of the newest rankings, that a page looks through
SUITE = "Doubted rankings"
WORD = re.compile(r"\w+")
Pair = tuple[int, int, int]  # the run that scored, the better completion, the worse


@dataclass(frozen=True)
class Card:
    """A completion in a ranking. `run`: which sampled and scored it."""

    pk: int
    place: int
    score: float
    run: int


@dataclass(frozen=True)
class Doubt:
    """Of one prompt, the two completions that people and a reward model order most differently.
    `chance`: how sure the model is of the other order, 0.9 to 0.99."""

    task: int | None
    prompt: Prompt
    better: Completion
    worse: Completion
    judge: str
    chance: float
    people_for: int
    people_against: int

    @property
    def is_settled(self) -> bool:
        return self.people_for >= SETTLED

    @property
    def probe(self) -> str:
        """Gives the line of a suite that asks for an answer more like the better one; empty where
        none says it."""
        good, bad = (" ".join(WORD.findall(each.text)) for each in (self.better, self.worse))
        if len(self.prompt.messages) > 1 or not good or not bad:
            return ""
        try:
            return written([self.prompt.messages[0]["content"]], f"nearer({good}|{bad})")
        except ValidationError:
            return ""


def doubted(project: Project) -> list[Doubt]:
    """Lists the doubted rankings, the surest doubt first: one a prompt. Completions count that one
    run sampled and scored; what people say counts once a person."""
    said: dict[Pair, dict[int, int]] = defaultdict(dict)
    asked: dict[Pair, tuple[int, int | None]] = {}
    scores: dict[int, float] = {}
    for (labeler, prompt, task), cards in _rankings(project).items():
        scores |= {card.pk: card.score for card in cards}
        for pair, opinion in _opinions(cards):
            said[pair][labeler] = opinion
            asked[pair] = prompt, task
    surest: dict[int, tuple[float, Pair]] = {}
    for pair, opinions in said.items():
        _, better, worse = pair
        gap = scores[worse] - scores[better]
        prompt = asked[pair][0]
        if sum(opinions.values()) > 0 and gap > surest.get(prompt, (GAP, pair))[0]:
            surest[prompt] = gap, pair
    order = sorted(surest.values(), reverse=True)
    return _told(order, said, {pair: asked[pair][1] for _, pair in order})


def _rankings(project: Project) -> Mapping[tuple[int, int, int | None], list[Card]]:
    """(labeler, prompt, task) → the scored completions of a ranking."""
    rows = (
        Placement.objects.filter(ranking__in=all_rankings(project).order_by().values("pk"))
        .exclude(completion__score=None)
        .exclude(completion__sampling__run=None)
        .order_by("-ranking")
        .values_list(
            "ranking__labeler", "ranking__prompt", "ranking__assignment__task",
            "completion", "place", "completion__score", "completion__sampling__run",
        )[:MOST_PLACES]
    )  # fmt: skip
    found: dict[tuple[int, int, int | None], list[Card]] = defaultdict(list)
    for labeler, prompt, task, *card in rows:
        found[labeler, prompt, task].append(Card(*card))
    return found


def _opinions(cards: Iterable[Card]) -> Iterator[tuple[Pair, int]]:
    """Every pair that a reward model is confident about, the completion it holds for the worse
    first: 1 where the labeler prefers that one, −1 where the other, 0 for a tie."""
    for one, other in combinations(cards, 2):
        low, high = sorted((one, other), key=lambda card: card.score)
        if one.run == other.run and high.score - low.score >= GAP:
            preferred = (low.place < high.place) - (low.place > high.place)
            yield (low.run, low.pk, high.pk), preferred


def _told(
    order: list[tuple[float, Pair]],
    said: Mapping[Pair, Mapping[int, int]],
    tasks: Mapping[Pair, int | None],
) -> list[Doubt]:
    pks = {pk for _, (_, *both) in order for pk in both}
    completions = Completion.objects.select_related("prompt", "policy").in_bulk(pks)
    judges = _judges({pair[0] for _, pair in order})
    return [
        Doubt(
            task=tasks[pair],
            prompt=completions[pair[1]].prompt,
            better=completions[pair[1]],
            worse=completions[pair[2]],
            judge=judges.get(pair[0], ""),
            chance=min(1 / (1 + exp(-gap)), SUREST),
            people_for=list(said[pair].values()).count(1),
            people_against=list(said[pair].values()).count(-1),
        )
        for gap, pair in order
    ]


def _judges(runs: set[int]) -> dict[int, str]:
    """Run → the name of the reward model that scored its answers."""
    found = Run.objects.in_bulk(runs)
    models = RewardModel.objects.select_related("checkpoint__run__round").in_bulk(
        {run.config["reward_model"] for run in found.values() if run.config.get("reward_model")}
    )
    return {
        pk: models[run.config["reward_model"]].name
        if run.config.get("reward_model") in models
        else run.summary.get("judge", "")
        for pk, run in found.items()
    }


@transaction.atomic
def alone(found: Iterable[Doubt]) -> TaskQuerySet:
    """Of doubts that one person stands behind, the tasks that nobody else has been asked."""
    tasks = [each.task for each in found if each.task and not each.is_settled]
    return Task.objects.filter(pk__in=tasks).closed()


def ask_second(project: Project) -> int:
    """Hands every doubted ranking that one person stands behind to one more. Returns how many."""
    return sum(task.ask_another() for task in alone(doubted(project)))


def add_probe(project: Project, doubt: Doubt) -> bool:
    """Adds the probe of a settled doubt to the project's suite of such. Returns whether it was
    new."""
    if not doubt.probe or not doubt.is_settled:
        return False
    _, new = Suite.add(project, name=SUITE, lines=[doubt.probe])
    return bool(new)
