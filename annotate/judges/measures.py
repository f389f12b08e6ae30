"""How far a judge agrees with people: pure statistics over what both ranked.

Agreement is the share of comparisons on which the judge and a person who both prefer something
prefer the same (Zheng et al. 2023, "Judging LLM-as-a-Judge", section 4.1). Comparisons about one
prompt are not independent, so every interval counts prompts: see `labels.agreement.share_of`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, sqrt

import numpy as np

from annotate.judges.places import Opinions
from annotate.labels.agreement import TWO_SIDED_95, Order, Share, share_of, wilson

# (at most so many times as long, in words): how different in length two answers are.
LENGTHS = ((1.2, "about as long"), (2.0, "up to twice as long"), (float("inf"), "longer still"))
FEWEST_CONTRADICTED = 2
FEWEST_TASKS = 10  # on which an agreement is told apart from luck
STEP = 0.05  # of confidence


@dataclass(frozen=True)
class Beside:
    """A task that a judge and people ranked: what the judge says of every two completions, and the
    orders of people. `lengths`: completion id → characters; `confidence`: the judge's own, 0 to
    1."""

    task: int
    prompt: int
    judge: Opinions
    people: Sequence[Order]
    tags: Sequence[str] = ()
    lengths: Mapping[int, int] = field(default_factory=dict)
    confidence: float = 1.0

    def met(self) -> Iterator[tuple[int, int, int, int]]:
        """(a, b, what the judge says of them, what a person says), for every two and everybody."""
        for (a, b), opinion in self.judge.items():
            for person in self.people:
                if a in person and b in person:
                    yield a, b, opinion, _sign(person[a] - person[b])

    def agreed(self) -> tuple[int, int]:
        """(same, compared) with each of the people."""
        return _agreed((judge, person) for _, _, judge, person in self.met())


def _sign(difference: int) -> int:
    return (difference > 0) - (difference < 0)


def _agreed(opinions: Iterable[tuple[int, int]]) -> tuple[int, int]:
    both = [(judge, person) for judge, person in opinions if judge and person]
    return sum(judge == person for judge, person in both), len(both)


def agreement(tasks: Iterable[Beside]) -> Share | None:
    """With people, over all of these tasks."""
    return share_of(_by_prompt((each.prompt, each.agreed()) for each in tasks))


def _by_prompt(counts: Iterable[tuple[int, tuple[float, float]]]) -> list[tuple[float, float]]:
    """(hits, trials) of each prompt, from those of its tasks or comparisons."""
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for prompt, (hits, trials) in counts:
        sums[prompt][0] += hits
        sums[prompt][1] += trials
    return [(hits, trials) for hits, trials in sums.values()]


def by_tag(tasks: Sequence[Beside]) -> list[tuple[str, Share]]:
    """Agreement on the prompts of each tag, most comparisons first."""
    tags = {tag for each in tasks for tag in each.tags}
    shares = [(tag, agreement(each for each in tasks if tag in each.tags)) for tag in sorted(tags)]
    found = [(tag, share) for tag, share in shares if share]
    return sorted(found, key=lambda each: -each[1].trials)


def by_length(tasks: Iterable[Beside]) -> list[tuple[str, Share]]:
    """Agreement by how much longer one of the two answers is than the other."""
    counts: dict[str, list[tuple[int, tuple[float, float]]]] = defaultdict(list)
    for task in tasks:
        for a, b, judge, person in task.met():
            short, long = sorted((task.lengths[a], task.lengths[b]))
            words = next(words for most, words in LENGTHS if long <= most * max(short, 1))
            counts[words].append((task.prompt, _agreed([(judge, person)])))
    shares = [(words, share_of(_by_prompt(counts[words]))) for _, words in LENGTHS]
    return [(words, share) for words, share in shares if share]


def longer_wins(tasks: Iterable[Beside]) -> tuple[Share | None, Share | None]:
    """How often the longer of two is preferred: by the judge, and by people on the same tasks."""
    own, theirs = [], []
    for task in tasks:
        longer = {(a, b): _sign(task.lengths[b] - task.lengths[a]) for a, b in task.judge}
        said = ((opinion, longer[pair]) for pair, opinion in task.judge.items())
        own.append((task.prompt, _agreed(said)))
        people = ((person, longer[a, b]) for a, b, _, person in task.met())
        theirs.append((task.prompt, _agreed(people)))
    return share_of(_by_prompt(own)), share_of(_by_prompt(theirs))


@dataclass(frozen=True)
class Kappa:
    """Cohen's κ with its 95 % interval, over so many prompts."""

    value: float
    interval: tuple[float, float]
    prompts: int


def kappa(tasks: Iterable[Beside]) -> Kappa | None:
    """Cohen's κ (Cohen 1960) of the judge and a person over “better, tied, worse”; 0 is chance, 1
    full agreement. Which of two is the first means nothing, so each comparison counts both ways.
    The interval is the jackknife's over prompts (Efron 1981). None where chance alone agrees
    fully."""
    tables: dict[int, np.ndarray] = defaultdict(lambda: np.zeros((3, 3)))
    for task in tasks:
        for _, _, judge, person in task.met():
            tables[task.prompt][judge + 1, person + 1] += 1
            tables[task.prompt][1 - judge, 1 - person] += 1
    whole = sum(tables.values(), start=np.zeros((3, 3)))
    value = _kappa(whole)
    if value is None:
        return None
    left = [
        each for each in (_kappa(whole - table) for table in tables.values()) if each is not None
    ]
    n = len(left)
    mean = sum(left) / n if n else 0.0
    error = sqrt((n - 1) / n * sum((each - mean) ** 2 for each in left)) if n > 1 else 1.0
    reach = TWO_SIDED_95 * error
    low, high = max(-1.0, value - reach), min(1.0, value + reach)
    if low < high:
        return Kappa(value, (low, high), len(tables))
    # Where all prompts say the same the jackknife sees no error: as far as their share may lie off.
    expected = _by_chance(whole)
    ends = ((end - expected) / (1 - expected) for end in wilson(_observed(whole), len(tables)))
    low, high = (max(-1.0, min(1.0, end)) for end in ends)
    return Kappa(value, (min(low, value), max(high, value)), len(tables))


def _kappa(table_JP: np.ndarray) -> float | None:
    total = table_JP.sum()
    if not total:
        return None
    expected = _by_chance(table_JP)
    return None if expected >= 1 else float((_observed(table_JP) - expected) / (1 - expected))


def _observed(table_JP: np.ndarray) -> float:
    return float(np.trace(table_JP) / table_JP.sum())


def _by_chance(table_JP: np.ndarray) -> float:
    return float(table_JP.sum(axis=1) @ table_JP.sum(axis=0)) / float(table_JP.sum()) ** 2


def first_wins(orders: Iterable[tuple[int, int, int]]) -> Share | None:
    """How often the answer shown first won, from (prompt, times it did, times asked). Without a
    bias of position it is half: each pair is shown in both orders."""
    return share_of(_by_prompt((prompt, (hits, asked)) for prompt, hits, asked in orders))


def wins_of(
    comparisons: Iterable[tuple[int, int, int, int]],
) -> list[tuple[int, Share]]:
    """(policy, how often its answers beat those of others), the best first, from (prompt, policy
    of the first, of the second, -1: the first is better, 0, 1). Ties, and two answers of one
    policy, say nothing."""
    counts: dict[int, list[tuple[int, tuple[float, float]]]] = defaultdict(list)
    for prompt, first, second, opinion in comparisons:
        if opinion and first != second:
            counts[first].append((prompt, (opinion < 0, 1)))
            counts[second].append((prompt, (opinion > 0, 1)))
    shares = [(policy, share_of(_by_prompt(each))) for policy, each in counts.items()]
    found = [(policy, share) for policy, share in shares if share]
    return sorted(found, key=lambda each: -each[1].value)


@dataclass(frozen=True)
class Contradiction:
    """A comparison on which a judge prefers what people do not: `people` prefer the other one, and
    `siding` of them agree with the judge."""

    task: int
    prompt: int
    judges_choice: int
    peoples_choice: int
    people: int
    siding: int


def contradictions(tasks: Iterable[Beside]) -> list[Contradiction]:
    """Where two or more people, and more than side with the judge, prefer the other one; those with
    the most people first."""
    found = []
    for task in tasks:
        said: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
        for a, b, judge, person in task.met():
            said[a, b][judge * person] += 1  # 1: both prefer the same, -1: the other one
        for (a, b), votes in said.items():
            if votes[-1] >= FEWEST_CONTRADICTED and votes[-1] > votes[1]:
                better, worse = (a, b) if task.judge[a, b] < 0 else (b, a)
                found.append(
                    Contradiction(task.task, task.prompt, better, worse, votes[-1], votes[1])
                )
    return sorted(found, key=lambda each: (each.siding - each.people, each.task))


@dataclass(frozen=True)
class Level:
    """The tasks on which a judge is at least so sure of itself."""

    confidence: float
    tasks: int
    share: Share
    agreement: Share


def levels(tasks: Sequence[Beside]) -> list[Level]:
    """For each confidence that occurs, in steps of STEP from the highest: the share of tasks that
    have it or more, and the agreement on these."""
    counted = [(floor(each.confidence / STEP + 1e-9), each.prompt, each.agreed()) for each in tasks]
    found = []
    for least in sorted({step for step, _, _ in counted}, reverse=True):
        sure = [(prompt, agreed) for step, prompt, agreed in counted if step >= least]
        agreed = share_of(_by_prompt(sure))
        share = share_of(_by_prompt((prompt, (step >= least, 1)) for step, prompt, _ in counted))
        if agreed and share:
            found.append(Level(least * STEP, len(sure), share, agreed))
    return found


def could_be_left(tasks: Sequence[Beside], wanted: float) -> Level | None:
    """The most tasks that could be left to a judge: it is so sure of them that its agreement with
    people is `wanted` or more, as surely as its interval tells, so that a lucky few do not pass.
    None where there are none."""
    enough = [
        each
        for each in levels(tasks)
        if each.tasks >= FEWEST_TASKS and each.agreement.interval[0] >= wanted
    ]
    return max(enough, key=lambda each: each.tasks, default=None)
