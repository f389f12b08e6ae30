"""What people preferred when policies met, blind, on prompts that train nothing.

Whoever says the same text is judged by the same card: a text stands for every policy that said it
to that prompt. Rankings of held-out prompts alone count, for there no policy has learnt the answer.
Nothing is stored: the figures follow from the rankings as they are now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Length

from annotate.models import Completion, Placement, Policy, Project
from rlhf.data.selection import HELD_OUT, all_rankings
from rlhf.evaluation.win_rate import LOSS, TIE, WIN, Result, compare
from rlhf.learning.contract.intervals import TWO_SIDED_95, student

FEWEST = 5  # prompts behind a figure; fewer say nothing
OVERLAP = 0.1  # of the prompts, on which an answer must be the shorter one, or as long
RIDGE = 0.1  # keeps a one-sided outcome finite


class Match(NamedTuple):
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
class EqualLength:
    """The win rate as it would be if both answers were of one length, with its 95 % interval; or,
    where `win_rate` is None, why that cannot be told."""

    win_rate: float | None = None
    low: float | None = None
    high: float | None = None
    why: str = ""


@dataclass(frozen=True)
class WinRate:
    """Of one policy over another, as people see it. What too few prompts stand behind is left
    out."""

    overall: Result
    prompts: int
    equal_length: EqualLength
    by_tag: tuple[tuple[str, Result], ...]


def matches_of(project: Project, among: Collection[Policy] = ()) -> list[Match]:
    """Returns the matches of every two policies that met in a ranking: the older policy is the left
    one. `among`: of rankings that show an answer of one of these alone."""
    held_out = all_rankings(project).in_split(*HELD_OUT).order_by()
    if among:
        said = Completion.objects.filter(
            policy__in=among,
            prompt=OuterRef("ranking__prompt"),
            text_hash=OuterRef("completion__text_hash"),
        )
        shown = Placement.objects.filter(Exists(said))
        held_out = held_out.filter(pk__in=shown.values("ranking"))
    rows = (
        Placement.objects.filter(ranking__in=held_out.values("pk"))
        .order_by("ranking", "pk")
        .values_list(
            "ranking", "ranking__prompt", "completion__text_hash", "place",
            Length("completion__text"), "ranking__prompt__tags",
        )
    )  # fmt: skip
    cards: dict[int, list[tuple[int, str, int, int, list[str]]]] = defaultdict(list)
    for ranking, *card in rows:
        cards[ranking].append(tuple(card))
    speakers = _speakers(Completion.objects.filter(prompt__in=held_out.values("prompt")))
    return [match for shown in cards.values() for match in _matches(shown, speakers)]


def _speakers(completions: QuerySet[Completion]) -> dict[tuple[int, str], set[int]]:
    """(prompt, hash of a text) → the policies that said it."""
    said: dict[tuple[int, str], set[int]] = defaultdict(set)
    for prompt, text, policy in completions.values_list("prompt", "text_hash", "policy"):
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
    """Kept until somebody ranks anew: a page shows dozens."""
    tags = sorted({tag for match in met for tag in match.tags})
    of_tags = [(tag, [match for match in met if tag in match.tags]) for tag in tags]
    return WinRate(
        overall=compare(_by_prompt(met)),
        prompts=_prompts(met),
        equal_length=at_equal_length(met),
        by_tag=tuple(
            (tag, compare(_by_prompt(those))) for tag, those in of_tags if _prompts(those) >= FEWEST
        ),
    )


def _by_prompt(matches: Iterable[Match]) -> dict[int, list[float]]:
    worth: dict[int, list[float]] = defaultdict(list)
    for match in matches:
        worth[match.prompt].append(match.worth)
    return worth


def _prompts(matches: Iterable[Match]) -> int:
    return len({match.prompt for match in matches})


def at_equal_length(matches: Sequence[Match]) -> EqualLength:
    """Estimates the win rate if both answers were of one length.

    Logistic regression of the outcome on tanh(length difference / its spread), read where the
    difference is zero (Dubois et al. 2024, "Length-Controlled AlpacaEval", section 3), with errors
    clustered by prompt (Liang and Zeger 1986). Where one policy's answers are longer on nearly all
    prompts, the lengths do not overlap: there is nothing near zero to read, and no model of length
    replaces it."""
    prompts = sorted({match.prompt for match in matches})
    if len(prompts) < FEWEST:
        return EqualLength(why=f"fewer than {FEWEST} prompts")
    place = {prompt: index for index, prompt in enumerate(prompts)}
    of_prompt_N = np.array([place[match.prompt] for match in matches])
    longer_N = np.array([match.longer for match in matches], float)
    if _overlap(longer_N, of_prompt_N) < OVERLAP:
        return EqualLength(why="their lengths do not overlap")
    worth_N = np.array([match.worth for match in matches])
    level, error = _level(np.tanh(longer_N / (longer_N.std() or 1.0)), worth_N, of_prompt_N)
    reach = student(TWO_SIDED_95, len(prompts) - 1) * error
    rate, low, high = (float(_chance(level + off)) for off in (0.0, -reach, reach))
    return EqualLength(rate, low, high)


def _overlap(longer_N: np.ndarray, of_prompt_N: np.ndarray) -> float:
    """The share of prompts on which the policy that is rarely the shorter one is shorter, or as
    long; 1/2 at most where no two answers are of one length."""
    sides = (longer_N <= 0, longer_N >= 0)
    prompts = len(np.unique(of_prompt_N))
    return min(len(np.unique(of_prompt_N[side])) for side in sides) / prompts


def _level(
    difference_N: np.ndarray, worth_N: np.ndarray, of_prompt_N: np.ndarray
) -> tuple[float, float]:
    """Log-odds of winning at no difference, by Newton's method, and their standard error: by
    prompts, and never below what the model says of as many independent prompts."""
    design_N2 = np.stack([np.ones_like(difference_N), difference_N], 1)
    weights_2 = np.zeros(2)
    for _ in range(25):
        chance_N = _chance(design_N2 @ weights_2)
        bread_22 = np.linalg.inv(_information(design_N2, chance_N))
        step_2 = bread_22 @ (design_N2.T @ (worth_N - chance_N) - RIDGE * weights_2)
        weights_2 = weights_2 + step_2
        if np.abs(step_2).max() < 1e-9:
            break
    prompts = int(of_prompt_N.max()) + 1
    pulls_P2 = np.zeros((prompts, 2))
    np.add.at(
        pulls_P2, of_prompt_N, design_N2 * (worth_N - _chance(design_N2 @ weights_2))[:, None]
    )
    sandwich_22 = bread_22 @ (pulls_P2.T @ pulls_P2) @ bread_22 * prompts / (prompts - 1)
    answers_a_prompt = len(worth_N) / prompts if np.ptp(worth_N) == 0 else 1.0
    variance = max(sandwich_22[0, 0], bread_22[0, 0] * answers_a_prompt)
    return float(weights_2[0]), float(np.sqrt(variance))


def _information(design_N2: np.ndarray, chance_N: np.ndarray) -> np.ndarray:
    weighted_N2 = design_N2 * (chance_N * (1 - chance_N))[:, None]
    return np.asarray(design_N2.T @ weighted_N2 + RIDGE * np.eye(2))


def _chance(log_odds: Any) -> Any:
    return 1 / (1 + np.exp(-log_odds))
