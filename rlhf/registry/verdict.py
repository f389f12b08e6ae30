"""The one verdict on a policy, wherever a page shows it: people first, then the reward model by its
name, and what else speaks for or against it.

Nothing is stored: it follows from labels, evaluations and runs as they are now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from math import ceil

from django.db.models import Avg, Count, Q
from django.db.models.functions import Length

from annotate.models import Completion, Placement, Policy, Project
from rlhf.data.selection import HELD_OUT, all_rankings
from rlhf.data.staleness import stale_in
from rlhf.evaluation.matches import Match, WinRate, by_pair, matches_of, win_rate
from rlhf.evaluation.win_rate import Result
from rlhf.learning.contract.intervals import TWO_SIDED_95, student
from rlhf.models.checkpoints import Checkpoint
from rlhf.models.outcomes import Evaluation, RewardModel
from rlhf.models.runs import Run
from rlhf.models.suites import Suite, SuiteResult
from rlhf.registry.health import Accuracy, accuracies_of
from rlhf.runs.alarms import Alarm, alarms_of
from rlhf.stages import TRAININGS

DECIDED = 0.5
POWER = 1.959964 + 0.841621  # sees a true difference in 80 of 100 at 95 %
SMALLEST = 0.05  # a difference in win rate that is worth telling
EXPECTED = 0.15  # assumed where nothing is known yet
Lengths = dict[int, tuple[float, int]]  # held-out prompt → (characters of its answers, answers)


@dataclass(frozen=True)
class Judge:
    """A reward model by its name, and what it learnt from."""

    model: RewardModel
    taught_by: str
    is_stale: bool
    accuracy: Accuracy | None

    @property
    def name(self) -> str:
        return self.model.name


@dataclass(frozen=True)
class Ratings:
    """What people gave a policy's answers to held-out prompts, on the scale from 1 to 7, and how
    many of the answers they looked at they flagged."""

    mean: float | None
    rated: int
    flagged: int
    seen: int


@dataclass(frozen=True)
class InSuite:
    """How a policy did in a suite, beside the other if that was asked the same."""

    ours: SuiteResult
    theirs: SuiteResult | None

    @property
    def is_worse(self) -> bool:
        return self.theirs is not None and self.ours.is_worse_than(self.theirs)


@dataclass(frozen=True)
class Verdict:
    """`needed`: on how many more prompts people have to compare the two until it is decided; 0 once
    it is. `length`: of our answers over theirs, to the same held-out prompts."""

    policy: Policy
    opponent: Policy
    people: WinRate | None
    needed: int
    reward_model: Evaluation | None
    judge: Judge | None
    gold: Evaluation | None
    length: float | None
    ratings: Ratings | None
    suites: list[InSuite] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)

    @property
    def is_known(self) -> bool:
        """Tells whether anybody has judged."""
        return any((self.people, self.reward_model, self.gold))

    @property
    def is_stale(self) -> bool:
        return self.judge is not None and self.judge.is_stale

    @property
    def outcome(self) -> str:
        """Says whom people prefer, as far as they have told."""
        if self.people is None:
            return "not compared by people"
        low, high = self.people.overall.low, self.people.overall.high
        if low is not None and low > DECIDED:
            return f"people prefer {self.policy}"
        if high is not None and high < DECIDED:
            return f"people prefer {self.opponent}"
        return "undecided"

    @property
    def chip(self) -> str:
        return {
            f"people prefer {self.policy}": "ok",
            f"people prefer {self.opponent}": "bad",
        }.get(self.outcome, "warn")


def prompts_to_decide(result: Result | None) -> int:
    """Reckons on how many more prompts people have to compare two policies until the interval of
    their win rate leaves 50 % out, in 80 of 100 cases, if the rate stays as it is; a rate closer to
    50 % than SMALLEST counts as that far away. 0: it is decided."""
    if result is None or result.low is None or result.high is None:
        met = result.prompts if result else 0
        return ceil((POWER * 0.5 / EXPECTED) ** 2) - met
    if result.low > DECIDED or result.high < DECIDED:
        return 0
    error = (result.high - result.low) / 2 / student(TWO_SIDED_95, result.prompts - 1)
    difference = max(abs(result.win_rate - DECIDED), SMALLEST)
    # Few prompts may agree by chance: answers to a prompt differ at least by half of what they can.
    deviation = max(error * result.prompts**0.5, 0.25)
    return max(ceil((POWER * deviation / difference) ** 2) - result.prompts, 1)


class Verdicts:
    """Reads everything once for all the policies of a project."""

    def __init__(self, project: Project, matches: Sequence[Match] | None = None) -> None:
        self.project = project
        self._matches = matches

    @cached_property
    def matches(self) -> Sequence[Match]:
        return matches_of(self.project) if self._matches is None else self._matches

    @cached_property
    def _met(self) -> Mapping[frozenset[int], list[Match]]:
        return by_pair(self.matches)

    @cached_property
    def policies(self) -> dict[int, Policy]:
        policies = self.project.policies.select_related("parent", "project", "template")
        return {policy.pk: policy for policy in policies}

    @cached_property
    def live(self) -> Policy | None:
        policies = self.policies.values()
        return next((each for each in policies if each.state == Policy.State.LIVE), None)

    def on(self, policy: Policy) -> Verdict | None:
        """Judges a policy against the live one, or the live one against what it came from; None
        where there is nothing to measure it by."""
        opponent = self.live if self.live and self.live.pk != policy.pk else policy.parent
        return self.between(policy, opponent) if opponent else None

    def named(self, name: str) -> Verdict | None:
        """Judges the policy of that name."""
        found = next((each for each in self.policies.values() if each.name == name), None)
        return self.on(found) if found else None

    def among(self, policies: Iterable[Policy]) -> list[Verdict]:
        """Judges every two of these, as far as anybody has."""
        found = [self.between(one, other) for one, other in combinations(policies, 2)]
        return [each for each in found if each.is_known]

    def all(self) -> list[Verdict]:
        """Judges all pairs of `known`."""
        return self.of(self.known())

    def known(self) -> list[tuple[Policy, Policy]]:
        """Each policy and the live one, and each and the one it came from; the newest first; no two
        of them twice; as far as anybody has judged."""
        found: dict[frozenset[int], tuple[Policy, Policy]] = {}
        for policy in sorted(self.policies.values(), key=lambda each: -each.pk):
            for rival in filter(None, (self.live, policy.parent)):
                pair = frozenset({policy.pk, rival.pk})
                is_judged = pair in self._met or pair in self._judged
                if len(pair) == 2 and is_judged:
                    found.setdefault(pair, (policy, rival))
        return list(found.values())

    def of(self, pairs: Sequence[tuple[Policy, Policy]]) -> list[Verdict]:
        """Judges these, the first of each against the second."""
        self._read({each.pk for pair in pairs for each in pair})
        return [self.between(*pair) for pair in pairs]

    def foresee(self, policies: Iterable[Policy]) -> None:
        """Reads at once what `on` reads of each."""
        both = {pk for each in policies for pk in (each.pk, each.parent_id) if pk}
        self._read(both | ({self.live.pk} if self.live else set()))

    def between(self, policy: Policy, opponent: Policy) -> Verdict:
        self._read({policy.pk, opponent.pk})
        met = self._met[frozenset((policy.pk, opponent.pk))]
        people = win_rate(met, policy.pk, opponent.pk)
        by_judge = self._evaluations.get((policy.pk, opponent.pk), {})
        evaluation = by_judge.get(Evaluation.Judge.REWARD_MODEL)
        model = evaluation.reward_model if evaluation else None
        return Verdict(
            policy=policy,
            opponent=opponent,
            people=people,
            needed=prompts_to_decide(people.overall if people else None),
            reward_model=evaluation,
            judge=self._judge(model) if model else None,
            gold=by_judge.get(Evaluation.Judge.GOLD),
            length=self._length(policy, opponent),
            ratings=self._ratings.get(policy.pk),
            suites=[
                InSuite(mine, self._beside(mine, opponent))
                for suite in self._active
                if (mine := self._suites.get((suite, policy.pk)))
            ],
            alarms=[alarm for run in self._runs.get(policy.folder, []) for alarm in alarms_of(run)],
        )

    def _judge(self, model: RewardModel) -> Judge:
        run = model.checkpoint.run
        snapshot = getattr(run, "snapshot", None)
        taught_by = TRAININGS[run.kind].reads(snapshot.counts) if snapshot else ""
        return Judge(model, taught_by, run.pk in self._stale, self._accuracies.get(run.pk))

    @cached_property
    def _accuracies(self) -> dict[int, Accuracy]:
        """Of every reward model of the project, by the run that trained it."""
        models = RewardModel.objects.of_project(self.project)
        return accuracies_of(model.checkpoint.run for model in models)

    @cached_property
    def _stale(self) -> set[int]:
        return set(stale_in(self.project).runs)

    @cached_property
    def _judged(self) -> set[frozenset[int]]:
        """The pairs that a reward model or the gold measure has compared."""
        rows = Evaluation.objects.filter(policy__project=self.project)
        return {frozenset(pair) for pair in rows.values_list("policy", "opponent").distinct()}

    @cached_property
    def _evaluations(self) -> dict[tuple[int, int], dict[str, Evaluation]]:
        """The newest of every two policies by each judge, from both sides; see `_read`."""
        return defaultdict(dict)

    def _read(self, policies: set[int]) -> None:
        """Reads the evaluations of these policies and the lengths of their answers, as far as they
        are not read yet: a page shows some of hundreds."""
        missing = policies - self._lengths.keys()
        if missing:
            self._lengths.update(_lengths_of(missing))
            known = self._lengths.keys()
            rows = Evaluation.objects.filter(policy__in=known, opponent__in=known)
            for each in (
                rows.filter(Q(policy__in=missing) | Q(opponent__in=missing))
                .select_related(
                    "reward_model__checkpoint__run__round",
                    "reward_model__checkpoint__run__snapshot",
                )
                .order_by("pk")
            ):
                self._evaluations[each.policy_id, each.opponent_id][each.judge] = each
                turned = each.turned_round()
                self._evaluations[each.opponent_id, each.policy_id][each.judge] = turned

    @cached_property
    def _suites(self) -> dict[tuple[str, int], SuiteResult]:
        return SuiteResult.objects.newest_in(self.project)

    def _beside(self, ours: SuiteResult, opponent: Policy) -> SuiteResult | None:
        theirs = self._suites.get((ours.suite, opponent.pk))
        return theirs if theirs and ours.is_comparable_to(theirs) else None

    @cached_property
    def _active(self) -> list[str]:
        return list(Suite.active_in(self.project)) if self._suites else []

    @cached_property
    def _runs(self) -> dict[str, list[Run]]:
        """Folder → the run whose weights are in it."""
        made = Checkpoint.objects.published().filter(run__project=self.project)
        return {each.folder: [each.run] for each in made.select_related("run") if each.folder}

    @cached_property
    def _ratings(self) -> dict[int, Ratings]:
        held_out = all_rankings(self.project).in_split(*HELD_OUT).order_by().values("pk")
        rows = (
            Placement.objects.filter(ranking__in=held_out)
            .order_by()
            .values_list("completion__policy")
            .annotate(
                mean=Avg("rating"),
                rated=Count("rating"),
                flagged=Count("pk", filter=~Q(flags=[])),
                seen=Count("pk"),
            )
        )
        return {policy: Ratings(*figures) for policy, *figures in rows}

    def _length(self, policy: Policy, opponent: Policy) -> float | None:
        ours, theirs = self._lengths[policy.pk], self._lengths[opponent.pk]
        met = ours.keys() & theirs.keys()
        if not met:
            return None
        mean, other = (
            sum(each[prompt][0] for prompt in met) / sum(each[prompt][1] for prompt in met)
            for each in (ours, theirs)
        )
        return mean / other if other else None

    @cached_property
    def _lengths(self) -> dict[int, Lengths]:
        return {}


def _lengths_of(policies: set[int]) -> dict[int, Lengths]:
    found: dict[int, Lengths] = {policy: {} for policy in policies}
    rows = Completion.objects.filter(policy__in=policies, prompt__split__in=HELD_OUT).order_by()
    means = rows.values_list("policy", "prompt").annotate(mean=Avg(Length("text")), n=Count("pk"))
    for policy, prompt, mean, count in means:
        found[policy][prompt] = (mean * count, count)
    return found
