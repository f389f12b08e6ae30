"""Tells one tracker what came of one run, through the tracker's own client.

A script of its own, without Django: a client that hangs, crashes or reads the environment does so
in a process that has neither the database nor the site's secrets. Its argument is a name of
`CLIENTS`; the run comes on standard input, the fields of `Told` as JSON."""

from __future__ import annotations

import json
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

# What MLflow takes at once, and how it may be named and how long it may be
# (https://mlflow.org/docs/latest/rest-api.html#log-batch).
MOST_METRICS, MOST_PARAMS, LONGEST_PARAM = 1000, 100, 500
NOT_IN_NAMES = re.compile(r"[^\w\-. /:]")
MLFLOW_STATES = {"succeeded": "FINISHED", "failed": "FAILED"}


@dataclass(frozen=True)
class Told:
    """A run as trackers see it. `points`: (step, seconds since 1970, {"split/figure": value}),
    ordered by step, each step once."""

    project: str
    id: str
    name: str
    group: str
    kind: str
    url: str
    state: str
    started: float
    ended: float
    config: dict[str, Any]
    summary: dict[str, float]
    points: list[tuple[int, float, dict[str, float]]]


def tell_wandb(told: Told) -> None:
    """Logs to Weights & Biases. A run that was resumed goes on under its id; W&B cannot change
    steps that it has, so only later ones are added."""
    wandb = import_module("wandb")
    run = wandb.init(
        project=told.project,
        id=told.id,
        name=told.name,
        group=told.group,
        job_type=told.kind,
        notes=told.url,
        config={**told.config, "url": told.url},
        allow_val_change=True,
        resume="allow",
    )
    first = run.starting_step
    for step, _, values in told.points:
        if step >= first:
            run.log(values, step=step)
    run.summary.update({**told.summary, "state": told.state})
    run.finish(exit_code=0 if told.state == "succeeded" else 1)


def tell_mlflow(told: Told) -> None:
    """Logs to MLflow, in place of what was logged of the run before."""
    mlflow = import_module("mlflow")
    entities = import_module("mlflow.entities")
    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name(told.project)
    experiment = found.experiment_id if found else client.create_experiment(told.project)
    for earlier in client.search_runs([experiment], f"tags.`feedback_site.run` = '{told.id}'"):
        client.delete_run(earlier.info.run_id)
    tags = {"feedback_site.run": told.id, "mlflow.note.content": told.url, "state": told.state}
    tags |= {"group": told.group, "kind": told.kind}
    run = client.create_run(
        experiment, start_time=int(told.started * 1000), tags=tags, run_name=told.name
    ).info.run_id
    last = told.points[-1][0] if told.points else 0
    summary = {f"summary/{name}": value for name, value in told.summary.items()}
    metrics = [
        entities.Metric(NOT_IN_NAMES.sub("_", name), value, int(time * 1000), step)
        for step, time, values in [*told.points, (last, told.ended, summary)]
        for name, value in values.items()
    ]
    for start in range(0, len(metrics), MOST_METRICS):
        client.log_batch(run, metrics=metrics[start : start + MOST_METRICS])
    params = [
        entities.Param(NOT_IN_NAMES.sub("_", name), str(value)[:LONGEST_PARAM])
        for name, value in told.config.items()
    ]
    for start in range(0, len(params), MOST_PARAMS):
        client.log_batch(run, params=params[start : start + MOST_PARAMS])
    state = MLFLOW_STATES.get(told.state, "KILLED")
    client.set_terminated(run, status=state, end_time=int(told.ended * 1000))


def tell_trackio(told: Told) -> None:
    """Logs to trackio, in place of what this machine has logged of the run before."""
    trackio = import_module("trackio")
    with suppress(ValueError):  # there is no such project yet
        for earlier in trackio.Api().runs(told.project):
            if earlier.name == told.name:
                earlier.delete()
    run = trackio.init(
        project=told.project,
        name=told.name,
        group=told.group,
        config={**told.config, **told.summary, "url": told.url, "state": told.state},
        resume="never",
        # This process is not the trainer.
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    for step, _, values in told.points:
        run.log(values, step=step)
    run.finish()


CLIENTS = {"mlflow": tell_mlflow, "trackio": tell_trackio, "wandb": tell_wandb}


def main() -> None:
    CLIENTS[sys.argv[1]](Told(**json.load(sys.stdin)))


if __name__ == "__main__":
    main()
