"""Labels → the frozen, hashed files a run learns from. Same labels, same bytes.

Prompts of the test split never train. What is held out for a look now and then is the validation
split; both together judge the result."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import OuterRef, Q, Subquery
from django.utils.crypto import salted_hmac

from annotate.models import Demonstration, Project, Prompt, Ranking, Review, User
from annotate.models.labels import LabelQuerySet
from rlhf.leases import Lease
from rlhf.models import Run, Snapshot

TRAIN = (Prompt.Split.TRAIN,)
HELD_OUT = (Prompt.Split.VALIDATION, Prompt.Split.TEST)

Rows = list[dict[str, Any]]


@dataclass
class Frozen:
    """The rows of each data file, and the labels and prompts they came from."""

    files: dict[str, Rows]
    demonstrations: list[Demonstration] = field(default_factory=list)
    rankings: list[Ranking] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)


def freeze(lease: Lease) -> Snapshot:
    """The run's snapshot: made by its first attempt, the same ever after."""
    existing = Snapshot.objects.filter(run=lease.run).first()
    if existing:
        return existing
    frozen = collect(lease.run)
    written = lease.path / f"data-{uuid.uuid4().hex}"
    manifest = write(written, frozen.files)
    with lease.fenced() as run:
        place = settings.DATA_DIR / run.folder / "data"
        if place.exists():  # of an attempt that died before it could say so
            shutil.rmtree(place)
        written.rename(place)
        snapshot = Snapshot.objects.create(
            project=run.project,
            run=run,
            sha256=manifest["sha256"],
            counts={name: len(rows) for name, rows in frozen.files.items()},
        )
        snapshot.demonstrations.set(frozen.demonstrations)
        snapshot.rankings.set(frozen.rankings)
        snapshot.prompts.set(frozen.prompts)
    return snapshot


def collect(run: Run) -> Frozen:
    if run.kind == Run.Kind.SFT:
        return _for_sft(run.project)
    if run.kind == Run.Kind.REWARD:
        return _for_reward(run.project)
    return _for_ppo(run.project, with_demonstrations=bool(run.config["train"].get("ptx_weight")))


def write(folder: Path, files: dict[str, Rows]) -> dict[str, Any]:
    """One JSONL file each, without the empty ones, and a manifest of their hashes."""
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
    """The `data` part of a trainer's config for a folder that `write` wrote."""
    manifest = json.loads((settings.DATA_DIR / folder / "manifest.json").read_text())
    paths = {name: f"{folder}/{name}.jsonl" for name in manifest["files"]}
    return {**paths, "sha256": manifest["files"]}


def usable(labels: LabelQuerySet) -> LabelQuerySet:
    """Without what a reviewer last excluded or sent back."""
    kind = labels.model._meta.model_name
    last = Review.objects.filter(**{kind: OuterRef("pk")}).order_by("-pk").values("verdict")[:1]
    refused = [Review.Verdict.EXCLUDED, Review.Verdict.SENT_BACK]
    return labels.annotate(last_verdict=Subquery(last)).filter(
        Q(last_verdict=None) | ~Q(last_verdict__in=refused)
    )


def demonstrations_of(project: Project) -> LabelQuerySet:
    current = Demonstration.objects.current().of_project(project)
    return usable(current).select_related("prompt").order_by("pk")


def rankings_of(project: Project) -> LabelQuerySet:
    current = Ranking.objects.current().of_project(project)
    ranked = current.filter(outcome=Ranking.Outcome.RANKED)
    placed = usable(ranked).select_related("prompt", "labeler").order_by("pk")
    return placed.prefetch_related("placements__completion")


def pseudonym(labeler: User) -> str:
    """The same person has the same name in every snapshot, and it is not their own."""
    digest = salted_hmac("rlhf.snapshot.labeler", str(labeler.pk)).hexdigest()[:12]
    return f"simulated-{digest}" if labeler.is_simulated else f"labeler-{digest}"


def demonstration_row(demonstration: Demonstration) -> dict[str, Any]:
    return {
        "id": demonstration.pk,
        "prompt_id": demonstration.prompt_id,
        "prompt": demonstration.prompt.messages,
        "completion": [{"role": "assistant", "content": demonstration.text}],
    }


def ranking_row(ranking: Ranking) -> dict[str, Any]:
    """Completions by id, so that the rankings of several labelers line up."""
    placements = sorted(ranking.placements.all(), key=lambda placement: placement.completion_id)
    row = {
        "id": ranking.pk,
        "prompt_id": ranking.prompt_id,
        "prompt": ranking.prompt.messages,
        "completions": [placement.completion.text for placement in placements],
        "ranks": [placement.place for placement in placements],
        "finish_reasons": [placement.completion.finish_reason for placement in placements],
        "labeler": pseudonym(ranking.labeler),
    }
    return {**row, "strength": ranking.strength} if ranking.strength else row


def prompt_row(prompt: Prompt) -> dict[str, Any]:
    return {"id": prompt.pk, "prompt_id": prompt.pk, "prompt": prompt.messages}


def tells_apart(ranking: Ranking) -> bool:
    """Does it prefer anything to anything?"""
    return len({placement.place for placement in ranking.placements.all()}) > 1


def _for_sft(project: Project) -> Frozen:
    train = _with_text(demonstrations_of(project).in_split(*TRAIN))
    test = _with_text(demonstrations_of(project).in_split(*HELD_OUT))
    return Frozen(
        files={
            "train": [demonstration_row(each) for each in train],
            "test": [demonstration_row(each) for each in test],
        },
        demonstrations=[*train, *test],
    )


def _for_reward(project: Project) -> Frozen:
    train = [r for r in rankings_of(project).in_split(*TRAIN) if tells_apart(r)]
    test = [r for r in rankings_of(project).in_split(*HELD_OUT) if tells_apart(r)]
    not_test = (Prompt.Split.TRAIN, Prompt.Split.VALIDATION)
    calibration = _with_text(demonstrations_of(project).in_split(*not_test))
    return Frozen(
        files={
            "train": [ranking_row(each) for each in train],
            "test": [ranking_row(each) for each in test],
            "calibration": [demonstration_row(each) for each in calibration],
        },
        demonstrations=calibration,
        rankings=[*train, *test],
    )


def _for_ppo(project: Project, *, with_demonstrations: bool) -> Frozen:
    train = list(project.prompts.in_split(*TRAIN).order_by("pk"))
    test = list(project.prompts.in_split(*HELD_OUT).order_by("pk"))
    demonstrations = []
    if with_demonstrations:
        demonstrations = _with_text(demonstrations_of(project).in_split(*TRAIN))
    return Frozen(
        files={
            "train": [prompt_row(each) for each in train],
            "test": [prompt_row(each) for each in test],
            "demonstrations": [demonstration_row(each) for each in demonstrations],
        },
        demonstrations=demonstrations,
        prompts=[*train, *test],
    )


def _with_text(demonstrations: Iterable[Demonstration]) -> list[Demonstration]:
    return [each for each in demonstrations if each.text.strip()]
