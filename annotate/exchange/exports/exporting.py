"""Export of prompts and labels, line by line, in the shapes that `importing` reads.

Every line of a kind has the same names, each with values of one type, or null where there is none:
a trainer reads them as one table. `margin` is there only if all pairs have one, for TRL takes no
null. Nothing in a line depends on where it was stored: what is exported, imported into an empty
project and exported again is the same, byte by byte, in each format. An import does not read
`split`, which follows from the prompt and its `split_key`. Nothing leaves that guests have taken
back or that is of people who have withdrawn, and nothing of guests that may not train yet: an
answer they wanted that no reviewer has accepted, a thumb or preference of a new guest. Labels are
raw, one line a labeler; preferences are derived from rankings, and so is the consensus of all who
ranked the same completions. A simulated labeler's lines say so.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, groupby
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.db.models import Q

from annotate.chat.feedback import Feedback, FeedbackQuerySet
from annotate.exchange.exports.columnar import write_parquet
from annotate.exchange.exports.telling import facts_of_json, facts_of_table, telling_first
from annotate.exchange.files.readers import ESCAPED, escaped, format_of
from annotate.labels.agreement import share_agreed
from annotate.labels.kinds import KINDS as LABEL_KINDS
from annotate.labels.kinds.demonstration import Demonstration
from annotate.labels.kinds.kind import LabelKind
from annotate.labels.kinds.ranking.answer import Placement, Ranking
from annotate.labels.label import LabelQuerySet
from annotate.people.models import Project, User
from annotate.prompts.models import (
    Messages,
    Prompt,
    PromptQuerySet,
    content_hash,
    prompt_key,
    split_of,
)
from annotate.prompts.policies import Policy
from annotate.prompts.withdrawals import kept_back, withdrawn_from

Line = dict[str, Any]
Name = Callable[[User], Line]
NOBODY: Line = {"labeler": "", "simulated": False}
CHUNK = 1000
FORMATS = {
    "jsonl": "application/jsonl",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}


@dataclass(frozen=True)
class Export:
    """Of one project, about these prompts or all; and how people are named in it."""

    project: Project
    name: Name
    chosen: PromptQuerySet | None

    def prompts(self) -> PromptQuerySet:
        chosen = self.project.prompts.accepted() if self.chosen is None else self.chosen
        return chosen.exclude(pk__in=kept_back(self.project).values("pk"))

    def labels(self, model: type[Any]) -> LabelQuerySet:
        labels = model.objects.of_no_other_kind().current().of_prompts(self.prompts())
        labels = labels.exclude(labeler__in=withdrawn_from(self.project))
        labels = labels.with_last_verdict().without_unchecked_guests()
        return labels.select_related("prompt", "labeler").order_by("pk")

    def thumbs(self) -> FeedbackQuerySet:
        """Those on imported completions and in chats, but for the chats whose guest said no. A chat
        is about no prompt: of a selection of prompts, its thumbs are no part."""
        thumbs = Feedback.objects.trainable().of_known().of_project(self.project)
        thumbs = thumbs.exclude(user__in=withdrawn_from(self.project))
        on_prompts = Q(completion__prompt__in=self.prompts())
        in_chats = Q(completion=None) if self.chosen is None else Q(pk__in=[])
        related = (
            "user",
            "message__policy",
            "message__conversation",
            "completion__prompt",
            "completion__policy",
        )
        return thumbs.filter(on_prompts | in_chats).select_related(*related).order_by("pk")


def lines(
    project: Project,
    kind: str,
    *,
    anonymous: bool = False,
    prompts: PromptQuerySet | None = None,
) -> Iterator[str]:
    """The export as JSON texts, each with its line end; about these `prompts`, if given.
    `anonymous` replaces names by pseudonyms that stay the same from export to export, and leaves
    out what people wrote to the lead and what was asked by the same guest."""
    export = Export(project, _pseudonym if anonymous else _name, prompts)
    for line in EXPORTS[canonical(kind)](export):
        if anonymous:
            line.pop("comment", None)
            line.pop("note", None)
            line.pop("split_key", None)
        yield json.dumps(line, ensure_ascii=False) + "\n"


def as_csv(lines: Iterable[str]) -> Iterator[str]:
    """The same for a spreadsheet: a header, then a row a line, lists as JSON. The last column says
    that texts which look like formulas are escaped, for an import to undo it."""
    out = io.StringIO()
    writer = None
    for line in lines:
        cells = {name: _cell(value) for name, value in json.loads(line).items()}
        if writer is None:
            writer = csv.DictWriter(out, [*cells, ESCAPED], restval="")
            writer.writeheader()
        writer.writerow({**cells, ESCAPED: "true"})
        yield out.getvalue()
        out.seek(0)
        out.truncate()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return escaped(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def write(file: IO[bytes], lines: Iterable[str], format: str) -> None:
    """Writes the export as JSON Lines, CSV or Parquet. Of what has no schema, the lines that tell
    the types come first."""
    match format:
        case "parquet":
            write_parquet(file, lines)
        case "csv":
            for text in as_csv(telling_first(lines, facts_of_table)):
                file.write(text.encode())
        case _:
            for line in telling_first(lines, facts_of_json):
                file.write(line.encode())


def write_file(path: Path, lines: Iterable[str]) -> int:
    """Writes all lines, in the format of the file's name, or leaves the file as it was; returns how
    many they are."""
    count = 0

    def counted() -> Iterator[str]:
        nonlocal count
        for count, line in enumerate(lines, start=1):  # noqa: B007 - returned below
            yield line

    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            write(file, counted(), format_of(path.name))
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return count


def _prompts(export: Export) -> Iterator[Line]:
    for prompt in export.prompts().select_related("author").order_by("pk").iterator(CHUNK):
        is_written = prompt.kind and prompt.author
        yield {
            "prompt": prompt.messages,
            "reference": prompt.reference,
            "source": prompt.source,
            "tags": prompt.tags,
            "written": prompt.kind if is_written else "",
            **(export.name(prompt.author) if prompt.kind and prompt.author else NOBODY),
            "archived": bool(prompt.archived_at),
            **_split(prompt),
        }


def _demonstrations(export: Export) -> Iterator[Line]:
    for label in export.labels(Demonstration).iterator(CHUNK):
        yield {
            "prompt": label.prompt.messages,
            "completion": _message(label.text),
            **_about(label, export.name),
        }


def _rankings(export: Export) -> Iterator[Line]:
    for label, placed in _placed(export):
        position = {each.completion_id: i for i, each in enumerate(placed)}
        yield {
            "prompt": label.prompt.messages,
            "completions": [each.completion.text for each in placed],
            "ranks": [each.place for each in placed],
            "policies": [each.completion.policy.name for each in placed],
            "finish_reasons": [each.completion.finish_reason for each in placed],
            "ratings": [each.rating for each in placed],
            "flags": [each.flags for each in placed],
            "outcome": label.outcome,
            "strength": label.strength,
            "reason": label.reason,
            "shown_order": [position[pk] for pk in label.shown_order],
            "letters": [label.letters[each.completion_id] for each in placed],
            **_about(label, export.name),
        }


def _consensus(export: Export) -> Iterator[Line]:
    """One line for all rankings of the same completions. `ranks` follow the mean place of each
    (Borda's count); `agreement` is the share of the comparisons that two people share on which they
    are of one opinion, None where there are none."""
    ranked = export.labels(Ranking).ordinary().filter(outcome=Ranking.Outcome.RANKED)
    related = ranked.order_by("prompt", "pk").prefetch_related("placements__completion__policy")
    for _, group in groupby(related.iterator(CHUNK), key=lambda label: label.prompt_id):
        alike: dict[frozenset[int], list[Ranking]] = {}
        for label in group:
            alike.setdefault(frozenset(label.places), []).append(label)
        for labels in alike.values():
            yield _agreed(labels)


def _agreed(labels: list[Ranking]) -> Line:
    orders = [label.places for label in labels]
    sums = {pk: sum(order[pk] for order in orders) for pk in orders[0]}
    tiers = sorted(set(sums.values()))
    placed = sorted(labels[0].placed, key=lambda p: p.completion.text_hash)
    prompt = labels[0].prompt
    return {
        "prompt": prompt.messages,
        "completions": [p.completion.text for p in placed],
        "ranks": [tiers.index(sums[p.completion_id]) + 1 for p in placed],
        "policies": [p.completion.policy.name for p in placed],
        "finish_reasons": [p.completion.finish_reason for p in placed],
        "labelers": len(labels),
        "agreement": share_agreed(orders),
        "source": prompt.source,
        "tags": prompt.tags,
        **_split(prompt),
    }


def _preferences(export: Export) -> Iterator[Line]:
    """Each pair of a ranking in which one completion is better. `ranking` is the same for those of
    one: they are to be learnt from together (InstructGPT, section 3.5)."""
    ranked = export.labels(Ranking).filter(outcome=Ranking.Outcome.RANKED)
    all_have_margin = not ranked.filter(strength=None, placements__place__gt=1).exists()
    for label, placed in _placed(export):
        if label.outcome != Ranking.Outcome.RANKED:
            continue
        about = _about(label, export.name)
        for pair in combinations(placed, 2):
            better, worse = sorted(pair, key=lambda each: each.place)
            if better.place == worse.place:
                continue
            yield {
                "ranking": _name_of(label, placed, about),
                "prompt": label.prompt.messages,
                "chosen": _message(better.completion.text),
                "rejected": _message(worse.completion.text),
                "policies": [better.completion.policy.name, worse.completion.policy.name],
                "finish_reasons": [each.completion.finish_reason for each in (better, worse)],
                "strength": label.strength,
                **({"margin": label.strength} if all_have_margin else {}),
                **about,
            }


def _thumbs(export: Export) -> Iterator[Line]:
    for thumb in export.thumbs().iterator(CHUNK):
        prompt, policy, text, ended_by = _judged(thumb)
        yield {
            "prompt": prompt,
            "completion": _message(text),
            "label": thumb.thumb_up,
            "policies": [policy.name],
            "finish_reasons": [ended_by],
            "reasons": thumb.reasons,
            "note": thumb.note,
            "wanted_answer": thumb.wanted_answer,
            **export.name(thumb.user),
            **_split_of_thumb(thumb),
        }


def _corrections(kind: LabelKind) -> Callable[[Export], Iterator[Line]]:
    """The lines of labels whose text is better than a completion, which is in a field that the kind
    names."""

    def lines_of(export: Export) -> Iterator[Line]:
        labels = export.labels(kind.model).select_related(f"{kind.beats}__policy")
        for label in labels.select_related("prompt", "labeler").iterator(CHUNK):
            beaten = getattr(label, kind.beats)
            yield {
                "prompt": label.prompt.messages,
                kind.beats: _message(beaten.text),
                "completion": _message(label.text),
                "policies": [beaten.policy.name],
                "finish_reasons": [beaten.finish_reason],
                **_about(label, export.name),
            }

    return lines_of


EXPORTS: dict[str, Callable[[Export], Iterator[Line]]] = {
    "prompts": _prompts,
    "demonstrations": _demonstrations,
    "rankings": _rankings,
    "consensus": _consensus,
    "preferences": _preferences,
    "thumbs": _thumbs,
    **{kind.words.many: _corrections(kind) for kind in LABEL_KINDS.values() if kind.beats},
}
KINDS = tuple(EXPORTS)
ALIASES = {"comparisons": "preferences", "feedback": "thumbs"}


def canonical(kind: str) -> str:
    """The name of the kind, which an import knows too."""
    return ALIASES.get(kind, kind)


def _split(prompt: Prompt) -> Line:
    return {"split": prompt.split, "split_key": prompt.split_key}


def _split_of_thumb(thumb: Feedback) -> Line:
    if said := thumb.completion:
        return _split(said.prompt)
    assert thumb.message
    key = thumb.message.conversation.split_key
    return {"split": str(split_of(key or prompt_key(thumb.message.asked))), "split_key": key}


def _name_of(label: Ranking, placed: list[Placement], about: Line) -> str:
    """The same for the same order by the same labeler, wherever it is stored."""
    order = [(each.completion.text_hash, each.place) for each in placed]
    return content_hash([label.prompt.content_hash, about["labeler"], order])[:16]


def _placed(export: Export) -> Iterator[tuple[Ranking, list[Placement]]]:
    """The rankings, each with its completions in an order that tells nothing of their places."""
    related = export.labels(Ranking).prefetch_related("placements__completion__policy")
    for label in related.iterator(CHUNK):
        yield label, sorted(label.placements.all(), key=lambda each: each.completion.text_hash)


def _judged(thumb: Feedback) -> tuple[Messages, Policy, str, str]:
    """(conversation, who answered, what, and what ended it) a thumb is about."""
    if said := thumb.completion:
        return said.prompt.messages, said.policy, said.text, said.finish_reason
    assert (answer := thumb.message) and answer.policy
    return answer.asked, answer.policy, answer.text, answer.ended_by


def _about(label: Demonstration | Ranking, name: Name) -> Line:
    return {
        **name(label.labeler),
        "source": label.source,
        "tags": label.prompt.tags,
        "guideline_version": label.guideline_version,
        "active_seconds": label.active_seconds,
        "pasted_share": label.pasted_share,
        "comment": label.comment,
        **_split(label.prompt),
    }


def _message(text: str) -> Messages:
    return [{"role": "assistant", "content": text}]


def _name(user: User) -> Line:
    return _labeler(user, user.labeler_name)


def _pseudonym(user: User) -> Line:
    keyed = hashlib.blake2b(str(user.pk).encode(), key=settings.SECRET_KEY.encode()[:64])
    return _labeler(user, f"labeler-{keyed.hexdigest()[:12]}")


def _labeler(user: User, name: str) -> Line:
    return {"labeler": name, "simulated": user.is_simulated}
