"""Writes the rows of an import in batches, and only what is not there yet: what is there already is
recognised by its content, so the same file may come twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from django.db import connection

from annotate.chat.feedback import Feedback
from annotate.exchange.bulk import copy_in, copy_values
from annotate.exchange.outcome import LONG_PREFIX, Imported, ImportFailed
from annotate.exchange.parsing import Row
from annotate.labels.kinds import KINDS
from annotate.labels.kinds.demonstration import Demonstration
from annotate.labels.kinds.kind import LabelKind
from annotate.labels.kinds.ranking.answer import Placement, Ranking
from annotate.people.models import Project, User
from annotate.prompts.models import Prompt, prompt_key
from annotate.prompts.policies import Completion, Policy

IMPORTED = Completion.Source.IMPORTED.value


@dataclass(slots=True)
class Entry:
    """A row on its way into the database."""

    line: int
    kind: str
    row: Row
    labeler: User | None = None
    prompt_hash: str = ""
    prompt_id: int = 0
    completion_ids: list[int] = field(default_factory=list)


@dataclass
class Writer:
    """Writes rows in batches, and only what is not there yet."""

    project: Project
    by: User
    source: str
    references: bool
    done: Imported = field(default_factory=Imported)
    policies: dict[str, Policy] = field(default_factory=dict)
    labelers: dict[str, User] = field(default_factory=dict)

    def wait_for_turn(self) -> None:
        """One import at a time in a project: two of the same file would not see each other."""
        with connection.cursor() as cursor:
            key: list[str | int] = ["import", self.project.pk]
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s), %s)", key)

    def write(self, batch: list[Entry], failed: ImportFailed) -> None:
        """Writes what is new of a batch: prompts first, then completions, then labels, which point
        to both. A line whose labeler contradicts the project is left out and noted in `failed`."""
        batch = [entry for entry in batch if self._finds_labeler(entry, failed)]
        self._write_prompts(batch)
        self._write_completions(batch)
        of_kind: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in batch:
            of_kind[entry.kind].append(entry)
        for kind, entries in of_kind.items():
            match kind:
                case "demonstrations":
                    self._write_demonstrations([(entry, entry.row.label) for entry in entries])
                case "completions" if self.references:
                    answered = [entry for entry in entries if entry.row.reference]
                    self._write_demonstrations([(e, {"text": e.row.reference}) for e in answered])
                case "rankings" | "preferences":
                    self._write_rankings(entries)
                case "thumbs":
                    self._write_thumbs(entries, failed)
                case _:
                    for each in KINDS.values():
                        if each.beats and each.words.many == kind:
                            self._write_corrections(each, entries)

    def _finds_labeler(self, entry: Entry, failed: ImportFailed) -> bool:
        name, is_simulated = entry.row.labeler, entry.row.is_simulated
        if not name:
            entry.labeler = self.by
            return True
        if name not in self.labelers:
            # Kept for the whole file: a million lines have a dozen labelers.
            self.labelers[name] = self.project.labeler_named(name, simulated=is_simulated)
        entry.labeler = self.labelers[name]
        if entry.labeler.is_simulated == is_simulated:
            return True
        here, there = ("simulated", "a person") if is_simulated else ("a person", "simulated")
        failed.add(
            entry.line,
            f"The labeler “{name}” is {here} in this line and {there} in the project. "
            "Rename one of the two.",
        )
        return False

    def _write_prompts(self, batch: list[Entry]) -> None:
        wanted: dict[str, Prompt] = {}
        for entry in batch:
            prompt = Prompt(
                project=self.project,
                messages=entry.row.prompt,
                reference=entry.row.reference,
                source=self._source_of(entry),
                tags=entry.row.tags,
                author=entry.labeler if entry.row.written.get("kind") else self.by,
                **entry.row.written,
            ).derive()
            entry.prompt_hash = prompt.content_hash
            first = wanted.setdefault(prompt.content_hash, prompt)
            first.reference = first.reference or prompt.reference
        there = Prompt.objects.ids_by_hash(self.project, wanted)
        new = [prompt for digest, prompt in wanted.items() if digest not in there]
        referring = {pk: each for d, pk in there.items() if (each := wanted[d].reference)}
        Prompt.objects.refer_to(referring)
        if new:
            # Somebody may write the same prompt at this moment.
            copy_in(new, unless_known=True)
            there = Prompt.objects.ids_by_hash(self.project, wanted)
        # Eight bytes for each of a million beginnings, instead of 200 characters.
        long = (prompt.text[:LONG_PREFIX] for prompt in new if len(prompt.text) >= LONG_PREFIX)
        self.done.beginnings.update(blake2b(each.encode(), digest_size=8).digest() for each in long)
        for entry in batch:
            entry.prompt_id = there[entry.prompt_hash]
        self._count("prompts", new, len(batch) if self.done.kind == "prompts" else len(wanted))

    def _write_completions(self, batch: list[Entry]) -> None:
        wanted: dict[tuple[int, int, str], str] = {}  # what was said → why it ended
        keys = [
            [
                (entry.prompt_id, self._policy(said.policy).pk, said.text)
                for said in entry.row.completions
            ]
            for entry in batch
        ]
        for entry, own in zip(batch, keys, strict=True):
            for key, said in zip(own, entry.row.completions, strict=True):
                wanted.setdefault(key, said.finish_reason)
        if not wanted:
            return
        there = Completion.objects.ids_by_content({prompt for prompt, _, _ in wanted})
        new = [key for key in wanted if key not in there]
        ids = copy_values(
            Completion,
            ["prompt_id", "policy_id", "text", "text_hash", "finish_reason", "source"],
            ((*key, Completion.hash_of(key[2]), wanted[key], IMPORTED) for key in new),
            count=len(new),
        )
        there.update(zip(new, ids, strict=True))
        for entry, own in zip(batch, keys, strict=True):
            entry.completion_ids = [there[key] for key in own]
        self._count("completions", new, len(wanted))

    def _write_demonstrations(self, entries: list[tuple[Entry, dict[str, Any]]]) -> None:
        there = set(
            Demonstration.objects.filter(prompt__in={entry.prompt_id for entry, _ in entries})
            .values_list("prompt", "labeler", "text")
            .order_by()
        )
        new = []
        for entry, label in entries:
            assert entry.labeler
            key = (entry.prompt_id, entry.labeler.pk, label["text"])
            if key not in there:
                there.add(key)
                new.append(Demonstration(**self._label(entry), **label))
        copy_in(new)
        self._count("demonstrations", new, len(entries))

    def _write_corrections(self, kind: LabelKind, batch: list[Entry]) -> None:
        beaten = f"{kind.beats}_id"
        stored = kind.labels.about({entry.prompt_id for entry in batch})
        there = set(stored.values_list("prompt", "labeler", "text", beaten).order_by())
        new = []
        for entry in batch:
            assert entry.labeler
            [said] = entry.completion_ids
            key = (entry.prompt_id, entry.labeler.pk, entry.row.label["text"], said)
            if key not in there:
                there.add(key)
                new.append(kind.model(**self._label(entry), **entry.row.label, **{beaten: said}))
        for label in new:  # in two tables: COPY fills one
            label.save()
        self._count(kind.words.many, new, len(batch))

    def _write_rankings(self, batch: list[Entry]) -> None:
        there = _orders_there({entry.prompt_id for entry in batch})
        new, placed = [], []
        for entry in batch:
            ids, row = entry.completion_ids, entry.row
            # A file knows completions by their position, the database by their ids.
            shown = [ids[position] for position in row.shown_order]
            named = [ids[position] for position in row.letter_order] or None
            ranking = Ranking(
                **self._label(entry), **row.label, shown_order=shown, letter_order=named
            )
            placements = list(zip(ids, row.placements, strict=True))
            order = _order_of(ranking, ((pk, said["place"]) for pk, said in placements))
            if order not in there:
                there.add(order)
                new.append(ranking)
                placed += [(ranking, pk, said) for pk, said in placements]
        copy_in(new)
        copy_values(
            Placement,
            ["ranking_id", "completion_id", "place", "rating", "flags"],
            (
                (ranking.pk, pk, said["place"], said.get("rating"), said.get("flags"))
                for ranking, pk, said in placed
            ),
            count=len(placed),
        )
        self._count("rankings", new, len(batch))

    def _write_thumbs(self, batch: list[Entry], failed: ImportFailed) -> None:
        answers = {entry.completion_ids[0] for entry in batch}
        thumbs = Feedback.objects.filter(completion__in=answers)
        there = {(thumb.completion_id, thumb.user_id): thumb.thumb_up for thumb in thumbs}
        in_chats = self._thumbs_in_chats(batch)
        new = []
        for entry in batch:
            assert entry.labeler
            [said] = entry.row.completions
            key = (entry.completion_ids[0], entry.labeler.pk)
            thumb = Feedback(completion_id=key[0], user=entry.labeler, **entry.row.label)
            if (entry.labeler.pk, said.policy, said.text, entry.prompt_hash) in in_chats:
                continue
            if key not in there:
                there[key] = thumb.thumb_up
                new.append(thumb)
            elif there[key] != thumb.thumb_up:
                name = entry.labeler.labeler_name
                failed.add(entry.line, f"{name} gave this answer the other thumb too.")
        copy_in(new)
        self._count("thumbs", new, len(batch))

    def _thumbs_in_chats(self, batch: list[Entry]) -> set[tuple[Any, ...]]:
        """What these people thought of answers in this site's own chats, which exports hold too."""
        thumbs = Feedback.objects.filter(
            user__in={entry.labeler for entry in batch},
            message__conversation__project=self.project,
        ).select_related("message__policy")
        return {
            (thumb.user_id, m.policy.name, m.text, prompt_key(m.asked))
            for thumb in thumbs
            if (m := thumb.message) and m.policy
        }

    def _policy(self, name: str) -> Policy:
        if name not in self.policies:
            self.policies[name] = Policy.objects.said_by(self.project, name)
        return self.policies[name]

    def _label(self, entry: Entry) -> dict[str, Any]:
        return {
            "prompt_id": entry.prompt_id,
            "labeler": entry.labeler,
            "source": self._source_of(entry),
        }

    def _source_of(self, entry: Entry) -> str:
        return self.source if entry.row.source is None else entry.row.source

    def _count(self, what: str, new: list[Any], wanted: int) -> None:
        self.done.new[what] += len(new)
        self.done.known[what] += wanted - len(new)


Order = tuple[Any, ...]


def _order_of(ranking: Ranking, places: Iterable[tuple[int, int]]) -> Order:
    """What makes two rankings the same: one labeler, the same completions at the same places."""
    return (
        ranking.prompt_id,
        ranking.labeler_id,
        ranking.outcome,
        ranking.strength,
        frozenset(places),
    )


def _orders_there(prompt_ids: set[int]) -> set[Order]:
    rankings = Ranking.objects.filter(prompt__in=prompt_ids).prefetch_related("placements")
    return {_order_of(ranking, ranking.places.items()) for ranking in rankings}
