"""The rows a run learns from, and what several people who ranked one prompt say together."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from feedback_site.votes.right import shares_right

Message = dict[str, str]
T = TypeVar("T")


class DataError(ValueError):
    """A row that cannot be learnt from; the message names the file and the line.

    `row`: the id it has, where it has one."""

    row: str = ""


@dataclass(frozen=True)
class Prompt:
    """What is asked; `reference` is the right answer, where one is known. `reads`: name of a policy
    → what it reads before the question, when it is sampled. `then`: the user's turns after the
    answers of whoever is sampled."""

    id: str
    messages: tuple[Message, ...]
    reference: str = ""
    reads: dict[str, str] = field(default_factory=dict, compare=False)
    then: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Same words, same key, whatever ends the lines and however accents are composed (Unicode
        NFC), as on the site: what splits and bootstraps cluster by."""
        return content_hash(
            [each | {"content": _spelled(each["content"])} for each in self.messages]
        )


@dataclass(frozen=True)
class Demonstration:
    prompt: Prompt
    text: str


@dataclass(frozen=True)
class Thumb:
    """What one person thought of one answer: up or down. `finished` False: it was cut off.
    `weight`: of this thumb, where another has 1."""

    prompt: Prompt
    text: str
    up: bool
    finished: bool = True
    weight: float = 1.0


@dataclass(frozen=True)
class Document:
    """Raw text of the domain, for supplemental pre-training."""

    id: str
    text: str


@dataclass(frozen=True)
class Ranking:
    """One labeler's order over K completions: a lower rank is better, equal ranks are a tie.

    `reliability` weighs this opinion against those of others; `policies` says who wrote what.
    """

    prompt: Prompt
    completions: tuple[str, ...]
    ranks: tuple[float, ...]
    strength: float = 0.0
    labeler: str = ""
    finished: tuple[bool, ...] = ()
    policies: tuple[str, ...] = ()
    reliability: float = 1.0

    def comparisons(self) -> Iterator[tuple[int, int]]:
        """(better, worse) index pairs; a tie gives none."""
        for i, rank_i in enumerate(self.ranks):
            for j, rank_j in enumerate(self.ranks):
                if rank_i < rank_j:
                    yield i, j

    def ties(self) -> Iterator[tuple[int, int]]:
        """Index pairs of equal rank, in both directions."""
        for i, rank_i in enumerate(self.ranks):
            for j, rank_j in enumerate(self.ranks):
                if i != j and rank_i == rank_j:
                    yield i, j

    def like(self, completions: Sequence[str]) -> Ranking:
        """The same opinion, told over the same completions in another order."""
        if self.completions == completions:
            return self
        places = {place: i for i, place in enumerate(_places(self.completions))}
        order = [places[place] for place in _places(completions)]

        def moved(values: tuple[T, ...]) -> tuple[T, ...]:
            return tuple(values[i] for i in order) if values else ()

        return replace(
            self,
            completions=tuple(completions),
            ranks=moved(self.ranks),
            finished=moved(self.finished),
            policies=moved(self.policies),
        )

    def swap(self) -> Ranking:
        """The opposite opinion."""
        return replace(self, ranks=tuple(-rank for rank in self.ranks))


@dataclass(frozen=True)
class Comparison:
    """Completion `better` beat `worse` in `share` of the votes on that pair."""

    better: int
    worse: int
    weight: float
    strength: float
    share: float = 1.0


@dataclass(frozen=True)
class Judged:
    """All that is known of K completions of one prompt.

    The weights of its comparisons sum to the mean reliability of its labelers, which is 1 when
    nothing is known of them.
    """

    prompt: Prompt
    completions: tuple[str, ...]
    finished: tuple[bool, ...]
    comparisons: tuple[Comparison, ...]
    rankings: tuple[Ranking, ...] = ()

    def without(self, same: Container[frozenset[int]]) -> Judged | None:
        """Without the comparisons of these pairs; the others take over their weight. None where
        none is left."""
        kept = [each for each in self.comparisons if {each.better, each.worse} not in same]
        if len(kept) == len(self.comparisons):
            return self
        share = sum(each.weight for each in kept) / sum(each.weight for each in self.comparisons)
        spread = tuple(replace(each, weight=each.weight / share) for each in kept)
        return replace(self, comparisons=spread) if kept else None


def _places(completions: Sequence[str]) -> list[tuple[str, int]]:
    """Each completion with how many like it come before: the same texts in any order have the same
    places."""
    seen: Counter[str] = Counter()
    places = []
    for text in completions:
        places.append((text, seen[text]))
        seen[text] += 1
    return places


def aggregate(rankings: Iterable[Ranking], ties: str = "skip") -> list[Judged]:
    """Several labelers' rankings of the same completions become one element with soft targets,
    whatever the order in which each saw them.

    Each pair counts alike (1 / number of pairs) and is shared among its two directions as the
    labelers' votes were, each vote weighing what its labeler is worth. With `ties` "half" a tie is
    half a vote each way, else it is none. Elements without a vote are left out.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[Ranking]] = defaultdict(list)
    for ranking in rankings:
        group = groups[ranking.prompt.key, tuple(sorted(ranking.completions))]
        group.append(ranking.like(group[0].completions) if group else ranking)
    judged = []
    for group in groups.values():
        votes: dict[tuple[int, int], float] = defaultdict(float)
        strengths: dict[tuple[int, int], float] = defaultdict(float)
        for ranking in group:
            for pair in ranking.comparisons():
                votes[pair] += ranking.reliability
                strengths[pair] += ranking.reliability * ranking.strength
            for pair in ranking.ties() if ties == "half" else ():
                votes[pair] += ranking.reliability / 2
        weight = sum(ranking.reliability for ranking in group) / len(group)
        pairs = {frozenset(pair) for pair, vote in votes.items() if vote}
        comparisons = []
        for (better, worse), vote in sorted(votes.items()):
            share = vote / (vote + votes.get((worse, better), 0.0)) if vote else 0.0
            if share:
                strength = strengths[better, worse] / vote
                comparisons.append(
                    Comparison(better, worse, weight * share / len(pairs), strength, share)
                )
        first = group[0]
        finished = first.finished or (True,) * len(first.completions)
        if comparisons:
            judged.append(
                Judged(first.prompt, first.completions, finished, tuple(comparisons), tuple(group))
            )
    return judged


def agreement_weights(rankings: Sequence[Ranking]) -> list[Ranking]:
    """Rankings weighed by how often each labeler is right, as far as the others can tell, beside
    what they weighed before.

    A labeler who is right with probability p (`feedback_site.votes`, over the pairs that two or
    more judged) and otherwise errs at random carries 2p - 1 of a perfect one's information. A
    newcomer counts as the average person does. The mean weight of the rankings is 1, the least
    0.05.
    """
    votes: dict[tuple[str, str, str], list[tuple[str, bool]]] = defaultdict(list)
    for ranking in rankings:
        for better, worse in ranking.comparisons():
            a, b = ranking.completions[better], ranking.completions[worse]
            votes[ranking.prompt.key, min(a, b), max(a, b)].append((ranking.labeler, a < b))
    shared = [on_pair for on_pair in votes.values() if len({name for name, _ in on_pair}) > 1]
    right, mean = shares_right(shared)
    raw = [max(2 * right.get(ranking.labeler, mean) - 1, 0.0) for ranking in rankings]
    scale = sum(raw) / len(raw) or 1.0
    return [
        replace(ranking, reliability=ranking.reliability * max(each / scale, 0.05))
        for ranking, each in zip(rankings, raw, strict=True)
    ]


def _spelled(text: str) -> str:
    if text.isascii() and "\r" not in text:
        return text
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def content_hash(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
