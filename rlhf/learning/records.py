"""The rows a run learns from: one JSON object a line, read strictly, the line named on error."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Message = dict[str, str]
Row = TypeVar("Row")


class DataError(ValueError):
    """A row that cannot be learnt from; the message names the file and the line."""


@dataclass(frozen=True)
class Prompt:
    id: str
    messages: tuple[Message, ...]

    @property
    def key(self) -> str:
        """Same words, same key: what splits and bootstraps cluster by."""
        return content_hash(list(self.messages))


@dataclass(frozen=True)
class Demonstration:
    prompt: Prompt
    text: str


@dataclass(frozen=True)
class Ranking:
    """One labeler's order over K completions: a lower rank is better, equal ranks are a tie."""

    prompt: Prompt
    completions: tuple[str, ...]
    ranks: tuple[float, ...]
    strength: float = 0.0
    labeler: str = ""
    finished: tuple[bool, ...] = ()

    def comparisons(self) -> Iterator[tuple[int, int]]:
        """(better, worse) index pairs; a tie gives none."""
        for i, rank_i in enumerate(self.ranks):
            for j, rank_j in enumerate(self.ranks):
                if rank_i < rank_j:
                    yield i, j

    def swap(self) -> Ranking:
        """The opposite opinion."""
        return Ranking(
            self.prompt,
            self.completions,
            tuple(-rank for rank in self.ranks),
            self.strength,
            self.labeler,
            self.finished,
        )


@dataclass(frozen=True)
class Comparison:
    """Completion `better` beat `worse`, by `weight` of the labelers who told them apart."""

    better: int
    worse: int
    weight: float
    strength: float


@dataclass(frozen=True)
class Judged:
    """All that is known of K completions of one prompt; the weights of its comparisons sum to 1."""

    prompt: Prompt
    completions: tuple[str, ...]
    finished: tuple[bool, ...]
    comparisons: tuple[Comparison, ...]


def aggregate(rankings: Iterable[Ranking]) -> list[Judged]:
    """Several labelers' rankings of the same completions become one element with soft targets.

    Each pair counts alike (1 / number of pairs) and is shared among its two directions as the
    labelers' votes were. Elements in which nobody saw a difference are left out.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[Ranking]] = defaultdict(list)
    for ranking in rankings:
        groups[ranking.prompt.key, ranking.completions].append(ranking)
    judged = []
    for group in groups.values():
        votes: dict[tuple[int, int], list[float]] = defaultdict(list)
        for ranking in group:
            for pair in ranking.comparisons():
                votes[pair].append(ranking.strength)
        pairs = {frozenset(pair) for pair in votes}
        comparisons = []
        for (better, worse), strengths in sorted(votes.items()):
            among = len(strengths) + len(votes.get((worse, better), ()))
            comparisons.append(
                Comparison(
                    better,
                    worse,
                    len(strengths) / among / len(pairs),
                    sum(strengths) / len(strengths),
                )
            )
        first = group[0]
        finished = first.finished or (True,) * len(first.completions)
        if comparisons:
            judged.append(Judged(first.prompt, first.completions, finished, tuple(comparisons)))
    return judged


def content_hash(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_prompts(path: Path) -> list[Prompt]:
    return _read(path, _prompt)


def read_demonstrations(path: Path) -> list[Demonstration]:
    return _read(path, _demonstration)


def read_rankings(path: Path) -> list[Ranking]:
    return _read(path, _ranking)


def _read(path: Path, parse: Callable[[dict[str, Any], int], Row]) -> list[Row]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    rows = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise DataError("not a JSON object")
                rows.append(parse(row, number))
            except (ValueError, KeyError, TypeError) as error:
                reason = f"missing {error}" if isinstance(error, KeyError) else str(error)
                raise DataError(f"{path.name}, line {number}: {reason}") from error
    if not rows:
        raise DataError(f"{path}: empty")
    return rows


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise DataError("messages must be a list with at least one message")
    for message in value:
        if not isinstance(message, dict) or not all(
            isinstance(message.get(name), str) for name in ("role", "content")
        ):
            raise DataError("a message must be an object with the texts 'role' and 'content'")
    return tuple({"role": each["role"], "content": each["content"]} for each in value)


def _prompt(row: dict[str, Any], number: int) -> Prompt:
    return Prompt(str(row.get("id", number)), _messages(row["prompt"]))


def _demonstration(row: dict[str, Any], number: int) -> Demonstration:
    completion = _messages(row["completion"])
    if len(completion) != 1 or not completion[0]["content"].strip():
        raise DataError("completion must be one message that is not empty")
    return Demonstration(_prompt(row, number), completion[0]["content"])


def _ranking(row: dict[str, Any], number: int) -> Ranking:
    completions, ranks = row["completions"], row["ranks"]
    if not all(isinstance(text, str) for text in completions) or len(completions) < 2:
        raise DataError("completions must be two or more texts")
    if len(ranks) != len(completions):
        raise DataError(f"{len(completions)} completions but {len(ranks)} ranks")
    finished = tuple(reason != "length" for reason in row.get("finish_reasons") or ())
    if finished and len(finished) != len(completions):
        raise DataError(f"{len(completions)} completions but {len(finished)} finish_reasons")
    return Ranking(
        _prompt(row, number),
        tuple(completions),
        tuple(float(rank) for rank in ranks),
        float(row.get("strength") or 0.0),
        str(row.get("labeler") or ""),
        finished,
    )
