"""What the page of a judge shows: read from its answers and people's rankings when asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from django.core.cache import cache
from django.db.models import Sum
from django.db.models.functions import Length

from annotate.judges.measures import (
    Beside,
    Contradiction,
    Kappa,
    Level,
    agreement,
    by_length,
    by_tag,
    contradictions,
    could_be_left,
    first_wins,
    kappa,
    levels,
    longer_wins,
    wins_of,
)
from annotate.judges.models import Judge
from annotate.judges.places import Verdicts, firsts, opinions_of
from annotate.judges.questions import JudgeQuestion
from annotate.judges.runs import JudgeRanking
from annotate.judges.weights import weight_of
from annotate.labels.agreement import Order, Share, share_of
from annotate.labels.kinds.ranking.answer import Placement, Ranking
from annotate.people.models import Project
from annotate.prompts.models import Prompt, content_hash
from annotate.prompts.policies import Completion, CompletionQuerySet, Policy
from annotate.quality.labelers import rankings_of

CONTRADICTIONS_SHOWN, TAGS_SHOWN, UNREADABLE_SHOWN = 50, 20, 5


@dataclass(frozen=True)
class Case:
    """A contradiction with what it is about."""

    found: Contradiction
    prompt: Prompt
    judges_choice: Completion
    peoples_choice: Completion


@dataclass(frozen=True)
class Line:
    """A judge among others: how much it has ranked, and how far it agrees with people."""

    judge: Judge
    ranked: int
    agreement: Share | None


def lines_of(project: Project) -> list[Line]:
    """All judges of a project. What is read from every ranking there is, is read once for each
    state: the agreement of a judge changes when somebody ranks, and not when somebody looks."""
    people = Ranking.objects.of_project(project).state()
    return [
        _line(judge, content_hash([judge.pk, judge.rankings.state(), people]))
        for judge in project.judges.select_related("policy", "project")
    ]


def _line(judge: Judge, state: str) -> Line:
    found: tuple[int, Share | None] | None = cache.get(state)
    if found is None:
        report = Report(judge)
        found = report.ranked, report.agreement
        cache.set(state, found, timeout=None)
    return Line(judge, *found)


@dataclass(frozen=True)
class Report:
    """All that is known of a judge. Properties read the database once, when they are asked."""

    judge: Judge

    @cached_property
    def counts(self) -> dict[str, int]:
        """State of a question → how many."""
        return self.judge.questions.counts()

    @cached_property
    def price(self) -> Decimal | None:
        """What its replies cost, where the prices of its connection are known."""
        spent: Decimal | None = self.judge.questions.aggregate(price=Sum("price"))["price"]
        return spent

    @property
    def unreadable(self) -> list[JudgeQuestion]:
        """Some replies that could not be read, the latest first."""
        found = self.judge.questions.unreadable().order_by("-pk")
        return list(found.select_related("ranking__task__prompt")[:UNREADABLE_SHOWN])

    @cached_property
    def _verdicts(self) -> dict[int, Verdicts]:
        """Ranking → its verdicts, all of them that could be read."""
        found: dict[int, dict[tuple[int, int | None], str]] = defaultdict(dict)
        answered = self.judge.questions.answered().order_by("pk")
        rows = answered.values_list("ranking", "first", "second", "said")
        for ranking, first, second, said in rows:
            found[ranking][first, second] = said
        return dict(found)

    @cached_property
    def _rankings(self) -> list[JudgeRanking]:
        """Those with all their verdicts."""
        complete = self.judge.rankings.complete().select_related("task__prompt").order_by("pk")
        return list(complete)

    @cached_property
    def beside(self) -> list[Beside]:
        """The tasks that people ranked too."""
        rankings = self._rankings
        people = orders_of_people(self.judge.project, [each.task.prompt_id for each in rankings])
        lengths = self._lengths
        found = []
        for ranking in rankings:
            prompt = ranking.task.prompt
            opinions = opinions_of(self.judge.form, self._verdicts[ranking.pk])
            own = {pk for pair in opinions for pk in pair}
            met = [order for order in people[prompt.pk] if len(own & order.keys()) > 1]
            if met:
                sure = ranking.confidence or 0.0
                mine = {pk: lengths.get(pk, 0) for pk in own}
                found.append(
                    Beside(ranking.task_id, prompt.pk, opinions, met, prompt.tags, mine, sure)
                )
        return found

    @property
    def _judged(self) -> CompletionQuerySet:
        tasks = self.judge.rankings.complete().order_by().values("task")
        return Completion.objects.filter(tasks__in=tasks).order_by()

    @cached_property
    def _lengths(self) -> dict[int, int]:
        return dict(self._judged.values_list("pk", Length("text")))

    @property
    def by_policy(self) -> list[tuple[Policy, bool, Share]]:
        """Each policy that it compared with another, whether it speaks with the judge's own model,
        and how often its answers win, as the judge sees it."""
        speakers = dict(self._judged.values_list("pk", "policy"))
        wins = wins_of(
            (ranking.task.prompt_id, speakers[a], speakers[b], opinion)
            for ranking in self._rankings
            for (a, b), opinion in opinions_of(self.judge.form, self._verdicts[ranking.pk]).items()
            if a in speakers and b in speakers
        )
        policies = Policy.objects.in_bulk([policy for policy, _ in wins])
        own = self.judge.policy
        return [(policies[pk], policies[pk].has_model_of(own), share) for pk, share in wins]

    @property
    def ranked(self) -> int:
        """How many tasks it has ranked."""
        return len(self._rankings)

    @property
    def agreement(self) -> Share | None:
        return agreement(self.beside)

    @property
    def kappa(self) -> Kappa | None:
        return kappa(self.beside)

    @cached_property
    def all_tags(self) -> list[tuple[str, Share]]:
        return by_tag(self.beside)

    @property
    def by_tag(self) -> list[tuple[str, Share]]:
        """Those of `all_tags` that are shown."""
        return self.all_tags[:TAGS_SHOWN]

    @property
    def by_length(self) -> list[tuple[str, Share]]:
        return by_length(self.beside)

    @property
    def longer_wins(self) -> tuple[Share | None, Share | None]:
        """Of the judge, and of people."""
        return longer_wins(self.beside)

    @property
    def first_wins(self) -> Share | None:
        """How often the answer shown first won; None where no order is shown."""
        if self.judge.form != Judge.Form.PAIR:
            return None
        prompt = {each.pk: each.task.prompt_id for each in self._rankings}
        shown = ((pk, firsts(said)) for pk, said in self._verdicts.items() if pk in prompt)
        return first_wins((prompt[pk], hits, asked) for pk, (hits, asked) in shown)

    @cached_property
    def opinions(self) -> int:
        """How many answers it has judged as a check of grids and suites."""
        return self.judge.opinions.answered().count()

    @property
    def first_wins_as_check(self) -> Share | None:
        """As `first_wins`, where it compared answers with references."""
        return share_of((each.first_wins, 2) for each in self.judge.opinions.read_pairs())

    @property
    def levels(self) -> list[Level]:
        return levels(self.beside)

    def could_be_left(self, wanted: float) -> Level | None:
        """The most tasks that could be left to it at this agreement."""
        return could_be_left(self.beside, wanted)

    @cached_property
    def weight(self) -> float | None:
        """What its vote would weigh beside a person's; None where it has met nobody."""
        return weight_of(self.judge)

    @cached_property
    def all_contradictions(self) -> list[Contradiction]:
        return contradictions(self.beside)

    @property
    def cases(self) -> list[Case]:
        """The contradictions that are shown, with their prompts and answers."""
        shown = self.all_contradictions[:CONTRADICTIONS_SHOWN]
        ids = {pk for each in shown for pk in (each.judges_choice, each.peoples_choice)}
        said = Completion.objects.in_bulk(ids)
        prompts = Prompt.objects.in_bulk({each.prompt for each in shown})
        return [
            Case(each, prompts[each.prompt], said[each.judges_choice], said[each.peoples_choice])
            for each in shown
        ]


def orders_of_people(project: Project, prompts: Sequence[int]) -> dict[int, list[Order]]:
    """Prompt → each person's order of its completions, of rankings in force."""
    rankings = rankings_of(project).of_trusted().about(prompts)
    placed = Placement.objects.filter(ranking__in=rankings.order_by().values("pk"))
    rows = placed.order_by("ranking_id").values_list(
        "ranking_id", "ranking__prompt_id", "completion_id", "place"
    )
    orders: dict[int, dict[int, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for ranking, prompt, completion, place in rows:
        orders[prompt][ranking][completion] = place
    return defaultdict(list, {pk: list(each.values()) for pk, each in orders.items()})
