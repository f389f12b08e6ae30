"""What a round would take, before it is launched: time, from earlier runs; memory and disk, from
the weights; cost, from the price of a machine hour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from statistics import median
from typing import Any

from django.conf import settings
from django.utils import timezone

from annotate.models import Policy
from rlhf.data.resources import (
    context_of,
    free_disk,
    memory_of_this_machine,
    parameters_of,
)
from rlhf.models.machines import Machine
from rlhf.models.outcomes import snapshot_of
from rlhf.models.runs import Round, Run
from rlhf.rounds.preflight import resources_of
from rlhf.stages import STAGES, TRAININGS

Configs = Mapping[str, Mapping[str, Any]]
EARLIER = 60  # the newest runs of any of the kinds


@dataclass(frozen=True)
class Span:
    """A figure by earlier runs: the median, and the least and the most among them."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class StageEstimate:
    """How many seconds a stage would work, by so many earlier runs; None: there is none."""

    label: str
    seconds: Span | None
    runs: int


@dataclass(frozen=True)
class Estimate:
    stages: list[StageEstimate]
    memory: int  # bytes, of the greediest stage, without activations
    memory_here: int  # bytes
    disk: int  # bytes, of all stages
    disk_free: int  # bytes
    an_hour: float | None  # the price of the machine

    @property
    def unknown(self) -> list[str]:
        """Names the stages that no earlier run says anything about."""
        return [each.label for each in self.stages if each.seconds is None]

    @property
    def seconds(self) -> Span | None:
        """Adds the stages up; None where one of them is unknown."""
        spans = [each.seconds for each in self.stages if each.seconds is not None]
        if not spans or self.unknown:
            return None
        return Span(
            sum(each.low for each in spans),
            sum(each.middle for each in spans),
            sum(each.high for each in spans),
        )

    @property
    def cost(self) -> Span | None:
        """In the currency of the price."""
        if self.seconds is None or self.an_hour is None:
            return None
        hour = self.an_hour / 3600
        span = self.seconds
        return Span(span.low * hour, span.middle * hour, span.high * hour)


def estimate(
    base: Policy, configs: Configs, counts: Mapping[str, int], *, an_hour: float | None = None
) -> Estimate | None:
    """Estimates a round of these stages from a base; None where its folder cannot be read, which
    the checks name. `counts`: see `rlhf.data.counts.count`; `an_hour`: the price of an hour of the
    machine."""
    folder = settings.DATA_DIR / base.folder
    try:
        parameters, (_, layers) = parameters_of(folder), context_of(folder)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    needed = resources_of(parameters, layers, configs)
    return Estimate(
        stages=list(_stages(base, parameters, configs, counts)),
        memory=needed.memory,
        memory_here=memory_of_this_machine(),
        disk=needed.disk,
        disk_free=free_disk(),
        an_hour=an_hour,
    )


@dataclass(frozen=True)
class Left:
    """How many seconds all stages of a round still work, without those of which nothing is
    known."""

    seconds: float
    unknown: list[str]  # these stages

    @property
    def finish(self) -> datetime:
        """When that is, if no stage waits for a machine."""
        return timezone.now() + timedelta(seconds=self.seconds)


def left_of(round: Round, runs: Iterable[Run], under_way: float | None) -> Left | None:
    """Estimates what is left of a round that goes on: `under_way` seconds of the stage that works,
    and of those that wait what earlier runs alike took. None where nothing is known."""
    waiting = {
        run.kind: run.config
        for run in runs
        if run.state == Run.State.QUEUED or (run.state == Run.State.RUNNING and under_way is None)
    }
    found = {kind: _as_before(round.base, kind, config) for kind, config in waiting.items()}
    known = [each for each in found.values() if each is not None]
    if under_way is None and not known:
        return None
    unknown = [STAGES[kind].label for kind, seconds in found.items() if seconds is None]
    return Left(sum(known) + (under_way or 0), unknown)


def seconds_as_before(run: Run) -> float | None:
    """Estimates how long a run that waits will work; None where no earlier one is like it."""
    return _as_before(run.round.base, run.kind, run.config) if run.round else None


def _as_before(base: Policy, kind: str, config: Mapping[str, Any]) -> float | None:
    """By the pace of earlier runs alike, over as many rows as the newest of them had."""
    folder = settings.DATA_DIR / base.folder
    try:
        parameters = parameters_of(folder)
    except (OSError, ValueError, TypeError, AttributeError):
        parameters = 0
    earlier = _on_these_machines(Run.objects.to_go_by([kind])[:EARLIER])
    alike = _alike(earlier, base, kind, config, parameters)
    if not alike:
        return None
    newest, _ = alike[0]
    snapshot = snapshot_of(newest)
    rows = snapshot.counts.get("train", 0) if snapshot else 0
    here = TRAININGS[kind].rows_seen(config["train"], rows) if kind in TRAININGS else 1
    return median(pace for _, pace in alike) * here


def _alike(
    earlier: Iterable[Run], base: Policy, kind: str, config: Mapping[str, Any], parameters: int
) -> list[tuple[Run, float]]:
    """Lists the runs to go by, and the seconds that a row took each."""
    size_of = cache(lambda folder: parameters_of(settings.DATA_DIR / folder))
    return [
        (each, each.worked.total_seconds() / rows)
        for each in earlier
        if each.kind == kind
        and _is_alike(each, base, config, parameters, size_of)
        and (rows := _rows_of(each))
    ]


def _stages(
    base: Policy, parameters: int, configs: Configs, counts: Mapping[str, int]
) -> Iterator[StageEstimate]:
    earlier = _on_these_machines(Run.objects.to_go_by(configs)[:EARLIER])
    for kind, config in configs.items():
        pace = [pace for _, pace in _alike(earlier, base, kind, config, parameters)]
        rows = rows_seen(kind, config, counts)
        found = Span(min(pace), median(pace), max(pace)) if pace else None
        span = found and Span(found.low * rows, found.middle * rows, found.high * rows)
        yield StageEstimate(STAGES[kind].label, span, len(pace))


def rows_seen(kind: str, config: Mapping[str, Any], counts: Mapping[str, int]) -> float:
    """Counts the rows that a stage goes through, by which its time grows; what trains nothing takes
    its time as a whole."""
    if kind not in TRAININGS:
        return 1
    stage = TRAININGS[kind]
    return stage.rows_seen(config["train"], sum(counts[name] for name in stage.counted))


def _rows_of(run: Run) -> float:
    """Counts those that an earlier run went through; 0 where that is not known."""
    if run.kind not in TRAININGS:
        return 1
    snapshot = snapshot_of(run)
    rows = snapshot.counts.get("train", 0) if snapshot else 0
    train = run.config.get("train", {})
    try:
        return TRAININGS[run.kind].rows_seen(train, rows)
    except KeyError:  # of a version that had other fields
        return 0


def _is_alike(
    run: Run, base: Policy, config: Mapping[str, Any], parameters: int, size_of: Any
) -> bool:
    """Of the same base, or of one with as many weights, of which the same ones learnt."""
    if run.round is None:
        return False
    theirs, ours = (each.get("tune", {}).get("mode") for each in (run.config, config))
    other = run.round.base
    is_size = parameters > 0 and bool(other.folder) and size_of(other.folder) == parameters
    return theirs == ours and (other.pk == base.pk or is_size)


def _on_these_machines(runs: Iterable[Run]) -> list[Run]:
    """Those that machines in use now have done; all, where none of them was."""
    every = list(runs)
    if not every:
        return []
    slots = {machine.slot for machine in Machine.objects.in_use()}
    return [run for run in every if run.slot in slots] or every
