"""Labels → the frozen, hashed files a run learns from. Same labels, same bytes.

Prompts of the test split never train. What is held out for a look now and then is the validation
split; both together judge the result."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings
from django.utils.crypto import salted_hmac

from annotate.judges.weights import weights_of
from annotate.labels.agreement import Ranked, agreement
from annotate.labels.kinds.kind import LabelKind
from annotate.labels.label import LabelQuerySet
from annotate.models import (
    Completion,
    Demonstration,
    Document,
    Feedback,
    JudgeRanking,
    Project,
    Prompt,
    Ranking,
    User,
)
from rlhf.data.selection import (
    EVERYTHING,
    HELD_OUT,
    TRAIN,
    Filters,
    Outdone,
    Pairs,
    all_bad,
    complaints,
    held_out_rankings,
    judge_rankings,
    outdone,
    thumbs,
    training_pairs,
    training_rankings,
)
from rlhf.data.weights import weights_of_feedback, weights_of_rankings
from rlhf.models.leases import Lease
from rlhf.models.outcomes import Snapshot
from rlhf.models.runs import Run

Rows = list[dict[str, Any]]


@dataclass
class Frozen:
    """The rows of each data file, and the labels and prompts they came from."""

    files: dict[str, Rows]
    demonstrations: list[Demonstration] = field(default_factory=list)
    rankings: list[Ranking] = field(default_factory=list)
    judge_rankings: list[JudgeRanking] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    feedback: list[Feedback] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Lines of each data file."""
        return {name: len(rows) for name, rows in self.files.items()}


class Collect(Protocol):
    """Reads what a training would learn from now. `train`: the fields of its recipe."""

    def __call__(
        self, project: Project, filters: Filters, *, train: Mapping[str, Any]
    ) -> Frozen: ...


def freeze(lease: Lease, collect: Collect) -> Snapshot:
    """Returns the run's snapshot: collected by its first attempt, the same ever after."""
    existing = Snapshot.objects.filter(run=lease.run).first()
    if existing:
        return existing
    run = lease.run
    frozen = collect(run.project, filters_of(run), train=run.config["train"])
    written = lease.path / f"data-{uuid.uuid4().hex}"
    manifest, shared = write(written, frozen.files), agreement_in(frozen.rankings)
    with lease.fenced() as run:
        place = settings.DATA_DIR / run.folder / "data"
        if place.exists():  # of an attempt that died before it could say so
            shutil.rmtree(place)
        written.rename(place)
        snapshot = Snapshot.objects.create(
            project=run.project,
            run=run,
            sha256=manifest["sha256"],
            counts=frozen.counts,
            filters=filters_of(run).as_dict(),
            agreement=shared,
        )
        snapshot.demonstrations.set(frozen.demonstrations)
        snapshot.rankings.set(frozen.rankings)
        snapshot.judge_rankings.set(frozen.judge_rankings)
        snapshot.prompts.set(frozen.prompts)
        snapshot.feedback.set(frozen.feedback)
        snapshot.documents.set(frozen.documents)
        snapshot.remember_guests()
    return snapshot


def agreement_in(rankings: Iterable[Ranking]) -> float | None:
    """Returns how often those who ranked the same prompt prefer the same, 0 to 1; None where no two
    did."""
    ranked = [each for each in rankings if each.outcome == Ranking.Outcome.RANKED]
    share = agreement(Ranked(r.prompt_id, r.labeler_id, r.places) for r in ranked).share
    return round(share.value, 4) if share else None


def filters_of(run: Run) -> Filters:
    """Gives what a run may learn from: the filters of its round, or everything."""
    return Filters.from_dict(run.round.filters) if run.round else EVERYTHING


def write(folder: Path, files: dict[str, Rows]) -> dict[str, Any]:
    """Writes one JSONL file each, without the empty ones, and a manifest of their hashes; returns
    the manifest."""
    folder.mkdir(parents=True)
    hashes = {}
    for name, rows in sorted(files.items()):
        if not rows:
            continue
        content = "".join(
            json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows
        ).encode()
        (folder / f"{name}.jsonl").write_bytes(content)
        hashes[name] = hashlib.sha256(content).hexdigest()
    whole = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
    manifest = {"files": hashes, "sha256": whole}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    return manifest


def data_config(folder: str) -> dict[str, Any]:
    """Returns the `data` part of a trainer's config for a folder that `write` wrote."""
    manifest = json.loads((settings.DATA_DIR / folder / "manifest.json").read_text())
    paths = {name: f"{folder}/{name}.jsonl" for name in manifest["files"]}
    return {**paths, "sha256": manifest["files"]}


def pseudonym(labeler: User) -> str:
    """Names a labeler for a snapshot: the same person has the same name in every one, and it is not
    their own."""
    digest = salted_hmac("rlhf.snapshot.labeler", str(labeler.pk)).hexdigest()[:12]
    return f"simulated-{digest}" if labeler.is_simulated else f"labeler-{digest}"


def demonstration_row(demonstration: Demonstration) -> dict[str, Any]:
    return {
        "id": demonstration.pk,
        "prompt_id": demonstration.prompt_id,
        "prompt": demonstration.prompt.messages,
        "completion": [{"role": "assistant", "content": demonstration.text}],
    }


def ranking_row(ranking: Ranking, weight: float = 1.0) -> dict[str, Any]:
    """Completions by id, so that the rankings of several labelers line up."""
    placements = sorted(ranking.placements.all(), key=lambda placement: placement.completion_id)
    row = {
        "id": ranking.pk,
        "prompt_id": ranking.prompt_id,
        "prompt": ranking.prompt.messages,
        "completions": [placement.completion.text for placement in placements],
        "ranks": [placement.place for placement in placements],
        "finish_reasons": [placement.completion.finish_reason for placement in placements],
        "policies": [str(placement.completion.policy_id) for placement in placements],
        "labeler": pseudonym(ranking.labeler),
    }
    if ranking.strength:
        row["strength"] = ranking.strength
    return row if weight == 1 else {**row, "reliability": _rounded(weight)}


def _rounded(weight: float) -> float:
    return float(f"{weight:.4g}")


def judge_row(ranking: JudgeRanking, weight: float) -> dict[str, Any]:
    """What a judge says, as a ranking that weighs what the judge's reliability is worth."""
    placed = ranking.placed
    return {
        "id": f"judge {ranking.pk}",
        "prompt_id": ranking.task.prompt_id,
        "prompt": ranking.task.prompt.messages,
        "completions": [each.text for each, _ in placed],
        "ranks": [place for _, place in placed],
        "finish_reasons": [each.finish_reason for each, _ in placed],
        "policies": [str(each.policy_id) for each, _ in placed],
        "labeler": f"judge-{ranking.judge_id}",
        "reliability": weight,
    }


def pair_row(kind: LabelKind, label: Any) -> dict[str, Any]:
    """A text and the completion it is better than, as a ranking of two."""
    beaten = getattr(label, kind.beats)
    return {
        "id": f"{kind.words.one} {label.pk}",
        "prompt_id": label.prompt_id,
        "prompt": label.prompt.messages,
        "completions": [beaten.text, label.text],
        "ranks": [2, 1],
        "finish_reasons": [beaten.finish_reason, "stop"],
        "policies": [str(beaten.policy_id), ""],
        "labeler": pseudonym(label.labeler),
    }


def outdone_row(demonstration: Demonstration, completions: list[Completion]) -> dict[str, Any]:
    """A demonstration above completions that people found bad, as a ranking."""
    texts = [*(each.text for each in completions), demonstration.text]
    return {
        "id": f"outdone {demonstration.pk}",
        "prompt_id": demonstration.prompt_id,
        "prompt": demonstration.prompt.messages,
        "completions": texts,
        "ranks": [2] * len(completions) + [1],
        "finish_reasons": [*(each.finish_reason for each in completions), "stop"],
        "policies": [*(str(each.policy_id) for each in completions), ""],
        "labeler": pseudonym(demonstration.labeler),
    }


def prompt_row(prompt: Prompt) -> dict[str, Any]:
    row = {"id": prompt.pk, "prompt_id": prompt.pk, "prompt": prompt.messages}
    return {**row, "reference": prompt.reference} if prompt.reference else row


def thumb_row(feedback: Feedback, weight: float = 1.0) -> dict[str, Any]:
    answer = feedback.answer
    assert answer is not None
    row = {
        "id": feedback.pk,
        "prompt_id": answer.prompt_id,
        "prompt": answer.prompt.messages,
        "completion": [{"role": "assistant", "content": answer.text}],
        "finish_reasons": [answer.finish_reason],
        "label": feedback.thumb_up,
    }
    return row if weight == 1 else {**row, "weight": _rounded(weight)}


def freeze_thumbs(project: Project, filters: Filters) -> Frozen:
    """Reads what guests thought of answers, each account's thumbs weighed."""
    given = thumbs(project, filters).with_answers()
    to_learn, test = list(given.in_split(*TRAIN)), list(given.in_split(*HELD_OUT))
    weights = weights_of_feedback(project, [*to_learn, *test], filters.until)
    return Frozen(
        files={
            "train": [thumb_row(each, weights[each.pk]) for each in to_learn],
            "test": [thumb_row(each, weights[each.pk]) for each in test],
        },
        feedback=[*to_learn, *test],
    )


def document_row(document: Document) -> dict[str, Any]:
    return {"id": document.pk, "text": document.text}


def freeze_rankings(project: Project, filters: Filters) -> Frozen:
    """Reads the rankings to learn from, those held out, and those of held-out labelers; the labels
    whose text beats a completion, each like a ranking of two; and what admitted judges say."""
    to_learn = training_rankings(project, filters)
    train = _with_completions(to_learn.in_split(*TRAIN))
    test = _with_completions(to_learn.in_split(*HELD_OUT))
    held_out = _with_completions(held_out_rankings(project, filters))
    weigh = weights_of_rankings(project, [*train, *test], filters.until)
    pairs = training_pairs(project, filters)
    better = outdone(project, filters)
    rows = _outdone_rows(better)
    refused = all_bad(project, filters).exclude(labeler__in=filters.held_out_labelers)
    judged = judge_rankings(project, filters)
    weights = weights_of((each.judge for each in judged), filters.until)
    judged = [each for each in judged if each.judge_id in weights]
    refused = refused.filter(prompt__demonstrations__in=[each.demonstration for each in better])
    return Frozen(
        files={
            "train": [
                *(ranking_row(each, weigh[each.pk]) for each in train),
                *_pair_rows(pairs, TRAIN),
                *(row for split, _, row in rows if split in TRAIN),
                *(judge_row(each, weights[each.judge_id]) for each in judged),
            ],
            "test": [
                *(ranking_row(each, weigh[each.pk]) for each in test),
                *_pair_rows(pairs, HELD_OUT),
                *(row for split, _, row in rows if split in HELD_OUT),
            ],
            "held_out_labelers": [ranking_row(each) for each in held_out],
        },
        demonstrations=[
            *(label for _, labels in pairs for label in labels),
            *(demonstration for _, demonstration, _ in rows),
        ],
        rankings=[*train, *test, *held_out, *_with_completions(refused.distinct())],
        judge_rankings=judged,
        feedback=list(complaints(project, filters, better)),
    )


def compared_answers(rows: Rows) -> int:
    """Counts the sets of completions in rankings: those of the same set are one example, in
    whatever order."""
    return len({(row["prompt_id"], tuple(sorted(row["completions"]))) for row in rows})


def _pair_rows(pairs: Pairs, splits: Iterable[str]) -> Rows:
    return [
        pair_row(kind, label)
        for kind, labels in pairs
        for label in labels.in_split(*splits).select_related("prompt", "labeler", kind.beats)
    ]


def _outdone_rows(better: list[Outdone]) -> list[tuple[str, Demonstration, dict[str, Any]]]:
    """(split, demonstration, row) of each."""
    written = Demonstration.objects.select_related("prompt", "labeler")
    by_id = written.in_bulk([each.demonstration for each in better])
    said = Completion.objects.in_bulk({pk for each in better for pk in each.completions})
    return [
        (demonstration.prompt.split, demonstration, outdone_row(demonstration, bad))
        for each in better
        for demonstration, bad in [
            (by_id[each.demonstration], [said[pk] for pk in each.completions])
        ]
    ]


def with_prompts(labels: LabelQuerySet) -> list[Demonstration]:
    """Reads demonstrations with their prompts, as `demonstration_row` wants them."""
    return list(labels.select_related("prompt"))


def _with_completions(labels: LabelQuerySet) -> list[Ranking]:
    placed = labels.select_related("prompt", "labeler")
    return list(placed.prefetch_related("placements__completion"))
