"""What people preferred when policies met, blind, on prompts that train nothing.

Whoever says the same text is judged by the same card: a text stands for every policy that said it
to that prompt. Rankings of held-out prompts alone count, for there no policy has learnt the answer.
Nothing is stored: the figures follow from the rankings as they are now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product

import numpy as np
from django.db.models.functions import Length

from annotate.models import Completion, Placement, Project
from rlhf.data.selection import HELD_OUT, all_rankings
from rlhf.evaluation.win_rate import LOSS, TIE, WIN, Result, compare
from rlhf.learning.contract.bootstrap import interval

RESAMPLES = 400
FEWEST = 5  # prompts behind a figure; fewer say nothing


@dataclass(frozen=True)
class Match:
    """What one labeler said of two policies' answers to a prompt. `worth` to the left one: win 1,
    tie ½, loss 0; `longer` by how many characters the left answer is."""

    prompt: int
    left: int
    right: int
    worth: float
    longer: int
    tags: tuple[str, ...] = ()

    def swap(self) -> Match:
        return Match(self.prompt, self.right, self.left, 1 - self.worth, -self.longer, self.tags)


@dataclass(frozen=True)
class WinRate:
    """Of one policy over another, as people see it. What too few prompts stand behind is left
    out."""

    overall: Result
    prompts: int
    equal_length: tuple[float, float, float] | None
    by_tag: tuple[tuple[str, Result], ...]


def matches_of(project: Project) -> list[Match]:
    """Returns the matches of every two policies that met in a ranking: the older policy is the left
    one."""
    held_out = all_rankings(project).in_split(*HELD_OUT).order_by().values("pk")
    rows = (
        Placement.objects.filter(ranking__in=held_out)
        .order_by("ranking", "pk")
        .values_list(
            "ranking", "ranking__prompt", "completion__text_hash", "place",
            Length("completion__text"), "ranking__prompt__tags",
        )
    )  # fmt: skip
    cards: dict[int, list[tuple[int, str, int, int, list[str]]]] = defaultdict(list)
    for ranking, *card in rows:
        cards[ranking].append(tuple(card))
    speakers = _speakers({card[0] for shown in cards.values() for card in shown})
    return [match for shown in cards.values() for match in _matches(shown, speakers)]


def _speakers(prompts: set[int]) -> dict[tuple[int, str], set[int]]:
    """(prompt, hash of a text) → the policies that said it."""
    said: dict[tuple[int, str], set[int]] = defaultdict(set)
    rows = Completion.objects.filter(prompt__in=prompts)
    for prompt, text, policy in rows.values_list("prompt", "text_hash", "policy"):
        said[prompt, text].add(policy)
    return said


def _matches(
    shown: list[tuple[int, str, int, int, list[str]]], speakers: dict[tuple[int, str], set[int]]
) -> Iterator[Match]:
    for prompt, text, _, _, tags in shown:
        for left, right in combinations(sorted(speakers[prompt, text]), 2):
            yield Match(prompt, left, right, TIE, 0, tuple(tags))
    for one, other in combinations(shown, 2):
        prompt, text, place, length, tags = one
        _, other_text, other_place, other_length, _ = other
        worth = WIN if place < other_place else LOSS if place > other_place else TIE
        for left, right in product(speakers[prompt, text], speakers[prompt, other_text]):
            if left != right:
                match = Match(prompt, left, right, worth, length - other_length, tuple(tags))
                yield match if left < right else match.swap()


def by_pair(matches: Iterable[Match]) -> Mapping[frozenset[int], list[Match]]:
    """Sorts the matches by who met: a pair that never did has none."""
    met: dict[frozenset[int], list[Match]] = defaultdict(list)
    for match in matches:
        met[frozenset((match.left, match.right))].append(match)
    return met


def between(matches: Iterable[Match], policy: int, opponent: int) -> list[Match]:
    """Picks the matches of these two, as `policy` sees them."""
    two = {policy, opponent}
    met = [match for match in matches if {match.left, match.right} == two]
    return [match if match.left == policy else match.swap() for match in met]


def win_rate(matches: Iterable[Match], policy: int, opponent: int) -> WinRate | None:
    """Returns how often `policy` wins over `opponent`; None if they have never met."""
    met = between(matches, policy, opponent)
    return _rate_of(tuple(met)) if met else None


@lru_cache(maxsize=1024)
def _rate_of(met: tuple[Match, ...]) -> WinRate:
    """Kept until somebody ranks anew: a page shows dozens, and each takes a tenth of a second."""
    tags = sorted({tag for match in met for tag in match.tags})
    of_tags = [(tag, [match for match in met if tag in match.tags]) for tag in tags]
    return WinRate(
        overall=compare(_by_prompt(met), seed=0),
        prompts=_prompts(met),
        equal_length=at_equal_length(met),
        by_tag=tuple(
            (tag, compare(_by_prompt(those), seed=0))
            for tag, those in of_tags
            if _prompts(those) >= FEWEST
        ),
    )


def _by_prompt(matches: Iterable[Match]) -> dict[int, list[float]]:
    worth: dict[int, list[float]] = defaultdict(list)
    for match in matches:
        worth[match.prompt].append(match.worth)
    return worth


def _prompts(matches: Iterable[Match]) -> int:
    return len({match.prompt for match in matches})


def at_equal_length(matches: Sequence[Match]) -> tuple[float, float, float] | None:
    """Estimates the win rate if both answers were of one length: (rate, low, high) of the 95 %
    interval.

    Logistic regression of the outcome on tanh(length difference / its spread), read where the
    difference is zero (Dubois et al. 2024, "Length-Controlled AlpacaEval", section 3). The interval
    resamples prompts. None: too few prompts, or no difference in length to control for."""
    lengths = np.array([match.longer for match in matches], float)
    prompts = sorted({match.prompt for match in matches})
    if len(prompts) < FEWEST or not lengths.std():
        return None
    place = {prompt: index for index, prompt in enumerate(prompts)}
    of_prompt = np.array([place[match.prompt] for match in matches])
    worth_N = np.array([match.worth for match in matches])
    longer_N = np.tanh(lengths / lengths.std())

    def rates(drawn_RP: np.ndarray) -> np.ndarray:
        return _intercepts(longer_N, worth_N, drawn_RP[:, of_prompt])

    [rate] = rates(np.ones((1, len(prompts))))
    return float(rate), *interval(rates, len(prompts), resamples=RESAMPLES)


def _intercepts(
    difference_N: np.ndarray, worth_N: np.ndarray, weights_RN: np.ndarray
) -> np.ndarray:
    """P(win) at no difference for each row of weights: Newton's method on all of them at once, with
    a ridge that keeps a one-sided outcome finite."""
    ridge, rows = 0.1, len(weights_RN)
    level_R, slope_R = np.zeros(rows), np.zeros(rows)
    for _ in range(25):
        chance_RN = 1 / (1 + np.exp(-(level_R[:, None] + slope_R[:, None] * difference_N)))
        missed_RN = weights_RN * (worth_N - chance_RN)
        spread_RN = weights_RN * chance_RN * (1 - chance_RN)
        up_R = missed_RN.sum(1) - ridge * level_R
        tilt_R = missed_RN @ difference_N - ridge * slope_R
        a_R = spread_RN.sum(1) + ridge
        b_R, d_R = spread_RN @ difference_N, spread_RN @ difference_N**2 + ridge
        determinant_R = a_R * d_R - b_R**2
        level_step_R = (d_R * up_R - b_R * tilt_R) / determinant_R
        slope_step_R = (a_R * tilt_R - b_R * up_R) / determinant_R
        level_R, slope_R = level_R + level_step_R, slope_R + slope_step_R
        if max(np.abs(level_step_R).max(), np.abs(slope_step_R).max()) < 1e-9:
            break
    return np.asarray(1 / (1 + np.exp(-level_R)))
