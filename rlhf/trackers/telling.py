"""Tells the trackers named in TRACKERS what came of a run, once it stands still.

The database has it all by then, without the steps that were taken again, so a tracker sees each
step once. No training waits for a tracker, and none fails with it: what went wrong is logged and
stands in `Run.tracking`."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from django.conf import settings
from django.db import close_old_connections
from django.urls import reverse

from feedback_site.parent_death import ending_with_parent
from rlhf.models.metrics import Metric
from rlhf.models.runs import Round, Run
from rlhf.rounds.tensorboard import MOST_STEPS, numbers_of, write_folder
from rlhf.stages.stage import SECRETS
from rlhf.trackers import clients
from rlhf.trackers.clients import CLIENTS, Told

logger = logging.getLogger(__name__)

TITLES = {
    "mlflow": "MLflow",
    "tensorboard": "TensorBoard",
    "trackio": "trackio",
    "wandb": "Weights & Biases",
}
PATIENCE = 300.0  # seconds for a client that waits for its server
NOT_YET = "its turn has not come, or the worker left first"

_waiting: SimpleQueue[int] = SimpleQueue()
_starting = Lock()
_teller: Thread | None = None


def missing() -> list[str]:
    """Lists the named trackers whose client is not installed."""
    return [name for name in settings.TRACKERS if name in CLIENTS and find_spec(name) is None]


def tell_soon(run_id: int) -> None:
    """Tells of a run from a thread, one run after another. It ends with the worker."""
    global _teller
    if not settings.TRACKERS:
        return
    _waiting.put(run_id)
    with _starting:
        if _teller is None or not _teller.is_alive():
            _teller = Thread(target=_keep_telling, name="trackers", daemon=True)
            _teller.start()


def _keep_telling() -> None:
    while True:
        run_id = _waiting.get()
        try:
            tell(Run.objects.select_related("project", "round__base").get(pk=run_id))
        except Exception:
            logger.exception("the trackers were not told of run %s", run_id)
        close_old_connections()


def tell(run: Run) -> dict[str, str]:
    """Tells every tracker of a run of a round that stands still. Returns what went wrong with
    each, by its title; empty where nothing did."""
    if not run.round or not run.stands_still or not settings.TRACKERS:
        return {}
    said = dict.fromkeys((TITLES[name] for name in settings.TRACKERS), NOT_YET)
    _note(run, said)
    for name in settings.TRACKERS:
        said[TITLES[name]] = why = _tell_one(name, run, run.round)
        if why:
            logger.warning("%s was not told of %s: %s", TITLES[name], run, why)
        _note(run, said)
    return said


def _note(run: Run, said: dict[str, str]) -> None:
    Run.objects.filter(pk=run.pk).update(tracking=said)


def _tell_one(name: str, run: Run, round: Round) -> str:
    """Returns what went wrong."""
    try:
        if name == "tensorboard":
            write_folder(run, settings.DATA_DIR / "tensorboard" / run.project.slug)
            return ""
        return _in_a_process(name, told_of(run, round))
    except OSError as error:
        return str(error)


def told_of(run: Run, round: Round) -> Told:
    """Gathers what a tracker is told: figures and the recipe, no text that people wrote."""
    url = settings.SITE_URL + reverse("rounds_show", args=[run.project.slug, round.number])
    started, ended = run.started_at or run.created_at, run.ended_at or run.created_at
    return Told(
        project=run.project.slug,
        id=f"run-{run.pk}",
        name=f"round-{round.number}-{run.kind}-{run.pk}",
        group=f"round-{round.number}",
        kind=run.kind,
        url=url,
        state=run.state,
        started=started.timestamp(),
        ended=ended.timestamp(),
        config={
            "recipe": round.recipe,
            "base": round.base.name,
            "seed": run.seed,
            **run.config.get("train", {}),
        },
        summary={name: float(v) for name, v in run.summary.items() if _is_figure(v)},
        points=_points(run),
    )


def _points(run: Run) -> list[tuple[int, float, dict[str, float]]]:
    found: dict[int, tuple[float, dict[str, float]]] = {}
    for split in Metric.objects.splits_of(run):
        rows = Metric.objects.thinned(run, splits=[split], most=MOST_STEPS)
        for row in rows.in_split(split).iterator():
            values = {f"{split}/{name}": value for name, value in numbers_of(row).items()}
            time, others = found.get(row.step, (0.0, {}))
            found[row.step] = max(time, row.time.timestamp()), others | values
    return [(step, *found[step]) for step in sorted(found) if found[step][1]]


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _in_a_process(name: str, told: Told) -> str:
    folder = settings.DATA_DIR / "trackers"  # what a client keeps beside it lands here
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-P", clients.__file__, name]
    with subprocess.Popen(
        ending_with_parent(command, stop_signal=signal.SIGKILL),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=folder,
        env={each: value for each, value in os.environ.items() if each not in SECRETS},
        start_new_session=True,
    ) as process:
        try:
            _, errors = process.communicate(json.dumps(asdict(told)).encode(), PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return f"no answer for {PATIENCE:.0f} seconds"
    return _last_line(errors) if process.returncode else ""


def _last_line(errors: bytes) -> str:
    lines = errors.decode(errors="replace").replace("\x00", "").strip().splitlines()
    return lines[-1].strip()[:500] if lines else "its client ended and said nothing"
