"""What works where and what waits, of all projects: they share the machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction

from annotate.models import Project
from rlhf.models.machines import Machine
from rlhf.models.runs import Run


@dataclass(frozen=True)
class Place:
    """A machine, and the run that works there; `is_here`: its worker reports."""

    machine: Machine
    run: Run | None
    is_here: bool

    @property
    def gauges(self) -> list[tuple[str, float, str, float, float]]:
        """Lists (what, share, unit, used, whole) of all it has; sizes are bytes."""
        figures: dict[str, Any] = self.machine.figures
        found = []
        if "cpu" in figures:
            cores = figures["cores"]
            found.append(("CPU", figures["cpu"], "cores", figures["cpu"] * cores, cores))
        for name in ("memory", "disk"):
            if name in figures:
                found.append(_size(name.capitalize(), *figures[name]))
        for gpu in figures.get("gpus", []):
            found.append((f"GPU {gpu['index']}, {gpu['name']}", gpu["load"], "", 0, 0))
            found.append(_size(f"GPU {gpu['index']} memory", *gpu["memory"]))
        return found


def _size(name: str, used: int, whole: int) -> tuple[str, float, str, float, float]:
    return name, used / whole if whole else 0.0, "bytes", used, whole


@dataclass(frozen=True)
class Queue:
    places: list[Place]
    elsewhere: list[Run]  # work at places that nobody reports
    waiting: list[Run]  # in the order in which they start


def queue() -> Queue:
    """Reads what every machine does now, and what waits for one."""
    related = Run.objects.select_related("round", "project", "launched_by")
    running = list(related.filter(state=Run.State.RUNNING).order_by("pk"))
    at = {run.slot: run for run in running}
    present = set(Machine.objects.present())
    machines = list(Machine.objects.in_use())
    places = [Place(each, at.get(each.slot), each.slot in present) for each in machines]
    known = {each.slot for each in machines}
    waiting = list(Run.objects.waiting().select_related("round__base", "project", "launched_by"))
    return Queue(places, [run for run in running if run.slot not in known], waiting)


@transaction.atomic
def move(run: Run, *, by: int) -> bool:
    """Moves a waiting run by so many places, -1 is one forward; the later stages of its round go
    with it. Nothing else changes its order. Returns whether it moved."""
    waiting = [_group(each) for each in Run.objects.waiting()]
    mine = _group(run)
    if mine not in waiting:
        return False
    there = waiting.index(mine) + by
    if not 0 <= there < len(waiting):
        return False
    queued = Run.objects.filter(state=Run.State.QUEUED).order_by("-priority", "pk")
    runs: dict[tuple[str, int], list[int]] = {}
    for each in queued.select_for_update(no_key=True):
        runs.setdefault(_group(each), []).append(each.pk)
    order = [group for group in runs if group != mine]
    order.insert(order.index(waiting[there]) + (by > 0), mine)
    for priority, group in enumerate(reversed(order), start=1):
        Run.objects.filter(pk__in=runs[group]).update(priority=priority)
    return True


def _group(run: Run) -> tuple[str, int]:
    """A round goes as a whole."""
    return ("round", run.round_id) if run.round_id else ("run", run.pk)


def may_name(run: Run, project: Project) -> bool:
    """Tells whether the operators of a project may know what a run is."""
    return run.project_id == project.pk
