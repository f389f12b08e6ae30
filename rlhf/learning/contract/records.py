"""The rows a run learns from: one JSON object a line, read strictly, the line named on error."""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from feedback_site.votes.right import shares_right

CUT_OFF = ("length", "stopped", "failed")  # what ends an answer before its own end
# Templates make control tokens of roles: one that they do not know could spell any.
ROLES = ("system", "developer", "user", "assistant", "tool")
Message = dict[str, str]
Row = TypeVar("Row")
T = TypeVar("T")


class DataError(ValueError):
    """A row that cannot be learnt from; the message names the file and the line.

    `row`: the id it has, where it has one."""

    row: str = ""


@dataclass(frozen=True)
class Prompt:
    """What is asked; `reference` is the right answer, where one is known. `reads`: name of a policy
    → what it reads before the question, when it is sampled."""

    id: str
    messages: tuple[Message, ...]
    reference: str = ""
    reads: dict[str, str] = field(default_factory=dict, compare=False)

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


def read_prompts(path: Path) -> list[Prompt]:
    return _read(path, _prompt)


def read_demonstrations(path: Path) -> list[Demonstration]:
    return _read(path, _demonstration)


def read_rankings(path: Path) -> list[Ranking]:
    """Rankings, and pairs `{prompt, chosen, rejected, margin?}` as rankings of two."""
    return _read(path, _ranking)


def read_thumbs(path: Path) -> list[Thumb]:
    return _read(path, _thumb)


def read_documents(path: Path) -> list[Document]:
    return _read(path, _document)


def each_row(path: Path) -> Iterator[tuple[int, Any]]:
    """(line, row) of a file whatever the shape of its rows; a row that cannot be learnt from is the
    DataError that says why."""
    yield from _each(path, _by_shape)


def _by_shape(row: dict[str, Any], number: int) -> Any:
    if "text" in row:
        return _document(row, number)
    if "label" in row:
        return _thumb(row, number)
    if "chosen" in row or "completions" in row:
        return _ranking(row, number)
    return _demonstration(row, number) if "completion" in row else _prompt(row, number)


def _each(
    path: Path, parse: Callable[[dict[str, Any], int], Row]
) -> Iterator[tuple[int, Row | DataError]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            row: Any = None
            try:
                row = json.loads(line, parse_constant=_no_number, parse_float=_finite)
                if not isinstance(row, dict):
                    raise DataError("not a JSON object")
                if HALF_A_CHARACTER.search(line):
                    _check_characters(row)
                yield number, parse(row, number)
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                reason = f"missing {error}" if isinstance(error, KeyError) else str(error)
                refused = DataError(reason)
                refused.row = str(row.get("id", "")) if isinstance(row, dict) else ""
                yield number, refused


def _read(path: Path, parse: Callable[[dict[str, Any], int], Row]) -> list[Row]:
    rows = []
    for number, row in _each(path, parse):
        if isinstance(row, DataError):
            raise DataError(f"{path.name}, line {number}: {row}") from row
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: empty")
    return rows


# JSON writes one as an escape: in UTF-8 it cannot stand.
HALF_A_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


def _check_characters(row: dict[str, Any]) -> None:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise DataError(
            f"a text holds half a character ({half}), as a cut in the middle of an emoji leaves it"
        ) from error


def _no_number(name: str) -> float:
    raise DataError(f"{name} is no number to learn from")


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise DataError(f"{value} is no number to learn from")
    return number


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise DataError("messages must be a list with at least one message")
    for message in value:
        if not isinstance(message, dict) or not all(
            isinstance(message.get(name), str) for name in ("role", "content")
        ):
            raise DataError("a message must be an object with the texts 'role' and 'content'")
        if message["role"] not in ROLES:
            raise DataError(f"role must be one of {', '.join(ROLES)}, not {message['role']!r}")
    return tuple({"role": each["role"], "content": each["content"]} for each in value)


def _prompt(row: dict[str, Any], number: int) -> Prompt:
    reference = row.get("reference") or ""
    if not isinstance(reference, str):
        raise DataError("reference must be a text")
    reads = row.get("reads") or {}
    if not isinstance(reads, dict) or not all(isinstance(each, str) for each in reads.values()):
        raise DataError("reads must be a text for each policy that reads something")
    return Prompt(str(row.get("id", number)), _messages(row["prompt"]), reference, reads)


def _demonstration(row: dict[str, Any], number: int) -> Demonstration:
    text = _answer(row["completion"], "completion")
    if not text.strip():
        raise DataError("completion is empty: whoever learns from it learns to say nothing")
    return Demonstration(_prompt(row, number), text)


def _thumb(row: dict[str, Any], number: int) -> Thumb:
    if not isinstance(row["label"], bool):
        raise DataError("label must be true or false")
    text, finished = _answer(row["completion"], "completion"), _finished(row, 1)
    _check_learnable([text], finished)
    weight = _finite(row.get("weight", 1.0))
    if not 0 < weight <= 1:
        raise DataError("weight must be above 0, and 1 at most")
    return Thumb(_prompt(row, number), text, row["label"], all(finished), weight)


def _finished(row: dict[str, Any], count: int) -> tuple[bool, ...]:
    """Which answers came to an end of their own; () where the row does not say: all of them.

    One that was cut off is encoded without EOS, or it would teach to stop in mid-sentence."""
    finished = tuple(reason not in CUT_OFF for reason in row.get("finish_reasons") or ())
    _one_each("finish_reasons", finished, count)
    return finished


def _one_each(name: str, values: Sequence[Any], count: int) -> None:
    if values and len(values) != count:
        raise DataError(f"{count} completions but {len(values)} {name}")


def _document(row: dict[str, Any], number: int) -> Document:
    if not isinstance(row["text"], str) or not row["text"].strip():
        raise DataError("text must be a text that is not empty")
    return Document(str(row.get("id", number)), row["text"])


def _answer(value: Any, name: str) -> str:
    """The text of an answer, which is a list with one message, or the text itself."""
    messages = _messages([{"role": "assistant", "content": value}] if type(value) is str else value)
    if len(messages) != 1:
        raise DataError(f"{name} must be one message")
    return messages[0]["content"]


def _check_learnable(completions: Sequence[str], finished: Sequence[bool]) -> None:
    """A judged answer may be empty, whatever the shape of its row: that a model said nothing is
    worth knowing, and the end of its turn is what is learnt. One that was cut off before its first
    word has no token at all."""
    for text, ended in zip(completions, finished or [True] * len(completions), strict=True):
        if not text.strip() and not ended:
            raise DataError("an answer is empty and was cut off: there is nothing to learn in it")


def _ranking(row: dict[str, Any], number: int) -> Ranking:
    if "chosen" in row:
        pair = [_answer(row[name], name) for name in ("chosen", "rejected")]
        row = {"strength": row.get("margin"), **row, "completions": pair, "ranks": [1, 2]}
    completions, ranks = row["completions"], row["ranks"]
    if not all(isinstance(text, str) for text in completions) or len(completions) < 2:
        raise DataError("completions must be two or more texts")
    if len(ranks) != len(completions):
        raise DataError(f"{len(completions)} completions but {len(ranks)} ranks")
    finished = _finished(row, len(completions))
    _check_learnable(completions, finished)
    policies = tuple(str(each) for each in row.get("policies") or ())
    _one_each("policies", policies, len(completions))
    reliability = _finite(row.get("reliability", 1.0))
    if not reliability >= 0:
        raise DataError("reliability must be at least 0")
    return Ranking(
        _prompt(row, number),
        tuple(completions),
        tuple(_finite(rank) for rank in ranks),
        _finite(row.get("strength") or 0.0),
        str(row.get("labeler") or ""),
        finished,
        policies,
        reliability,
    )
