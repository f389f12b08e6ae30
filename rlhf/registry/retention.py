"""Which models and saves stay on the disk, and making room by removing the others.

A model's row stays for ever and says when its files went: lineage does not depend on the disk. The
row of a save goes with its files. Rows change first, in one transaction; then whatever no row
vouches for is removed, which also takes what a worker left behind when it died."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from django.conf import settings
from django.db.models import Q, QuerySet

from annotate.audit.recording import recorded
from annotate.models import Policy, Project
from rlhf.models.checkpoints import Checkpoint
from rlhf.models.outcomes import Promotion, RewardModel
from rlhf.models.runs import Round, Run, lock_project

KEEP_ROUNDS = 3  # the newest
KEEP_SAVES = 3  # the newest of a run that may be resumed


@dataclass(frozen=True)
class Holding:
    """A published model whose files are here. It may go where there is no reason for it to stay."""

    model: Checkpoint
    size: int  # bytes
    reasons: list[str]


@dataclass(frozen=True)
class DiskUse:
    """What a project's models and saves take, and what of it could go."""

    holdings: list[Holding]  # the newest first
    saves: list[Checkpoint]  # nobody will resume from these

    @property
    def models(self) -> list[Checkpoint]:
        return [each.model for each in self.holdings if not each.reasons]

    @property
    def spare(self) -> int:
        """Bytes."""
        models = sum(each.size for each in self.holdings if not each.reasons)
        return models + sum(_size(_path(save)) for save in self.saves)


def disk_use_of(project: Project, *, keep_rounds: int = KEEP_ROUNDS) -> DiskUse:
    models = list(Checkpoint.objects.here(project).order_by("-pk"))
    reasons = _reasons(project, models, keep_rounds)
    holdings = [Holding(each, _size(_path(each)), reasons[each.pk]) for each in models]
    return DiskUse(holdings, list(_useless_saves(project)))


def prune_models(project: Project, *, keep_rounds: int = KEEP_ROUNDS) -> int:
    """Removes what could go. Returns how many bytes that freed."""
    with recorded():
        lock_project(project)  # nothing is promoted meanwhile
        use = disk_use_of(project, keep_rounds=keep_rounds)
        for model in use.models:
            model.give_up()
        Checkpoint.objects.filter(pk__in=[each.pk for each in use.saves]).delete()
    return _sweep(project)


def _reasons(
    project: Project, models: list[Checkpoint], keep_rounds: int
) -> defaultdict[int, list[str]]:
    """Checkpoint → why its files stay."""
    rounds = Round.objects.of_project(project)
    newest = set(rounds.order_by("-number").values_list("pk", flat=True)[:keep_rounds])
    busy = set(rounds.under_way().values_list("pk", flat=True))
    spoke = set(_that_answered(project).values_list("folder", flat=True))
    needed = set(_folders_needed(project, busy))
    judge = project.reward_models.filter(checkpoint__in=models).first()
    found: defaultdict[int, list[str]] = defaultdict(list)
    for model in models:
        why = {
            "kept by an operator": model.is_kept,
            "has answered guests": model.folder in spoke,
            f"its round is one of the newest {keep_rounds}": model.run.round_id in newest,
            "its round is not finished": model.run.round_id in busy,
            "a current run needs it": model.folder in needed,
            "the newest reward model": judge is not None and judge.checkpoint_id == model.pk,
        }
        found[model.pk] += [reason for reason, holds in why.items() if holds]
    for model in sorted(models, key=lambda each: -each.pk):
        for ancestor in models if found[model.pk] else ():
            if _is_made_of(model, ancestor):
                found[ancestor.pk].append(f"{model.name} was made from it")
    return found


def _that_answered(project: Project) -> QuerySet[Policy]:
    """Policies that speak to guests, or did: the way back may lead to them."""
    speaks = Q(state__in=[Policy.State.LIVE, Policy.State.CHALLENGER])
    spoke = Q(promotions__act__in=[Promotion.Act.PROMOTE, Promotion.Act.CHALLENGE])
    return project.policies.filter(speaks | spoke)


def _is_made_of(model: Checkpoint, other: Checkpoint) -> bool:
    """Directly: of the earlier stages of its round, of the reward model it was launched with, and
    of its base."""
    round = model.run.round
    if round is None:
        return False
    is_earlier = other.run.round_id == round.pk and other.run.position < model.run.position
    is_teacher = hasattr(other, "reward_model") and other.reward_model.pk == round.reward_model_id
    return is_earlier and other.epoch is None or is_teacher or other.folder == round.base.folder


def _folders_needed(project: Project, busy: Iterable[int]) -> Iterator[str]:
    """Of policies and reward models that work which has not ended starts from or samples."""
    rounds = Round.objects.filter(pk__in=busy)
    yield from rounds.values_list("base__folder", flat=True)
    taught = rounds.exclude(reward_model=None)
    yield from taught.values_list("reward_model__checkpoint__folder", flat=True)
    for config in Run.objects.of_project(project).not_over().values_list("config", flat=True):
        speakers = project.policies.filter(pk__in=config.get("policies", []))
        yield from speakers.values_list("folder", flat=True)
        judges = RewardModel.objects.filter(pk=config.get("reward_model"))
        yield from judges.values_list("checkpoint__folder", flat=True)


def _useless_saves(project: Project) -> Iterator[Checkpoint]:
    """All of runs that have succeeded; of others that stand still, those before the last few."""
    saves = Checkpoint.objects.saves(project).exclude(run__state=Run.State.RUNNING)
    for run, own in groupby(saves.order_by("run", "-step", "-pk"), key=lambda save: save.run):
        kept = 0 if run.state == Run.State.SUCCEEDED else KEEP_SAVES
        yield from list(own)[kept:]


def _sweep(project: Project) -> int:
    """Removes what no row vouches for, except where a worker may be writing. Returns bytes."""
    freed = 0
    # The runs first: what one of these has published by now, it had before it stood still.
    for run in list(Run.objects.of_project(project).exclude(state=Run.State.RUNNING)):
        vouched = set(run.checkpoints.filter(removed_at=None).values_list("folder", flat=True))
        for attempt in range(1, run.lease_token + 1):  # a later one is another worker's
            place = settings.DATA_DIR / run.folder / f"t{attempt}"
            found = [*place.glob("checkpoints/*"), *place.glob("tmp-*"), place / "model"]
            if not any(
                each.startswith(f"{run.folder}/t{attempt}/checkpoints/") for each in vouched
            ):
                found += place.glob("epochs/*")  # whoever goes on from a save takes them over
            for folder in found:
                if folder.is_dir() and str(folder.relative_to(settings.DATA_DIR)) not in vouched:
                    freed += _size(folder)
                    shutil.rmtree(folder)
    return freed


def _path(checkpoint: Checkpoint) -> Path:
    return settings.DATA_DIR / checkpoint.folder


def _size(folder: Path) -> int:
    """Bytes of all files in it."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
